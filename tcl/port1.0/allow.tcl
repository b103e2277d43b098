# allow.tcl: what a Portfile says about the fence.
#
#   trace.read  PATH ...      every phase may read there     ${phase}.trace_read   one phase may
#   trace.write PATH ...      ... may write there            ${phase}.trace_write
#   trace.hide  PATH ...      ... must not see it            ${phase}.trace_hide
#
# PATH=>TARGET in trace.read and trace.write shows TARGET in the place of PATH. Each word is kept with the line
# of the Portfile where it was written. Paths match whole components.

namespace eval portutil {
	variable fence_phases {fetch checksum extract patch configure build test destroot archive install activate deactivate}
	# option -> word -> {file line}
	variable allowance_places [dict create]
	# Whether a trace session is open.
	variable tracing 0
}

proc portutil::note_allowance {option action words} {
	variable allowance_places
	if {$action in {-delete -strsed}} {
		return
	}
	set place [portutil::place]
	if {$action eq "-replace"} {
		set words [lmap {old new} $words {set new}]
	}
	foreach word $words {
		dict set allowance_places $option $word $place
	}
}

proc portutil::check_allowances {option action {value ""}} {
	if {$action ne "set"} {
		return
	}
	foreach word $value {
		set path $word
		set target ""
		regexp {^(.*?)=>(.*)$} $word -> path target
		if {[file pathtype $path] ne "absolute" || ($target ne "" && [file pathtype $target] ne "absolute")} {
			return -code error "$option: \"$word\" is not an absolute path"
		}
		if {[portutil::is_root $path]} {
			return -code error "$option: \"/\" would switch trace mode off: name the directories that are needed"
		}
		if {$target ne "" && [string match *hide $option]} {
			return -code error "$option: \"$word\": only trace.read and trace.write take PATH=>TARGET"
		}
	}
}

# Whether a path means the root directory, however it is written.
proc portutil::is_root {path} {
	set depth 0
	foreach part [split $path /] {
		switch -exact -- $part {
			"" - . {}
			.. { set depth [expr {max(0, $depth - 1)}] }
			default { incr depth }
		}
	}
	return [expr {$depth == 0}]
}

foreach portutil::kind {read write hide} {
	options trace.$portutil::kind
	option_proc trace.$portutil::kind portutil::check_allowances
	foreach portutil::phase $portutil::fence_phases {
		options $portutil::phase.trace_$portutil::kind
		option_proc $portutil::phase.trace_$portutil::kind portutil::check_allowances
	}
}
unset portutil::kind portutil::phase
dict set portutil::line_hooks trace.* portutil::note_allowance
dict set portutil::line_hooks *.trace_* portutil::note_allowance

# For one phase: a list of {kind path origin phase target}, in the order in which they decide: what was said for this
# phase first, hiding before allowing. kind: read, write, hide, redirect (then with a target).
proc portutil::allowances {phase} {
	variable allowance_places
	set rows {}
	foreach form [list $phase.trace_ trace.] {
		foreach kind {hide read write} {
			set option $form$kind
			if {![exists $option]} {
				continue
			}
			foreach word [option $option] {
				set origin $option
				if {[dict exists $allowance_places $option $word]} {
					lassign [dict get $allowance_places $option $word] file line
					if {$file ne ""} {
						set origin "$option, line $line of $file"
					}
				}
				if {[regexp {^(.*?)=>(.*)$} $word -> path target]} {
					lappend rows [list redirect $path $origin "" $target]
				} else {
					lappend rows [list $kind $word $origin "" ""]
				}
			}
		}
	}
	return $rows
}

# ---- the trace session of one target ----------------------------------------------------------------------------

proc portutil::trace_begin {target} {
	global workpath portdbpath env ports_sdk ports_audit ports_absent portvariants
	variable tracing
	trace_library
	package require porttrace
	if {![file isdirectory $workpath]} {
		# an image that was built before is activated: nothing was worked on
		portutil::create_workpath
	}
	set rows [portutil::allowances $target]
	foreach row $rows {
		lassign $row kind path origin scope redirected
		set may [dict get [list read "may also read $path" write "may also read and write $path" \
			hide "must not see $path" redirect "finds $redirected in the place of $path"] $kind]
		set where [expr {[regexp {^(\S+), line (\d+) of (.*)$} $origin -> option line file]
			? "from line $line of [expr {[file tail $file] eq "Portfile" ? "the Portfile" : $file}] ($option)" : "from $origin"}]
		ui_info "$target $may, $where"
	}
	set registry [file join $portdbpath registry registry.db]
	set cache ""
	if {[tbool configure.ccache]} {
		set cache $env(CCACHE_DIR)
	}
	porttrace::context port [option subport] phase $target prefix [option prefix] portpath [option portpath] \
		distpath [option distpath] registry [expr {[file exists $registry] ? $registry : ""}] \
		allowances $rows portdbpath $portdbpath ccache_dir $cache sdk $ports_sdk audit $ports_audit absent $ports_absent \
		declared [portutil::declared] variants $portvariants tests [tbool test.run]
	porttrace::trace_start $workpath
	set tracing 1
	if {$target ni {activate archive deactivate install}} {
		porttrace::trace_enable_fence
	}
	set names [portutil::traced_ports $target]
	ui_debug "$target may see the files of: $names"
	porttrace::setdeps $names
}

proc portutil::trace_end {target} {
	portutil::trace_close
	portutil::note_usage $target
}

# Says what was found and ends the session.
proc portutil::trace_close {} {
	variable tracing
	try {
		porttrace::trace_check_violations
	} finally {
		set tracing 0
		porttrace::trace_stop
	}
}

# Keep what a phase used of other ports, for the end of the build, the archive and `port deps`.
proc portutil::note_usage {target} {
	global subport ports_audit
	set build [lindex [portutil::state_values build] 0]
	# An audit is no traced build: nothing was hidden from it.
	if {$build eq "" || $ports_audit || $target in {archive deactivate}} {
		return
	}
	set fresh [expr {![llength [portutil::state_values target]]}]
	usage_note $subport [portinstall::specifier] $build $fresh $target [porttrace::call usage]
}

# Type and spec of each declared dependency, by turns.
proc portutil::declared {} {
	variable dependency_types
	set words {}
	foreach type $dependency_types {
		foreach spec [portutil::dependencies [list $type]] {
			lappend words $type $spec
		}
	}
	return $words
}

# At the end of an installation: what the whole build tells about the dependencies.
proc portutil::report_usage {} {
	global subport env
	usage_report $subport [lindex [portutil::state_values build] 0] [portutil::declared] [split $env(PATH) :]
}

# The words before a command line that put it behind the fence, or at least give up root's ids.
proc portutil::launch_words {} {
	variable tracing
	if {$tracing} {
		return [porttrace::call launcher]
	}
	return [id_words]
}
