# portactivate.tcl: the files of an installed port come into the prefix.

namespace eval portactivate {}

set org.macports.activate [target_new org.macports.activate portactivate::activate_main]
target_provides ${org.macports.activate} activate
target_requires ${org.macports.activate} main install
target_state ${org.macports.activate} no

proc portactivate::activate_main {args} {
	global subport
	image_activate $subport [portinstall::specifier] [tbool ports_force]
	portactivate::show_notes
	return 0
}

# What the port has to say to whoever installed it.
proc portactivate::show_notes {} {
	global subport
	if {![exists notes]} {
		return
	}
	set text [string trim [join [option notes]] \n]
	if {$text ne ""} {
		ui_notice "--->  $subport has the following notes:"
		foreach line [split $text \n] {
			ui_notice "    $line"
		}
	}
}
