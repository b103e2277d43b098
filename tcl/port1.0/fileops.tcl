# fileops.tcl: the file commands of Portfiles.

# system ?-notty? ?-callback PROC? ?-nice N? ?-W DIR? COMMAND
# Runs a shell command with the phase's user and fence; its output goes to the log, and to the user with -v.
proc system {args} {
	set directory [pwd]
	set nice ""
	set callback ""
	while {[llength $args] > 1} {
		switch -exact -- [lindex $args 0] {
			-notty {set args [lrange $args 1 end]}
			-nice {
				set nice [lindex $args 1]
				set args [lrange $args 2 end]
			}
			-callback {
				set callback [lindex $args 1]
				set args [lrange $args 2 end]
			}
			-W {
				set directory [file join $directory [lindex $args 1]]
				set args [lrange $args 2 end]
			}
			default {
				return -code error "system: unknown option [lindex $args 0]: expected -W DIR, -nice N, -notty or -callback PROC"
			}
		}
	}
	if {[llength $args] != 1} {
		return -code error "system takes one command line: system ?-W DIR? \"command args\""
	}
	if {![file isdirectory $directory]} {
		return -code error "system: the directory $directory does not exist"
	}
	set status [spawn $directory $nice [array get ::env] [portutil::launch_words] [lindex $args 0]]
	if {$status != 0} {
		set line [lindex [split [lindex $args 0] \n] 0]
		ui_info "Command failed: $line"
		ui_info "Exit code: $status"
		set reason [expr {$status < 0 ? "killed by signal [expr {-$status}]" : "exit status $status"}]
		return -code error -errorcode [list CHILDSTATUS 0 $status] "command execution failed ($reason): $line"
	}
	return
}

proc portutil::in_source {file} {
	global worksrcpath
	if {[file pathtype $file] eq "absolute"} {
		return $file
	}
	return [file join [expr {[file isdirectory $worksrcpath] ? $worksrcpath : [pwd]}] $file]
}

# xinstall ?-m MODE? ?-o OWNER? ?-g GROUP? ?-W DIR? ?-v? FILE ... TARGET   |   xinstall -d ?-m MODE? DIRECTORY ...
proc xinstall {args} {
	set mode 0755
	set owner ""
	set group ""
	set source_dir ""
	set directories 0
	while {[string match -* [lindex $args 0]]} {
		set args [lassign $args flag]
		switch -exact -- $flag {
			-m - -o - -g - -W - -B - -f {
				set args [lassign $args value]
				switch -exact -- $flag {
					-m {set mode $value}
					-o {set owner $value}
					-g {set group $value}
					-W {set source_dir $value}
				}
			}
			-d {set directories 1}
			-- {break}
			-b - -C - -c - -D - -M - -p - -S - -s - -U - -v {}
			default {
				return -code error "xinstall: unknown option $flag"
			}
		}
	}
	if {[regexp {^[0-7]{3,4}$} $mode]} {
		set mode 0o[string trimleft $mode 0]
		if {$mode eq "0o"} {
			set mode 0o0
		}
	}
	if {$directories} {
		if {![llength $args]} {
			return -code error "xinstall -d: no directory given"
		}
		foreach directory $args {
			file mkdir $directory
			portutil::set_attributes $directory $mode $owner $group
		}
		return
	}
	if {[llength $args] < 2} {
		return -code error "xinstall takes files and a target: xinstall ?-m MODE? FILE ... TARGET"
	}
	set target [lindex $args end]
	set files [lrange $args 0 end-1]
	if {[llength $files] > 1 && ![file isdirectory $target]} {
		return -code error "xinstall: $target is not a directory"
	}
	foreach file $files {
		if {$source_dir ne ""} {
			set file [file join $source_dir $file]
		}
		if {![file isfile $file]} {
			return -code error "xinstall: $file: [expr {[file isdirectory $file] ? "is a directory" : "No such file or directory"}]"
		}
		set to [expr {[file isdirectory $target] ? [file join $target [file tail $file]] : $target}]
		set from [open $file rb]
		# Never write through a link or into a file that runs.
		file delete -- $to
		if {[catch {set into [open $to wb]} message]} {
			close $from
			return -code error "xinstall: $message"
		}
		fcopy $from $into
		close $from
		close $into
		portutil::set_attributes $to $mode $owner $group
	}
	return
}

proc portutil::set_attributes {path mode owner group} {
	# Tcl takes octal, and the ls -l and symbolic forms.
	file attributes $path -permissions $mode
	if {[effective_uid] == 0} {
		if {$owner ne ""} {
			file attributes $path -owner $owner
		}
		if {$group ne ""} {
			file attributes $path -group $group
		}
	}
}

# copy, move: as Tcl's file copy and file rename. delete: whole trees, absent ones too.
proc copy {args} {
	file copy {*}$args
}

proc move {args} {
	file rename {*}$args
}

proc delete {args} {
	foreach path $args {
		ui_debug "delete: $path"
		file delete -force -- $path
	}
}

# touch ?-a? ?-c? ?-m? ?-r FILE? ?-t TIME? FILE ...
proc touch {args} {
	set times [clock seconds]
	set both 1
	set kinds {atime mtime}
	set create 1
	while {[string match -* [lindex $args 0]]} {
		set args [lassign $args flag]
		switch -exact -- $flag {
			-a {set kinds atime}
			-m {set kinds mtime}
			-c {set create 0}
			-r {
				set args [lassign $args reference]
				set times [file mtime $reference]
			}
			-t {
				set args [lassign $args stamp]
				if {![regexp {^(\d\d)?(\d\d)(\d{8})(?:\.(\d\d))?$} $stamp -> century year rest seconds]} {
					if {![regexp {^()()(\d{8})(?:\.(\d\d))?$} $stamp -> century year rest seconds]} {
						return -code error "touch -t: cannot read \"$stamp\": expected \[\[CC]YY]MMDDhhmm\[.SS]"
					}
					set year [clock format [clock seconds] -format %Y]
				} elseif {$century eq ""} {
					set year [expr {$year < 69 ? "20$year" : "19$year"}]
				} else {
					set year $century$year
				}
				if {$seconds eq ""} {
					set seconds 00
				}
				set times [clock scan $year$rest$seconds -format %Y%m%d%H%M%S]
			}
			-- {break}
			default {
				return -code error "touch: unknown option $flag"
			}
		}
	}
	foreach file $args {
		if {![file exists $file]} {
			if {!$create} {
				continue
			}
			close [open $file a]
		}
		foreach kind $kinds {
			file $kind $file $times
		}
	}
}

# ln ?-f? ?-h? ?-n? ?-s? ?-v? SOURCE TARGET
proc ln {args} {
	set symbolic 0
	set force 0
	set keep_link 0
	while {[regexp {^-([fhinsv]+)$} [lindex $args 0] -> letters]} {
		set args [lrange $args 1 end]
		foreach letter [split $letters ""] {
			switch -exact -- $letter {
				s {set symbolic 1}
				f {set force 1}
				h - n {set keep_link 1}
			}
		}
	}
	if {[llength $args] < 1} {
		return -code error "ln takes a source and a target: ln ?-s? ?-f? SOURCE TARGET"
	}
	if {[llength $args] == 1} {
		lappend args [file join [pwd] [file tail [lindex $args 0]]]
	}
	set target [lindex $args end]
	foreach source [lrange $args 0 end-1] {
		set link $target
		if {[file isdirectory $target] && !($keep_link && [file type $target] eq "link")} {
			set link [file join $target [file tail $source]]
		}
		if {![catch {file type $link}]} {
			if {!$force} {
				return -code error "ln: $link: File exists"
			}
			file delete -- $link
		}
		# Not `file link`: it refuses a symbolic link to what does not exist (yet).
		make_link [expr {$symbolic ? "symbolic" : "hard"}] $source $link
	}
	return
}

# reinplace ?-E? ?-n? ?-q? ?-W DIR? ?-locale L? EXPRESSION FILE ...: sed, in place.
proc reinplace {args} {
	set flags {}
	set quiet 0
	set locale C
	set directory ""
	while {[string match -* [lindex $args 0]]} {
		set args [lassign $args flag]
		switch -exact -- $flag {
			-E - -r {lappend flags -E}
			-n {lappend flags -n}
			-q {set quiet 1}
			-W {set args [lassign $args directory]}
			-locale {set args [lassign $args locale]}
			-- {break}
			default {
				return -code error "reinplace: unknown option $flag: expected -E, -n, -q, -W DIR or -locale NAME"
			}
		}
	}
	set files [lassign $args expression]
	if {![llength $files]} {
		return -code error "reinplace takes an expression and files: reinplace ?-E? ?-n? ?-W DIR? EXPRESSION FILE ..."
	}
	foreach file $files {
		set path [expr {$directory ne "" ? [file join [portutil::in_source $directory] $file] : [portutil::in_source $file]}]
		if {![file isfile $path]} {
			return -code error "reinplace: $path: No such file or directory"
		}
		set status [sed_in_place [portutil::launch_words] $flags $locale $expression $path]
		if {$status eq "unchanged" && !$quiet} {
			ui_warn "reinplace $expression didn't change anything in $path"
		}
	}
	return
}

# fs-traverse ?-depth? VARIABLE DIRECTORIES BODY: each path below, parents before children (or after, with -depth).
proc fs-traverse {args} {
	set depth 0
	while {[string match -* [lindex $args 0]]} {
		set args [lassign $args flag]
		if {$flag eq "-depth"} {
			set depth 1
		}
	}
	lassign $args name roots body
	upvar 1 $name path
	foreach root $roots {
		foreach path [portutil::tree $root $depth] {
			uplevel 1 $body
		}
	}
}

proc portutil::tree {root depth} {
	set below {}
	if {[file isdirectory $root] && [file type $root] ne "link"} {
		set names {}
		foreach pattern {* .*} {
			foreach name [glob -nocomplain -tails -directory $root -- $pattern] {
				if {$name ni {. ..}} {
					lappend names $name
				}
			}
		}
		foreach name [lsort -unique $names] {
			lappend below {*}[portutil::tree [file join $root $name] $depth]
		}
	}
	return [expr {$depth ? [concat $below [list $root]] : [concat [list $root] $below]}]
}

proc ldelete {list value} {
	return [lsearch -all -inline -not -exact $list $value]
}

# Whether a program is there: its path, else "".
proc binaryInPath {program} {
	foreach directory [split $::env(PATH) :] {
		set file [file join $directory $program]
		if {[file isfile $file] && [file executable $file]} {
			return $file
		}
	}
	return -code error "$program: not found in [join [split $::env(PATH) :] {, }]"
}

proc findBinary {program {fixed ""}} {
	if {$fixed ne "" && [file executable $fixed]} {
		return $fixed
	}
	return [binaryInPath $program]
}

# ---- Tcl's own ways to start a program -------------------------------------------------------------------------
#
# Where only the effective ids are lowered, a child of exec and open| would have root as its real user, and could
# take it back. In a traced phase the package porttrace stands in front of both commands and does this itself.

rename exec portutil::tcl_exec
rename open portutil::tcl_open

proc exec {args} {
	if {!$portutil::tracing} {
		set args [portutil::with_ids $args]
	}
	tailcall portutil::tcl_exec {*}$args
}

proc open {name args} {
	if {!$portutil::tracing && [string index $name 0] eq "|"} {
		set name |[portutil::with_ids [string range $name 1 end]]
	}
	tailcall portutil::tcl_open $name {*}$args
}

# A pipeline's words, with the launcher before each of its commands.
proc portutil::with_ids {words} {
	set launcher [id_words]
	if {![llength $launcher]} {
		return $words
	}
	set result {}
	while {[string match -* [lindex $words 0]]} {
		set words [lassign $words flag]
		lappend result $flag
		if {$flag eq "--"} {
			break
		}
	}
	set first 1
	foreach word $words {
		if {$first} {
			lappend result {*}$launcher
			set first 0
		}
		lappend result $word
		if {$word in {| |&}} {
			set first 1
		}
	}
	return $result
}
