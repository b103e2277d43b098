# porttest.tcl: runs the port's own tests.

namespace eval porttest {}

set org.macports.test [target_new org.macports.test porttest::test_main]
target_provides ${org.macports.test} test
target_requires ${org.macports.test} main fetch checksum extract patch configure build
target_prerun ${org.macports.test} porttest::test_start

commands test
options test.target
default test.dir {${build.dir}}
default test.cmd {${build.cmd}}
default test.pre_args {${test.target}}
default test.args {${build.args}}
default test.post_args {}
default test.env {${build.env}}
default test.target test

proc porttest::test_start {args} {
	if {![tbool test.run]} {
		return -code error "[option subport] has no tests turned on: see test.run"
	}
	ui_notice "--->  Testing [option subport]"
}

proc porttest::test_main {args} {
	portbuild::need_program test
	command_exec test
}
