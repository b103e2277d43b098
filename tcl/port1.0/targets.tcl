# targets.tcl: the phases of a port and the order in which they run.

namespace eval portutil {
	variable items [dict create]
	variable order {}
	# Bodies of Portfile blocks: procedure -> {file line}, so that an error in one names its place.
	variable body_places [dict create]
	variable body_count 0
	variable current_phase main
}

# Makes a target; PROC runs when the target does.
proc target_new {name procedure} {
	dict set portutil::items $name [dict create name $name procedure $procedure provides {} requires {} uses {} \
		pre {} post {} state yes runtype once root no]
	lappend portutil::order $name
	return $name
}

proc portutil::item_set {key item args} {
	variable items
	dict set items $item $key [lindex $args 0]
}

proc portutil::item_append {key item args} {
	variable items
	dict set items $item $key [concat [dict get $items $item $key] $args]
}

foreach portutil::key {prerun postrun init state runtype root runpkg} {
	interp alias {} target_$portutil::key {} portutil::item_set $portutil::key
}
foreach portutil::key {requires uses deplist} {
	interp alias {} target_$portutil::key {} portutil::item_append [string map {deplist requires uses requires} $portutil::key]
}
unset portutil::key

proc ditem_key {item key args} {
	if {[llength $args]} {
		dict set portutil::items $item $key [lindex $args 0]
	}
	if {![dict exists $portutil::items $item $key]} {
		return ""
	}
	return [dict get $portutil::items $item $key]
}

# Names a target for Portfiles: the commands NAME {..}, pre-NAME {..}, post-NAME {..} and do-NAME exist afterwards.
proc target_provides {item args} {
	portutil::item_append provides $item {*}$args
	foreach name $args {
		interp alias {} pre-$name {} portutil::block pre $item
		interp alias {} post-$name {} portutil::block post $item
		if {$name ne "load"} {
			# Tcl's own load is what packages are loaded with
			interp alias {} $name {} portutil::block main $item
		}
		set procedure [dict get $portutil::items $item procedure]
		proc ::do-$name {args} [list $procedure $item]
	}
}

# A block of a Portfile for a phase: `pre-build {...}`. It runs in a procedure that sees every global.
proc portutil::block {kind item args} {
	variable items
	if {[llength $args] != 1} {
		set name [lindex [dict get $items $item provides] 0]
		set keyword [expr {$kind eq "main" ? $name : "$kind-$name"}]
		return -code error "$keyword takes one block: $keyword { ... }"
	}
	set procedure [portutil::make_body [lindex $args 0] [portutil::place]]
	if {$kind eq "main"} {
		dict set items $item procedure $procedure
	} else {
		portutil::item_append $kind $item $procedure
	}
	return
}

# Makes a procedure out of a block; `name` in it is the option, not an argument.
proc portutil::make_body {body place} {
	variable body_places
	variable body_count
	set procedure ::portutil::body[incr body_count]
	proc $procedure {args} "unset args; portutil::link_globals; $body"
	dict set body_places $procedure $place
	return $procedure
}

proc portutil::link_globals {} {
	uplevel 1 [list global {*}[info globals]]
}

# ---- where in a Portfile --------------------------------------------------------------------------------------

# {file line} of the Portfile (or PortGroup) command that is being evaluated; {"" 0} where none is.
proc portutil::place {} {
	variable body_places
	for {set level [expr {[info frame] - 1}]} {$level > 0} {incr level -1} {
		set frame [info frame $level]
		switch -exact -- [dict get $frame type] {
			source {
				if {[portutil::is_portfile [dict get $frame file]]} {
					return [list [dict get $frame file] [dict get $frame line]]
				}
			}
			proc {
				if {[dict exists $frame proc] && [dict exists $body_places [dict get $frame proc]]} {
					lassign [dict get $body_places [dict get $frame proc]] file line
					return [list $file [expr {$line + [dict get $frame line] - 1}]]
				}
			}
		}
	}
	return [list "" 0]
}

proc portutil::is_portfile {file} {
	return [expr {[file dirname [file normalize $file]] ne $portutil::directory}]
}

# The place that an error names, from its trace: the outermost line of a Portfile or of one of its blocks.
proc portutil::error_place {trace} {
	variable body_places
	foreach line [split $trace \n] {
		if {[regexp {\(procedure "(.*)" line (\d+)\)} $line -> procedure number]} {
			if {![string match ::* $procedure]} {
				set procedure ::$procedure
			}
			if {[dict exists $body_places $procedure]} {
				lassign [dict get $body_places $procedure] file start
				return [list $file [expr {$start + $number - 1}]]
			}
		} elseif {[regexp {\(file "(.*)" line (\d+)\)} $line -> file number] && [portutil::is_portfile $file]} {
			return [list $file $number]
		}
	}
	return [list "" 0]
}

# ---- running ----------------------------------------------------------------------------------------------------

# The items that a target needs, itself last, each once, in an order in which they can run.
proc portutil::closure_of {item {seen {}}} {
	variable items
	variable order
	set result {}
	foreach needed [dict get $items $item requires] {
		foreach candidate $order {
			if {$needed in [dict get $items $candidate provides] && $candidate ne $item} {
				foreach one [portutil::closure_of $candidate] {
					if {$one ni $result} {
						lappend result $one
					}
				}
			}
		}
	}
	lappend result $item
	return $result
}

proc portutil::item_named {target} {
	variable items
	variable order
	foreach item $order {
		if {$target in [dict get $items $item provides]} {
			return $item
		}
	}
	return -code error "unknown target: $target"
}

# Whether a Portfile or PortGroup has said something of a target.
proc portutil::has_blocks {target} {
	variable items
	set item [dict get $items [portutil::item_named $target]]
	return [expr {[llength [dict get $item pre]] || [llength [dict get $item post]]
		|| [string match ::portutil::body* [dict get $item procedure]]}]
}

# Runs a target and those that it requires. Returns 0, or 1 after the message of the one that failed.
proc eval_targets {target} {
	global subport
	if {$target eq "activate" && [registry_is_active $subport [option version] [option revision] [option portvariants]]} {
		ui_debug "Skipping activate ($subport): this version is active"
		return 0
	}
	set wanted [portutil::item_named $target]
	set todo [portutil::closure_of $wanted]
	if {$target in {install activate} \
			&& [registry_is_installed $subport [option version] [option revision] [option portvariants]]} {
		# An image of exactly this port is there: nothing has to be built.
		set todo [expr {$target eq "install" ? {} : [list $wanted]}]
	}
	if {$target in {install activate} && $::portinstall::archive ne ""} {
		# The archive stands for everything up to the destroot.
		set todo [list [portutil::item_named install]]
		if {$target eq "activate"} {
			lappend todo $wanted
		}
	}
	set result 0
	foreach item $todo {
		set result [target_run $item]
		if {$result} {
			break
		}
	}
	portutil::close_state
	privileges root
	return $result
}

# Phases that work on prefix and registry; all others run as the unprivileged user.
proc portutil::needs_root {item} {
	variable items
	set target [lindex [dict get $items $item provides] 0]
	if {[dict get $items $item root]} {
		return 1
	}
	if {$target in {main archive install activate deactivate uninstall clean load unload reload}} {
		return 1
	}
	return [tbool $target.asroot]
}

# Home and temporary files of a phase lie in the workpath.
proc portutil::set_phase_environment {} {
	global env workpath
	set env(HOME) [file join $workpath .home]
	set env(TMPDIR) [file join $workpath .tmp]
}

proc target_run {item} {
	global env subport
	variable ::portutil::current_phase
	set target [lindex [dict get $portutil::items $item provides] 0]
	set stateful [expr {[dict get $portutil::items $item state] ne "no"}]
	set saved_env [array get env]
	set result 0
	set message ""
	set details {}
	if {[catch {
		if {$stateful} {
			portutil::open_state
		}
		privileges [expr {[portutil::needs_root $item] ? "root" : "build"}]
		if {$stateful} {
			portutil::set_phase_environment
		}
		set init [ditem_key $item init]
		if {$init ne ""} {
			uplevel #0 [list $init $item]
		}
		if {$stateful && [portutil::state_has target $item]} {
			ui_debug "Skipping completed $item ($subport)"
		} else {
			set current_phase $target
			log_phase $target
			portutil::run_procedures $item $target
			if {$stateful && [dict get $portutil::items $item runtype] ne "always"} {
				privileges root
				portutil::state_add target $item
			}
		}
	} message details]} {
		set result 1
	}
	privileges root
	array unset env *
	array set env $saved_env
	set current_phase main
	if {$result} {
		portutil::note_failure $target
		if {[interrupted]} {
			ui_error "Stopped while running $target of $subport; the next start resumes there"
		} else {
			lassign [portutil::error_place [dict get $details -errorinfo]] file line
			set where [expr {$file ne "" ? " ($file:$line)" : ""}]
			set message [regsub {^can't (set|read|unset) "[^"]*": } $message ""]
			ui_error "Failed to $target $subport: $message$where"
		}
		ui_debug "Error code: [dict get $details -errorcode]"
		ui_debug "Backtrace: [dict get $details -errorinfo]"
	}
	log_phase main
	return $result
}

# The blocks of one target, inside a trace session where trace mode is on.
proc portutil::run_procedures {item target} {
	global subport portdbpath
	set prerun [ditem_key $item prerun]
	cd [expr {[file isdirectory $portdbpath] ? $portdbpath : "/"}]
	if {$prerun ne ""} {
		uplevel #0 [list $prerun $item]
	}
	set tracing [expr {[tbool ports_trace] && $target ni {main clean uninstall load unload reload}}]
	if {$tracing} {
		portutil::trace_begin $target
	}
	set failed [catch {
		foreach procedure [ditem_key $item pre] {
			ui_debug "Executing $procedure"
			uplevel #0 [list $procedure $item]
		}
		ui_debug "Executing $target ($subport)"
		uplevel #0 [list [ditem_key $item procedure] $item]
		foreach procedure [ditem_key $item post] {
			ui_debug "Executing $procedure"
			uplevel #0 [list $procedure $item]
		}
	} message details]
	cd [expr {[file isdirectory $portdbpath] ? $portdbpath : "/"}]
	if {$tracing} {
		if {[catch {portutil::trace_end $target} trace_message trace_details] && !$failed} {
			set failed 1
			set message $trace_message
			set details $trace_details
		}
	}
	if {$failed} {
		return -options $details $message
	}
	set postrun [ditem_key $item postrun]
	if {$postrun ne ""} {
		uplevel #0 [list $postrun $item]
	}
}
