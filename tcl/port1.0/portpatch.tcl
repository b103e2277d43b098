# portpatch.tcl: applies the patchfiles.

namespace eval portpatch {}

set org.macports.patch [target_new org.macports.patch portpatch::patch_main]
target_provides ${org.macports.patch} patch
target_requires ${org.macports.patch} main fetch checksum extract

commands patch
default patch.dir {${worksrcpath}}
default patch.cmd patch
default patch.pre_args {-t -N -p0}
default patch.args {}
default patch.post_args {}

proc portpatch::patch_main {args} {
	global filespath distpath
	if {![llength [option patchfiles]]} {
		return
	}
	ui_notice "--->  Applying patches to [option subport]"
	foreach file [option patchfiles] {
		set name [portfetch::name_of $file]
		set path [file join $filespath $name]
		if {![file isfile $path]} {
			set path [file join $distpath $name]
		}
		if {![file isfile $path]} {
			return -code error "the patch $name lies neither in $filespath nor in $distpath"
		}
		ui_info "--->  Applying $name"
		set reader [switch -glob -- $name {
			*.gz {string cat "gzip -dc"}
			*.bz2 {string cat "bzip2 -dc"}
			*.xz {string cat "xz -dc"}
			default {}
		}]
		if {$reader ne ""} {
			set failed [catch {command_exec patch "$reader \"$path\" | (" ")"} message details]
		} else {
			set failed [catch {command_exec patch "" "< \"$path\""} message details]
		}
		if {$failed} {
			if {[interrupted]} {
				return -options $details $message
			}
			return -code error "the patch $name does not apply: $message"
		}
	}
}
