# portchecksum.tcl: compares the distfiles with what the Portfile says of them.

namespace eval portchecksum {
	variable types {sha256 rmd160 size sha1 md5 blake3}
	variable secure {sha256 rmd160 blake3}
}

set org.macports.checksum [target_new org.macports.checksum portchecksum::checksum_main]
target_provides ${org.macports.checksum} checksum
target_requires ${org.macports.checksum} main fetch
target_prerun ${org.macports.checksum} portchecksum::checksum_start

options checksums checksum.skip
default checksums {}
default checksum.skip no

# file -> list of type, value; both forms: with file names, and without where there is one file.
proc portchecksum::parse {} {
	variable types
	set words [option checksums]
	set files [lmap entry [portfetch::wanted] {portfetch::name_of [lindex $entry 0]}]
	set result [dict create]
	if {![llength $words]} {
		return $result
	}
	set current ""
	if {[lindex $words 0] in $types} {
		if {[llength $files] > 1} {
			return -code error "checksums does not say which file it means: [join $files {, }] are fetched"
		}
		set current [lindex $files 0]
	}
	while {[llength $words]} {
		set words [lassign $words word]
		if {$word in $types} {
			if {![llength $words] || $current eq ""} {
				return -code error "checksums: there is no value after $word"
			}
			set words [lassign $words value]
			dict lappend result $current $word $value
		} elseif {[llength $words] >= 2 && [lindex $words 0] in $types} {
			set current $word
		} else {
			return -code error "checksums: \"$word\" is neither a type ([join $types {, }]) nor a file with checksums"
		}
	}
	return $result
}

proc portchecksum::checksum_start {args} {
	ui_notice "--->  Verifying checksums for [option subport]"
}

proc portchecksum::checksum_main {args} {
	global distpath
	variable secure
	if {[tbool checksum.skip]} {
		return
	}
	set given [portchecksum::parse]
	set problems {}
	foreach entry [portfetch::wanted] {
		set name [portfetch::name_of [lindex $entry 0]]
		set path [file join $distpath $name]
		if {![file isfile $path]} {
			return -code error "$name is not in $distpath: fetch it again"
		}
		if {![dict exists $given $name]} {
			lappend problems "no checksum set for $name: add  checksums $name rmd160 [hash_file rmd160 $path]\
				sha256 [hash_file sha256 $path] size [hash_file size $path]  when you trust the file in $distpath"
			continue
		}
		set is_secure 0
		foreach {type value} [dict get $given $name] {
			if {$type in $secure} {
				set is_secure 1
			}
			set actual [hash_file $type $path]
			if {![string equal -nocase $actual $value]} {
				lappend problems "checksum ($type) mismatch for $name: Portfile says $value, $path has $actual; remove\
					the file to fetch it again, or correct the Portfile"
				break
			}
			ui_debug "Correct ($type) checksum for $name"
		}
		if {!$is_secure} {
			ui_warn "checksums of $name are of weak types only: add rmd160 and sha256"
		}
	}
	if {[llength $problems]} {
		return -code error [join $problems "; "]
	}
}
