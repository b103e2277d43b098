# shell.tcl: a shell in the work directory as a phase works there: environment, user and, with -t, policy and tiers.

namespace eval portutil {
	# Phases that work in the workpath; the others change prefix and registry, as root.
	variable shell_phases {fetch checksum extract patch configure build test destroot}
	# The phase that failed in this run; empty: none did.
	variable failed_phase ""
}

# Keep in the state file which phase failed; a line each time, the last one counts.
proc portutil::note_failure {target} {
	variable failed_phase
	variable state_lock
	if {$state_lock ne ""} {
		set failed_phase $target
		set channel [open [portutil::state_file] a]
		puts $channel "failed: $target"
		close $channel
	}
}

# The phase that a shell is for where none was named: the one that failed last and was not done since, else build.
proc portutil::shell_phase {} {
	variable shell_phases
	set failed [lindex [portutil::state_values failed] end]
	if {$failed in $shell_phases && ![portutil::state_has target [portutil::item_named $failed]]} {
		return $failed
	}
	return build
}

# The variants that the build in the workpath was started with: names and signs by turns; empty where there is none.
proc portutil::state_variants {} {
	set variants {}
	foreach word [portutil::state_values variant] {
		lappend variants [string range $word 1 end] [string index $word 0]
	}
	return $variants
}

proc portutil::check_shell {phase} {
	global workpath subport portpath
	variable shell_phases
	if {$phase ne "" && $phase ni $shell_phases} {
		return -code error -errorcode {PORT USAGE} "no shell for the phase \"$phase\": expected one of [join $shell_phases {, }]"
	}
	if {![file isfile [portutil::state_file]]} {
		return -code error -errorcode {PORT NOTHING BUILT} \
			"there is no work directory of $subport ($workpath): nothing was built, or it was cleaned"
	}
	set before [lsort [portutil::state_values variant]]
	set now [lsort [lmap {name sign} [option portvariations] {string cat $sign$name}]]
	if {$before ne $now && ![tbool ports_force]} {
		return -code error "the build in $workpath was started with the variants \"[join $before {}]\", not\
			\"[join $now {}]\": name the same, or none"
	}
	set known [lindex [portutil::state_values checksum] 0]
	if {$known ne "" && $known ne [hash_file sha256 [file join $portpath Portfile]]} {
		ui_warn "the Portfile of $subport was changed since this work directory was made; the next build discards it"
	}
}

# Runs the shell to its end; returns its exit status.
proc portutil::shell {phase} {
	global workpath subport env
	variable state_lock
	portutil::check_shell $phase
	if {$phase eq ""} {
		set phase [portutil::shell_phase]
	}
	set item [portutil::item_named $phase]
	set state_lock [lock_file [portutil::state_file]]
	set saved_env [array get env]
	set tracing [tbool ports_trace]
	try {
		file mkdir [file join $workpath .home] [file join $workpath .tmp]
		give_to_build_user [file join $workpath .home] [file join $workpath .tmp]
		privileges [expr {[portutil::needs_root $item] ? "root" : "build"}]
		portutil::set_phase_environment
		if {$tracing} {
			portutil::trace_begin $phase
		}
		try {
			set command [portutil::shell_command $phase]
			set about "--->  A shell in the work directory of $subport, as $phase works there"
			if {!$tracing} {
				append about "; without -t nothing is hidden from it"
			}
			if {$command ne ""} {
				append about "\nThe command of $phase:  $command"
			}
			set status [converse "$subport $phase" $about $workpath [array get env] [portutil::launch_words]]
		} finally {
			if {$tracing} {
				portutil::trace_close
			}
		}
	} finally {
		privileges root
		array unset env *
		array set env $saved_env
		portutil::close_state
	}
	return $status
}

# Put what the command of a phase finds into the environment; returns its command line, empty where it has none.
proc portutil::shell_command {phase} {
	if {![exists $phase.cmd]} {
		return ""
	}
	if {$phase eq "configure"} {
		portconfigure::export_to configure
	}
	portutil::prepare_environment $phase
	array set ::env [array get ::$phase.env_array]
	return [command_string $phase]
}
