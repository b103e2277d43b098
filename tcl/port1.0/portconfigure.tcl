# portconfigure.tcl: runs the configure script, with the compiler and its flags in the environment.

namespace eval portconfigure {
	# Environment variable -> option
	variable exported {
		CC cc CXX cxx CPP cpp OBJC objc OBJCXX objcxx FC fc F77 f77 F90 f90
		CFLAGS cflags CPPFLAGS cppflags CXXFLAGS cxxflags OBJCFLAGS objcflags OBJCXXFLAGS objcxxflags LDFLAGS ldflags
		LIBS libs FFLAGS fflags F90FLAGS f90flags FCFLAGS fcflags
		PERL perl PYTHON python RUBY ruby INSTALL install AWK awk BISON bison PKG_CONFIG pkg_config JAVAC javac
		CLASSPATH classpath
	}
}

set org.macports.configure [target_new org.macports.configure portconfigure::configure_main]
target_provides ${org.macports.configure} configure
target_requires ${org.macports.configure} main fetch checksum extract patch
target_prerun ${org.macports.configure} portconfigure::configure_start

commands configure autoreconf automake autoconf
foreach portconfigure::one [dict values $portconfigure::exported] {
	options configure.$portconfigure::one
	default configure.$portconfigure::one {}
}
unset portconfigure::one
options configure.pkg_config_path configure.optflags configure.compiler configure.pipe configure.ccache \
	configure.build_arch configure.cc_archflags configure.ld_archflags configure.cxx_stdlib configure.distcc \
	configure.compiler.add_deps

default configure.dir {${worksrcpath}}
default configure.cmd ./configure
default configure.pre_args {--prefix=${prefix}}
default configure.args {}
default configure.post_args {}
default configure.env {}
default configure.nice {[setting buildnicevalue]}
default use_configure yes
default use_autoreconf no
default use_automake no
default use_autoconf no
foreach {portconfigure::tool portconfigure::arguments} {autoreconf {--install --verbose} automake --verbose autoconf --verbose} {
	default $portconfigure::tool.dir {${worksrcpath}}
	default $portconfigure::tool.args $portconfigure::arguments
	default $portconfigure::tool.cmd $portconfigure::tool
}
unset portconfigure::tool portconfigure::arguments

default configure.optflags -Os
default configure.pipe {[setting configurepipe]}
default configure.ccache {[setting configureccache]}
default configure.distcc no
default configure.compiler {[portconfigure::compiler]}
default configure.build_arch {$build_arch}
default configure.cc {[portconfigure::tool cc]}
default configure.cxx {[portconfigure::tool c++]}
default configure.objc {${configure.cc}}
default configure.objcxx {${configure.cxx}}
default configure.cflags {[portconfigure::flags]}
default configure.cxxflags {[portconfigure::flags]}
default configure.objcflags {[portconfigure::flags]}
default configure.objcxxflags {[portconfigure::flags]}
default configure.fflags {${configure.optflags}}
default configure.f90flags {${configure.optflags}}
default configure.fcflags {${configure.optflags}}
default configure.cppflags {-I${prefix}/include}
# Libraries of the prefix are found where they were linked; on macOS their install names say where they are.
default configure.ldflags {[expr {${os.platform} eq "darwin" ? "-L${prefix}/lib" : "-L${prefix}/lib -Wl,-rpath,${prefix}/lib"}]}
default configure.pkg_config_path {}

proc portconfigure::compiler {} {
	foreach name {clang gcc} {
		if {[option os.platform] eq "darwin" || $name eq "gcc"} {
			return $name
		}
	}
}

# The system's compiler by its usual names; the plain one where none is there, so that the message names it.
proc portconfigure::tool {kind} {
	set names [expr {$kind eq "cc" ? {cc gcc clang} : {c++ g++ clang++}}]
	foreach name $names {
		foreach directory [split $::env(PATH) :] {
			if {[string match [option prefix]/* $directory/]} {
				continue
			}
			if {[file executable [file join $directory $name]]} {
				return [file join $directory $name]
			}
		}
	}
	return $kind
}

proc portconfigure::flags {} {
	set flags [option configure.optflags]
	if {[tbool configure.pipe]} {
		set flags [concat -pipe $flags]
	}
	return $flags
}

proc portutil::in_path {program} {
	if {[string first / $program] >= 0} {
		return [expr {[file isfile $program] && [file executable $program]}]
	}
	return [expr {![catch {binaryInPath $program}]}]
}

# A port that compiles needs a compiler: said before a page of configure's output.
proc portconfigure::need_compiler {} {
	if {[option supported_archs] eq "noarch"} {
		return
	}
	set cc [lindex [option configure.cc] 0]
	if {$cc ne "" && ![portutil::in_path $cc]} {
		return -code error "the C compiler $cc was not found in $::env(PATH): install one, or set configure.cc"
	}
}

# NAME.env_array with what the options say. Entries of NAME.env come first.
proc portconfigure::export_to {name} {
	variable exported
	upvar #0 $name.env_array environment
	if {![array exists environment]} {
		parse_environment $name
	}
	dict for {variable option} $exported {
		append_to_environment_value $name $variable {*}[option configure.$option]
	}
	if {[llength [option configure.pkg_config_path]]} {
		append_to_environment_value $name PKG_CONFIG_PATH [join [option configure.pkg_config_path] :]
	} elseif {![info exists environment(PKG_CONFIG_PATH)]} {
		set environment(PKG_CONFIG_PATH) [option prefix]/lib/pkgconfig:[option prefix]/share/pkgconfig
	}
	if {[tbool configure.ccache] && [portutil::in_path ccache]} {
		foreach variable {CC CXX} {
			if {[info exists environment($variable)] && $environment($variable) ne ""} {
				set environment($variable) "ccache $environment($variable)"
			}
		}
	}
}

proc portconfigure::configure_start {args} {
	ui_notice "--->  Configuring [option subport]"
}

proc portconfigure::configure_main {args} {
	global worksrcpath
	foreach tool {autoreconf automake autoconf} {
		if {[tbool use_$tool]} {
			if {![portutil::in_path [lindex [option $tool.cmd] 0]]} {
				return -code error "[lindex [option $tool.cmd] 0] was not found in $::env(PATH): install it, or the port that has it"
			}
			portconfigure::export_to $tool
			command_exec $tool
		}
	}
	if {![tbool use_configure]} {
		return
	}
	portconfigure::need_compiler
	set script [lindex [option configure.cmd] 0]
	set found [expr {[string first / $script] >= 0 ? [file isfile [file join [option configure.dir] $script]] : [portutil::in_path $script]}]
	if {!$found} {
		return -code error "there is no $script in [option configure.dir]: set configure.cmd, or use_configure no"
	}
	portconfigure::export_to configure
	if {[catch {command_exec configure} message details]} {
		set log [file join [option configure.dir] config.log]
		if {![interrupted] && [file isfile $log]} {
			ui_info "configure's own log is $log"
		}
		return -options $details $message
	}
}
