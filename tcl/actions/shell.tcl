# shell.tcl: port shell NAME ?--phase PHASE?, and the line that names it where a phase failed.

# Takes --phase out of the words.
proc port::shell_options {words} {
	variable options
	set rest {}
	set words [lmap word $words {expr {[string match --phase=* $word] ? [list --phase [string range $word 8 end]] : [list $word]}}]
	set words [concat {*}$words]
	for {set i 0} {$i < [llength $words]} {incr i} {
		if {[lindex $words $i] ne "--phase"} {
			lappend rest [lindex $words $i]
			continue
		}
		if {[lindex $words [incr i]] eq ""} {
			return -code error "--phase needs the name of a phase: port shell NAME --phase build"
		}
		dict set options shell_phase [lindex $words $i]
	}
	return $rest
}

proc port::action::shell {ports} {
	return [port::shell $ports]
}

proc port::shell {ports} {
	if {![llength $ports] && [file isfile [file join [pwd] Portfile]]} {
		set ports [list [anonymous]]
	}
	if {[llength $ports] != 1} {
		return -code error -errorcode {PORT USAGE} "port shell takes one port: port -t shell NAME \[--phase PHASE\]"
	}
	set port [lindex $ports 0]
	dict with port {}
	if {$portdir eq ""} {
		set portdir [find $name]
	}
	set worker [open_port $portdir $name $variants $options]
	try {
		check_variants $worker $variants
		set before [worker_eval $worker portutil::state_variants]
		if {![llength $variants] && [llength $before]} {
			close_port $worker
			set worker [open_port $portdir $name $before $options 1]
		}
		return [worker_eval $worker [list portutil::shell [opt shell_phase]]]
	} trap {PORT NOTHING BUILT} message {
		return -code error "$message; [command_line $worker build] makes one"
	} finally {
		close_port $worker
	}
}

# The command line that enters the work directory where a phase failed, to be pasted.
proc port::shell_line {worker phase} {
	return [command_line $worker shell --phase $phase]
}

# The command line of an action on the same port in the same way, to be pasted.
proc port::command_line {worker action args} {
	set words {}
	if {[worker_eval $worker {tbool ports_trace}]} {
		lappend words -t
	}
	if {[opt sdk] ne ""} {
		lappend words --with-trace-sdk=[opt sdk]
	}
	set portdir [worker_option $worker portpath]
	set name [worker_option $worker subport]
	if {([opt portdir] ne "" && [file normalize [opt portdir]] eq $portdir) || [catch {find $name} found] || $found ne $portdir} {
		lappend words -D $portdir
	}
	lappend words $action $name
	dict for {variant sign} [worker_eval $worker {set ::portutil::asked_variants}] {
		lappend words $sign$variant
	}
	dict for {key value} [worker_eval $worker {set ::portutil::user_options}] {
		lappend words $key=$value
	}
	return [::host::command_line [concat $words $args]]
}
