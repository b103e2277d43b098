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
		if {[string trim $path /] eq ""} {
			return -code error "$option: \"/\" would switch trace mode off: name the directories that are needed"
		}
		if {$target ne "" && [string match *hide $option]} {
			return -code error "$option: \"$word\": only trace.read and trace.write take PATH=>TARGET"
		}
	}
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

# For one phase: a list of {map action path target phase origin}, in the order in which they decide: what was said
# for this phase first, hiding before allowing. map: read, write. action: + allow, - hide, > redirect.
# phase is "" where every phase is meant.
proc portutil::allowances {phase} {
	variable allowance_places
	set rows {}
	foreach {scope form} [list $phase $phase.trace_ "" trace.] {
		foreach kind {hide read write} {
			set option $form$kind
			if {![exists $option]} {
				continue
			}
			foreach word [option $option] {
				set path $word
				set target ""
				set action [expr {$kind eq "hide" ? "-" : "+"}]
				if {[regexp {^(.*?)=>(.*)$} $word -> path target]} {
					set action >
				}
				set origin $option
				if {[dict exists $allowance_places $option $word]} {
					lassign [dict get $allowance_places $option $word] file line
					if {$file ne ""} {
						set origin "$option, line $line of $file"
					}
				}
				foreach map [expr {$kind eq "hide" ? {read write} : $kind}] {
					lappend rows [list $map $action $path $target $scope $origin]
				}
				# What may be written may be read.
				if {$kind eq "write" && $action eq "+"} {
					lappend rows [list read + $path "" $scope $origin]
				}
			}
		}
	}
	return $rows
}

# ---- the trace session of one target ----------------------------------------------------------------------------

proc portutil::trace_begin {target} {
	global workpath
	package require porttrace
	set rows [portutil::allowances $target]
	foreach row $rows {
		lassign $row map action path redirect scope origin
		ui_info "$target [expr {$action eq {+} ? "may also $map" : $action eq {-} ? "must not see" : "finds $redirect in the place of"}]\
			$path ($origin)"
	}
	trace_context $target [option name] [option portpath] [option distpath] [option prefix] $rows
	porttrace::trace_start $workpath
	if {$target ni {activate archive deactivate install}} {
		porttrace::trace_enable_fence
	}
	set names [portutil::traced_ports $target]
	ui_debug "$target may see the files of: $names"
	porttrace::setdeps $names
}

proc portutil::trace_end {} {
	porttrace::trace_check_violations
	porttrace::trace_stop
}
