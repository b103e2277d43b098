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
#   shell.tcl     a shell in the workpath, as a phase works there
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

foreach portutil::part {options targets state variants depends fileops allow keywords shell} {
	source -encoding utf-8 [file join $portutil::directory $portutil::part.tcl]
}
unset portutil::part

# Reads a boolean option or variable by its name; an unset one is false.
proc tbool {name} {
	upvar #0 $name value
	return [expr {[info exists value] && [string is true -strict $value]}]
}

proc portutil::value_or_empty {option} {
	upvar #0 $option value
	if {[info exists value]} {
		# not by expr: it takes 2.10 for a number
		return $value
	}
}

# Sources every phase of this directory, portmain first.
proc portutil::load_phases {} {
	variable directory
	uplevel #0 [list source -encoding utf-8 [file join $directory portmain.tcl]]
	foreach file [lsort [glob -directory $directory port*.tcl]] {
		if {[file tail $file] ni {portutil.tcl portmain.tcl portquery.tcl}} {
			uplevel #0 [list source -encoding utf-8 $file]
		}
	}
}

# The first command of a Portfile.
proc PortSystem {version} {
	if {$version ne "1.0"} {
		return -code error "PortSystem $version: this is PortSystem 1.0"
	}
	set ::portutil::system_seen 1
	return
}

# Evaluates a Portfile and decides its variants. Errors carry the trace from which portutil::error_place reads.
proc portutil::evaluate {portfile} {
	variable system_seen 0
	# Tcl reports an unbalanced brace where it gives up or not at all (a comment hides it): find the command's start.
	portutil::check_complete $portfile
	uplevel #0 [list source -encoding utf-8 $portfile]
	if {!$system_seen} {
		return -code error "the command \"PortSystem 1.0\" is missing"
	}
	foreach option {name version} {
		if {[portutil::value_or_empty $option] eq ""} {
			return -code error "$option is not set"
		}
	}
	if {[string equal -nocase $::subport $::name]} {
		set ::subport $::name
	} elseif {$::subport ni $portutil::subports} {
		return -code error "there is no port $::subport in this Portfile: it has [join [concat [list $::name] $portutil::subports] {, }]"
	}
	portutil::eval_variants
}

proc portutil::check_complete {portfile} {
	set channel [open $portfile r]
	fconfigure $channel -encoding utf-8
	set lines [split [read $channel] \n]
	close $channel
	set command ""
	set start 0
	set number 0
	foreach line $lines {
		incr number
		if {$command eq ""} {
			set start $number
		}
		append command $line \n
		if {[info complete $command] && ![regexp {(^|[^\\])(\\\\)*\\\n$} $command]} {
			set command ""
		}
	}
	if {$command ne "" && ![info complete $command]} {
		return -code error -errorinfo "incomplete\n    (file \"$portfile\" line $start)" \
			"a brace, bracket or quote that is opened here is never closed"
	}
}

# What may be said of a port to somebody who asks: a dict of its options.
proc portutil::describe {} {
	global PortInfo
	set info [array get PortInfo]
	foreach option {name version revision epoch categories platforms maintainers license description long_description homepage} {
		dict set info $option [option $option]
	}
	dict set info name $::subport
	dict set info variants [lsort [dict keys $portutil::known_variants]]
	dict set info subports $portutil::subports
	dict set info canonical_active_variants $::portvariants
	return $info
}
