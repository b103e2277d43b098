# portdeactivate.tcl: the files of an active port leave the prefix; its image stays.

namespace eval portdeactivate {}

set org.macports.deactivate [target_new org.macports.deactivate portdeactivate::deactivate_main]
target_provides ${org.macports.deactivate} deactivate
target_requires ${org.macports.deactivate} main
target_state ${org.macports.deactivate} no

# Which version: what the user named, else whichever is active.
proc portdeactivate::deactivate_main {args} {
	global subport
	image_deactivate $subport [expr {[exists ports_specifier] ? [option ports_specifier] : ""}] [tbool ports_force]
	return 0
}
