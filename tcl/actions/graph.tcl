# graph.tcl: what ports need of each other, for commands that work on many of them. No action of the user's.

# The names of all ports of the trees, subports too; of a Portfile that cannot be read its directory's name.
proc port::all_names {} {
	set names {}
	set directories [all_directories]
	foreach directory $directories {
		::host::ui_progress "reading the ports tree: [incr read] of [llength $directories]"
		lappend names [file tail $directory]
		if {[catch {open_port $directory "" {} {}} worker]} {
			continue
		}
		foreach subport [worker_eval $worker {set ::portutil::subports}] {
			lappend names $subport
			remember [string tolower $subport] $directory
		}
		close_port $worker
	}
	return [lsort -unique $names]
}

# NAMES and all that they need: a list of dicts with the keys name, portdir ("": no tree has it), version, needs
# (type and port by turns, without what the base system satisfies) and error.
proc port::graph {names} {
	variable found
	# Once, and not for each name.
	foreach directory [all_directories] {
		set key [string tolower [file tail $directory]]
		if {![dict exists $found $key]} {
			remember $key $directory
		}
	}
	set rows {}
	set seen [dict create]
	set todo $names
	while {[llength $todo]} {
		set todo [lassign $todo name]
		if {[dict exists $seen [string tolower $name]]} {
			continue
		}
		dict set seen [string tolower $name] 1
		::host::ui_progress "reading what the ports need: [dict size $seen], [llength $todo] to come"
		set row [graph_row $name]
		lappend rows $row
		foreach {type needed} [dict get $row needs] {
			lappend todo $needed
		}
	}
	return $rows
}

proc port::graph_row {name} {
	set row [dict create name $name portdir "" version "" needs {} error ""]
	if {[catch {find $name} directory]} {
		return [dict replace $row error $directory]
	}
	dict set row portdir $directory
	if {[catch {open_port $directory $name {} {}} worker]} {
		return [dict replace $row error $worker]
	}
	try {
		dict set row name [worker_option $worker subport]
		dict set row version [worker_option $worker version]_[worker_option $worker revision]
		foreach {type spec} [worker_eval $worker portutil::declared] {
			if {![worker_eval $worker [list portutil::is_satisfied $spec]]} {
				dict lappend row needs [string range $type [string length depends_] end] [lindex [split $spec :] end]
			}
		}
	} finally {
		close_port $worker
	}
	return $row
}
