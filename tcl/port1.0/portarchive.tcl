# portarchive.tcl: the destroot as an archive to carry away. The registry and the prefix do not change.

namespace eval portarchive {}

set org.macports.archive [target_new org.macports.archive portarchive::archive_main]
target_provides ${org.macports.archive} archive
target_requires ${org.macports.archive} main fetch checksum extract patch configure build destroot
target_prerun ${org.macports.archive} portarchive::archive_start
target_state ${org.macports.archive} no

# Where archives go: a directory for each platform is not needed, their names say it.
options archive.fulldestpath
default archive.fulldestpath {[file join $portdbpath packages]}

proc portarchive::archive_start {args} {
	global subport
	ui_notice "--->  Packaging $subport @[portinstall::specifier]"
}

proc portarchive::archive_main {args} {
	global subport
	set path [image_archive [portinstall::description] [option archive.fulldestpath]]
	ui_notice "--->  Archive for $subport packed: $path"
	return 0
}
