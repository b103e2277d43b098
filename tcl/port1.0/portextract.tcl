# portextract.tcl: unpacks the distfiles into the workpath.

namespace eval portextract {
	# keyword -> suffix, program, its arguments, what follows the file
	variable methods {
		use_bzip2 {.tar.bz2 bzip2 -dc tar}
		use_lzma {.tar.lzma lzma -dc tar}
		use_tar {.tar tar -xf ""}
		use_zip {.zip unzip -q -d}
		use_7z {.7z 7za x ""}
		use_lzip {.tar.lz lzip -dc tar}
		use_xz {.tar.xz xz -dc tar}
		use_zstd {.tar.zst zstd -dc tar}
		gzip {.tar.gz gzip -dc tar}
	}
}

set org.macports.extract [target_new org.macports.extract portextract::extract_main]
target_provides ${org.macports.extract} extract
target_requires ${org.macports.extract} main fetch checksum
target_prerun ${org.macports.extract} portextract::extract_start

options extract.only extract.mkdir extract.rename extract.suffix extract.add_deps
commands extract
default extract.only {[lmap f $distfiles {portfetch::name_of $f}]}
default extract.dir {${workpath}}
default extract.mkdir no
default extract.rename no
default extract.suffix .tar.gz
default extract.cmd {[portextract::part 1]}
default extract.pre_args {[portextract::part 2]}
default extract.post_args {[portextract::part 3]}
default extract.args {}

foreach portextract::keyword [dict keys $portextract::methods] {
	if {$portextract::keyword ne "gzip"} {
		options $portextract::keyword
		option_proc $portextract::keyword portextract::set_suffix
	}
}
unset portextract::keyword

proc portextract::set_suffix {option action {value ""}} {
	variable methods
	if {$action eq "set"} {
		default extract.suffix [expr {[string is true -strict $value] ? [lindex [dict get $methods $option] 0] : ".tar.gz"}]
	}
}

# Program, arguments and rest of the command line that unpacks the present suffix.
proc portextract::part {index} {
	variable methods
	set suffix [join [option extract.suffix]]
	set record [dict get $methods gzip]
	dict for {keyword candidate} $methods {
		if {[lindex $candidate 0] eq $suffix || [portextract::same $suffix [lindex $candidate 0]]} {
			set record $candidate
			break
		}
	}
	set value [lindex $record $index]
	if {$index == 3} {
		switch -exact -- $value {
			tar {return "| tar --no-same-owner -xf -"}
			-d {return "-d [list [option extract.dir]]"}
		}
	}
	return $value
}

proc portextract::same {suffix canonical} {
	set short {.tgz .tar.gz .tbz .tar.bz2 .tbz2 .tar.bz2 .txz .tar.xz .tzst .tar.zst .tlz .tar.lzma}
	return [expr {[dict exists $short $suffix] && [dict get $short $suffix] eq $canonical}]
}

proc portextract::extract_start {args} {
	ui_notice "--->  Extracting [option subport]"
}

proc portextract::extract_main {args} {
	global distpath workpath worksrcpath
	if {[tbool extract.mkdir]} {
		set directory $worksrcpath
		file mkdir $directory
		option extract.dir $directory
	}
	foreach file [option extract.only] {
		set path [file join $distpath $file]
		if {![file isfile $path]} {
			return -code error "$file is not in $distpath: fetch it again"
		}
		if {![portutil::in_path [lindex [option extract.cmd] 0]]} {
			return -code error "[lindex [option extract.cmd] 0] is needed to unpack $file and was not found in $::env(PATH)"
		}
		option extract.args [list '$path']
		if {[catch {command_exec extract} message details]} {
			if {[interrupted]} {
				return -options $details $message
			}
			return -code error "$file could not be unpacked: $message"
		}
	}
	if {[tbool extract.rename]} {
		set tops [lsearch -all -inline -not -glob [glob -nocomplain -types d -tails -directory $workpath *] .*]
		if {[llength $tops] == 1 && ![file exists $worksrcpath]} {
			file rename [file join $workpath [lindex $tops 0]] $worksrcpath
		}
	}
}
