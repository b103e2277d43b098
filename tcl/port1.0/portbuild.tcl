# portbuild.tcl: runs make.

namespace eval portbuild {}

set org.macports.build [target_new org.macports.build portbuild::build_main]
target_provides ${org.macports.build} build
target_requires ${org.macports.build} main fetch checksum extract patch configure
target_prerun ${org.macports.build} portbuild::build_start

commands build
options build.target build.jobs build.jobs_arg use_parallel_build build.type.add_deps
default build.dir {${worksrcpath}}
default build.cmd {[portbuild::make]}
default build.type default
default build.pre_args {${build.jobs_arg} ${build.target}}
default build.args {}
default build.post_args {}
default build.env {}
default build.target all
default build.nice {[setting buildnicevalue]}
default build.jobs {[portbuild::jobs]}
default build.jobs_arg {[portbuild::jobs_arg]}
default use_parallel_build yes

proc portbuild::make {} {
	set type [option build.type]
	switch -exact -- $type {
		gnu {
			return [expr {[portutil::in_path gmake] ? "gmake" : "make"}]
		}
		bsd {
			return bmake
		}
		default - pbx - make - posix {
			return make
		}
	}
	return -code error "build.type $type is not supported: expected default, gnu or bsd"
}

proc portbuild::jobs {} {
	set jobs [setting buildmakejobs]
	if {![string is integer -strict $jobs] || $jobs < 0} {
		return -code error "buildmakejobs in [settings_file] is \"$jobs\"; it must be a number, 0 for one job a processor"
	}
	return [expr {$jobs == 0 ? [cpu_count] : $jobs}]
}

proc portbuild::jobs_arg {} {
	if {![tbool use_parallel_build] || ![string match *make [lindex [option build.cmd] 0]]} {
		return ""
	}
	set jobs [option build.jobs]
	if {![string is integer -strict $jobs] || $jobs < 1} {
		return -code error "build.jobs is \"$jobs\"; it must be a number above 0"
	}
	return [expr {$jobs > 1 ? "-j$jobs" : ""}]
}

proc portbuild::build_start {args} {
	ui_notice "--->  Building [option subport]"
}

# The program that a phase's command starts with must be there.
proc portbuild::need_program {name} {
	set program [lindex [option $name.cmd] 0]
	if {[string first / $program] < 0 && ![portutil::in_path $program]} {
		return -code error "$program was not found in $::env(PATH): install it, or set $name.cmd"
	}
}

proc portbuild::build_main {args} {
	portbuild::need_program build
	if {![tbool use_configure]} {
		portconfigure::need_compiler
	}
	command_exec build
}
