# portutil.tcl: what every phase and every Portfile stands on.
#
# This file and its siblings are sourced into the worker interpreter of one port by the command
# PortSystem. The parts, each small:
#
#   options.tcl   options, defaults, commands, command_exec
#   targets.tcl   target_new ... target_run, eval_targets, pre-/post- blocks
#   state.tcl     the state file, the workpath
#   variants.tcl  variant, platform, subport, default_variants
#   depends.tcl   depends_*, and which of them a target needs
#   fileops.tcl   xinstall, reinplace, copy, move, delete, ln, touch, system ...
#   allow.tcl     trace.read, trace.write, trace.hide and their forms for one phase
#   keywords.tcl  keywords of real Portfiles that are accepted and have no effect here; `unknown`
#
# A phase is a file port<phase>.tcl in this directory; it is found by its name, nobody lists it.
# Its shape:
#
#   namespace eval portbuild {}
#   set org.macports.build [target_new org.macports.build portbuild::build_main]
#   target_provides ${org.macports.build} build
#   target_requires ${org.macports.build} main fetch checksum extract patch configure
#   target_prerun   ${org.macports.build} portbuild::build_start
#   options build.target
#   default build.target all
#   proc portbuild::build_main {args} { ... }
#
# Target API (as Portfiles, PortGroups and phases know it):
#   target_new NAME PROC       -> ditem      target_provides ditem NAME ...   target_requires ditem NAME ...
#   target_prerun ditem PROC                 target_postrun ditem PROC        target_init ditem PROC
#   target_runtype ditem always              target_state ditem no            target_uses ditem NAME ...
#   target_root ditem yes      (ours: the phase keeps root's ids; the default is the macports user)
# A phase's procedures are called with the target's name (org.macports.build); an error raised by one of
# them is the message that the user sees after "Failed to build foo: ".
#
# Commands that the host (Python) gives to a worker, besides the ui_ family, are listed in
# porttrace/porttool/commands.py.

namespace eval portutil {
	variable directory [file dirname [file normalize [info script]]]
}

foreach portutil::part {options targets state variants depends fileops allow keywords} {
	source -encoding utf-8 [file join $portutil::directory $portutil::part.tcl]
}
unset portutil::part

# Reads a boolean option or variable by its name; an unset one is false.
proc tbool {name} {
	upvar #0 $name value
	return [expr {[info exists value] && [string is true -strict $value]}]
}
