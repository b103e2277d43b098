# portclean.tcl: removes what building a port left behind.
#
#   port clean foo             the work directory
#   port clean --dist foo      the distfiles, too            port clean --archive foo   the archives, too
#   port clean --all foo       everything of these

namespace eval portclean {}

set org.macports.clean [target_new org.macports.clean portclean::clean_main]
target_provides ${org.macports.clean} clean
target_requires ${org.macports.clean} main
target_prerun ${org.macports.clean} portclean::clean_start
target_state ${org.macports.clean} no

proc portclean::clean_start {args} {
	global subport
	ui_notice "--->  Cleaning $subport"
}

proc portclean::clean_main {args} {
	if {[tbool ports_clean_all] || [tbool ports_clean_dist]} {
		portclean::clean_dist
	}
	if {[tbool ports_clean_all] || [tbool ports_clean_archive]} {
		portclean::clean_archive
	}
	portclean::clean_work
	return 0
}

proc portclean::clean_work {} {
	global workpath subport
	# The state file in it may be open (locked) for this very run.
	portutil::close_state
	if {![file isdirectory $workpath]} {
		ui_debug "No work directory found to remove at $workpath"
		return
	}
	ui_info "--->  Removing work directory for $subport"
	portclean::remove $workpath
	# The directory of the Portfile's builds, where it was the last one.
	catch {file delete -- [file dirname $workpath]}
}

# Distfiles of the port, and their directory once it is empty: other ports may have theirs in it.
proc portclean::clean_dist {} {
	global distpath subport
	ui_info "--->  Removing distfiles for $subport"
	set count 0
	foreach option {distfiles patchfiles} {
		if {![exists $option]} {
			continue
		}
		foreach entry [option $option] {
			set file [file join $distpath [file tail [regsub {:[^:/]+$} $entry ""]]]
			if {[file isfile $file]} {
				ui_debug "Removing file: $file"
				portclean::remove $file
				incr count
			}
		}
	}
	ui_debug "$count distfile(s) removed."
	if {$count > 0} {
		catch {file delete -- $distpath}
	}
}

proc portclean::clean_archive {} {
	global subport
	ui_info "--->  Removing archives for $subport"
	set root [file rootname [portinstall::image]]
	foreach type {tbz2 tar.zst} {
		set file [file join [option archive.fulldestpath] [regsub {\.tar$} $root ""].$type]
		if {[file isfile $file]} {
			ui_debug "Removing archive: $file"
			portclean::remove $file
		}
	}
}

proc portclean::remove {path} {
	if {[catch {file delete -force -- $path} message]} {
		return -code error "cannot remove $path: [portutil::short_reason $message]"
	}
}
