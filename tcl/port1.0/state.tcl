# state.tcl: the workpath and its state file, which lets a stopped build go on where it stopped.
#
# ${workpath}/.macports.NAME.state, a line for each fact:  version: 2 / checksum: SHA256 of the Portfile /
# variant: +x / target: org.macports.build.  It is written by the real user, not by the build user.

namespace eval portutil {
	variable state_lock ""
}

proc portutil::state_file {} {
	global workpath subport
	return [file join $workpath .macports.$subport.state]
}

proc portutil::create_workpath {} {
	global workpath
	privileges root
	if {[catch {
		file mkdir $workpath [file join $workpath .home] [file join $workpath .tmp]
		file attributes $workpath -permissions 0755
		give_to_build_user $workpath [file join $workpath .home] [file join $workpath .tmp]
	} message]} {
		return -code error -errorcode {PORT WORKPATH} \
			"cannot make the work directory $workpath: [portutil::short_reason $message]; check who owns it, or remove it"
	}
}

# "permission denied" out of Tcl's `can't create directory "x": permission denied`.
proc portutil::short_reason {message} {
	return [lindex [split [string map {": " \x1f} $message] \x1f] end]
}

# Opens (locks) the state of this port; discards a workpath that another Portfile or other variants left.
proc portutil::open_state {} {
	global workpath subport portpath
	variable state_lock
	if {$state_lock ne ""} {
		return
	}
	portutil::create_workpath
	set file [portutil::state_file]
	set checksum [hash_file sha256 [file join $portpath Portfile]]
	if {[catch {set state_lock [lock_file $file]} message]} {
		return -code error -errorcode {PORT WORKPATH} "cannot write $file: $message"
	}
	set known [portutil::state_values checksum]
	if {[llength $known] && [lindex $known 0] ne $checksum && ![tbool ports_ignore_different]} {
		ui_notice "Portfile for $subport changed since last build; discarding previous state."
		unlock_file $state_lock
		set state_lock ""
		file delete -force -- $workpath
		portutil::create_workpath
		set state_lock [lock_file $file]
		set known {}
	}
	if {![llength $known]} {
		portutil::state_add version 2
		# A name for this build, by which the record of what it used is told from that of another.
		portutil::state_add build [pid]-[clock microseconds]
		portutil::state_add checksum $checksum
		foreach {name sign} [option portvariations] {
			portutil::state_add variant $sign$name
		}
		return
	}
	set before [lsort [portutil::state_values variant]]
	set now [lsort [lmap {name sign} [option portvariations] {string cat $sign$name}]]
	if {$before ne $now && [llength [portutil::state_values target]] && ![tbool ports_force]} {
		return -code error "the build in $workpath was started with the variants \"[join $before {}]\", not\
			\"[join $now {}]\": use the same again, or run \"port clean $subport\" first"
	}
}

proc portutil::close_state {} {
	variable state_lock
	if {$state_lock ne ""} {
		unlock_file $state_lock
		set state_lock ""
	}
}

proc portutil::state_values {class} {
	set values {}
	if {[catch {open [portutil::state_file] r} channel]} {
		return $values
	}
	while {[gets $channel line] >= 0} {
		if {[string match "$class: *" $line]} {
			lappend values [string range $line [string length "$class: "] end]
		}
	}
	close $channel
	return $values
}

proc portutil::state_has {class value} {
	return [expr {$value in [portutil::state_values $class]}]
}

proc portutil::state_add {class value} {
	if {[portutil::state_has $class $value]} {
		return
	}
	set channel [open [portutil::state_file] a]
	puts $channel "$class: $value"
	close $channel
}
