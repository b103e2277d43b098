# portmain.tcl: the options that every port has, and the target that every other requires.

namespace eval portmain {}

set org.macports.main [target_new org.macports.main portmain::main]
target_provides ${org.macports.main} main
target_state ${org.macports.main} no

proc portmain::main {args} {
}

options prefix name version revision epoch categories maintainers license description long_description homepage notes \
	default_variants platforms distname distpath dist_subdir worksrcdir worksrcpath workpath filesdir filespath destroot \
	destpath destdir compiler.cpath compiler.library_path source_date_epoch os.platform \
	os.subplatform os.version os.major os.arch os.endian build_arch logpath buildpath test.run

foreach portmain::option {name version revision epoch categories maintainers license description long_description \
		homepage platforms notes} {
	option_proc $portmain::option portutil::export
}
unset portmain::option
option_proc default_variants portutil::add_default_variants
option_proc long_description portutil::unindent
option_proc notes portutil::unindent
option_proc revision portmain::check_number
option_proc epoch portmain::check_number
option_proc version portmain::check_word
option_proc name portmain::check_word

proc portmain::check_number {option action {value ""}} {
	if {$action eq "set" && ![string is wideinteger -strict $value]} {
		return -code error "$option is \"$value\"; it must be a whole number"
	}
}

proc portmain::check_word {option action {value ""}} {
	if {$action eq "set" && ![regexp {^[^\s/:@]+$} $value]} {
		return -code error "$option is \"$value\"; it must be one word without /, : and @"
	}
}

# What the user asked for; else the Portfile's own name, or its directory's as long as there is none.
default subport {[portmain::own_name]}
default revision 0
default epoch 0
default license unknown
default categories {}
default maintainers nomaintainer
default description {}
default long_description {}
default homepage {}
default platforms any
default distname {${name}-${version}}
default dist_subdir {${name}}
default worksrcdir {$distname}
default filesdir files
default filespath {[file join $portpath [join $filesdir]]}
# A directory for each tree's port, one below it for each subport.
default buildpath {[file join $portdbpath build [portmain::build_id $portpath] $subport]}
default workpath {[file join $buildpath work]}
default logpath {[file join $buildpath logs main.log]}
default worksrcpath {[file join $workpath [join $worksrcdir]]}
default destdir destroot
default destpath {[file join $workpath $destdir]}
default destroot {$destpath}
default distpath {[file join $portdbpath distfiles ${dist_subdir}]}
default test.run no

default os.platform {[string tolower $::tcl_platform(os)]}
default os.subplatform {[expr {$::tcl_platform(os) eq "Darwin" ? "macosx" : ""}]}
default os.version {$::tcl_platform(osVersion)}
default os.major {[lindex [split $::tcl_platform(osVersion) .] 0]}
default os.arch {[expr {$::tcl_platform(machine) in {x86_64 i386 i686} ? "i386" : $::tcl_platform(machine)}]}
default os.endian {[regsub Endian $::tcl_platform(byteOrder) ""]}
default build_arch {[portmain::machine]}

default compiler.cpath {${prefix}/include}
default compiler.library_path {${prefix}/lib}
# The same source gives the same bytes whenever it is built: what asks for the time is told the Portfile's.
default source_date_epoch {[file mtime [file join $portpath Portfile]]}

proc portmain::machine {} {
	set configured [setting build_arch]
	return [expr {$configured ne "" ? $configured : $::tcl_platform(machine)}]
}

# The name of a port directory in the build directory: readable, and different for each.
proc portmain::build_id {path} {
	package require sha256
	return [file tail $path]-[string range [::sha2::sha256 -hex [encoding convertto utf-8 $path]] 0 7]
}

proc portmain::own_name {} {
	if {[exists name]} {
		return [option name]
	}
	return [file tail [option portpath]]
}

# The reduced environment of all phases; what is the user's stays the user's.
proc portmain::reduce_environment {} {
	global env
	set keep {TERM http_proxy https_proxy ftp_proxy all_proxy no_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY
		LD_PRELOAD DYLD_INSERT_LIBRARIES COLUMNS LINES}
	lappend keep {*}[split [setting extra_env] ", "]
	foreach key [array names env] {
		if {$key ni $keep} {
			unset env($key)
		}
	}
	set env(PATH) [setting binpath]
	set env(HOME) /var/empty
	set env(LANG) C
	set env(CCACHE_DIR) [setting ccache_dir]
}

portmain::reduce_environment
