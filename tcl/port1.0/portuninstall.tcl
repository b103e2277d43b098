# portuninstall.tcl: an installed port is deactivated and forgotten, and its image removed.

namespace eval portuninstall {}

set org.macports.uninstall [target_new org.macports.uninstall portuninstall::uninstall_main]
target_provides ${org.macports.uninstall} uninstall
target_requires ${org.macports.uninstall} main
target_state ${org.macports.uninstall} no

proc portuninstall::uninstall_main {args} {
	global subport
	image_uninstall $subport [expr {[exists ports_specifier] ? [option ports_specifier] : ""}] [tbool ports_force]
	return 0
}
