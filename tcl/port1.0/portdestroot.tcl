# portdestroot.tcl: installs into the destroot, from which the image is made.

namespace eval portdestroot {}

set org.macports.destroot [target_new org.macports.destroot portdestroot::destroot_main]
target_provides ${org.macports.destroot} destroot
target_requires ${org.macports.destroot} main fetch checksum extract patch configure build
target_prerun ${org.macports.destroot} portdestroot::destroot_start
target_postrun ${org.macports.destroot} portdestroot::destroot_finish

commands destroot
options destroot.target destroot.destdir destroot.clean destroot.keepdirs destroot.umask destroot.violate_mtree \
	destroot.delete_la_files
default destroot.dir {${build.dir}}
default destroot.cmd {${build.cmd}}
default destroot.pre_args {${destroot.target}}
default destroot.args {}
default destroot.post_args {${destroot.destdir}}
default destroot.env {}
default destroot.target install
default destroot.destdir {DESTDIR=${destroot}}
default destroot.nice {[setting buildnicevalue]}
default destroot.umask 022
default destroot.clean no
default destroot.keepdirs {}
default destroot.violate_mtree no
default destroot.delete_la_files no

proc portdestroot::destroot_start {args} {
	global destroot prefix
	ui_notice "--->  Staging [option subport] into destroot"
	if {[tbool destroot.clean] && [file exists $destroot]} {
		delete $destroot
	}
	# Many install rules expect these; those that stay empty are taken away at the end.
	foreach directory {bin etc include lib libexec sbin share share/doc share/man/man1} {
		file mkdir $destroot$prefix/$directory
	}
}

proc portdestroot::destroot_main {args} {
	portbuild::need_program destroot
	command_exec destroot
}

proc portdestroot::destroot_finish {args} {
	global destroot prefix
	set keep [lmap directory [option destroot.keepdirs] {file normalize $directory}]
	foreach directory $keep {
		file mkdir $directory
		# What is kept of a port is its files: this one keeps the directory. MacPorts gives it the same name.
		close [open [file join $directory .turd_[option subport]] a]
	}
	fs-traverse -depth path [list $destroot] {
		if {[file type $path] eq "directory"} {
			if {$path ne $destroot && $path ni $keep && ![portdestroot::has_entries $path]} {
				file delete -- $path
			}
		} elseif {[tbool destroot.delete_la_files] && [string match *.la $path]} {
			file delete -- $path
		}
	}
	if {![portdestroot::has_entries $destroot]} {
		ui_warn "[option subport] installs no files"
	}
}

proc portdestroot::has_entries {directory} {
	foreach pattern {* .*} {
		foreach name [glob -nocomplain -tails -directory $directory -- $pattern] {
			if {$name ni {. ..}} {
				return 1
			}
		}
	}
	return 0
}
