# options.tcl: the options of a Portfile: variables that are also commands.
#
# `options name` makes the commands name, name-append, name-prepend, name-delete, name-replace and
# name-strsed over the global variable `name`. Options given on the command line (key=value) win over
# what a Portfile says: portutil::user_options.

namespace eval portutil {
	variable user_options [dict create]
	variable defaults [dict create]
	variable option_hooks [dict create]
	# Called with (option, words) whenever a Portfile changes an option whose name matches the pattern.
	variable line_hooks [dict create]
}

proc options {args} {
	foreach option $args {
		foreach action {"" -append -prepend -delete -replace -strsed} {
			interp alias {} $option$action {} portutil::change $option $action
		}
	}
}

# Reads (one argument) or sets (two) an option by its name.
proc option {name args} {
	upvar #0 $name value
	if {[llength $args]} {
		set value [lindex $args 0]
	}
	return $value
}

proc exists {name} {
	upvar #0 $name value
	return [info exists value]
}

proc portutil::change {option action args} {
	variable user_options
	variable line_hooks
	if {[dict exists $user_options $option]} {
		return
	}
	dict for {pattern hook} $line_hooks {
		if {[string match $pattern $option]} {
			{*}$hook $option $action $args
		}
	}
	upvar #0 $option value
	if {$action in {-delete -replace -strsed} && ![info exists value]} {
		return
	}
	switch -exact -- $action {
		"" {
			set value $args
		}
		-append {
			# lappend would see a default's value only once it is read
			if {[info exists value]} {
				set args [concat $value $args]
			}
			set value $args
		}
		-prepend {
			if {[info exists value]} {
				set args [concat $args $value]
			}
			set value $args
		}
		-delete {
			set kept $value
			foreach word $args {
				set at [lsearch -exact $kept $word]
				if {$at >= 0} {
					set kept [lreplace $kept $at $at]
				}
			}
			set value $kept
		}
		-replace {
			if {[llength $args] % 2} {
				return -code error "$option-replace takes pairs: OLD NEW ..."
			}
			set changed $value
			foreach {old new} $args {
				set at [lsearch -exact $changed $old]
				if {$at >= 0} {
					lset changed $at $new
				}
			}
			set value $changed
		}
		-strsed {
			set text $value
			foreach pattern $args {
				set text [strsed $text $pattern]
			}
			set value $text
		}
	}
	return
}

# An ed-like substitution: s/regex/replacement/ (first match) or g/regex/replacement/ (all matches);
# any delimiter; \1 ... \9 and & in the replacement. Basic regular expressions, as sed has them.
proc strsed {text pattern} {
	set kind [string index $pattern 0]
	set delimiter [string index $pattern 1]
	if {$kind ni {s g} || $delimiter eq ""} {
		return -code error "strsed: cannot read \"$pattern\": expected s/REGEX/TEXT/ or g/REGEX/TEXT/"
	}
	set parts {}
	set part ""
	foreach char [lrange [split $pattern ""] 2 end] {
		if {$char eq $delimiter && ![regexp {(^|[^\\])(\\\\)*\\$} $part]} {
			lappend parts $part
			set part ""
		} else {
			append part $char
		}
	}
	if {[llength $parts] != 2 || $part ni {"" g}} {
		return -code error "strsed: cannot read \"$pattern\": expected s${delimiter}REGEX${delimiter}TEXT${delimiter}"
	}
	lassign $parts regex replacement
	set all [expr {$kind eq "g" || $part eq "g" ? "-all" : "--"}]
	return [regsub {*}$all "(?b)$regex" $text $replacement]
}

# Declares a default: used, and computed anew at each reading, until somebody sets the option.
proc default {option value} {
	upvar #0 $option variable
	set trace [list portutil::default_trace $option]
	if {[dict exists $portutil::defaults $option]} {
		trace remove variable variable {read write unset} $trace
	} elseif {[info exists variable]} {
		return
	}
	dict set portutil::defaults $option $value
	set variable $value
	trace add variable variable {read write unset} $trace
	return
}

proc portutil::default_trace {option name1 name2 operation} {
	variable defaults
	upvar #0 $option value
	if {$operation eq "read"} {
		set value [uplevel #0 [list subst [dict get $defaults $option]]]
		return
	}
	dict unset defaults $option
	trace remove variable value {read write unset} [list portutil::default_trace $option]
}

# Registers PROC, called as "PROC option set value", "PROC option read", "PROC option delete".
proc option_proc {option args} {
	upvar #0 $option variable
	if {![dict exists $portutil::option_hooks $option]} {
		trace add variable variable {read write unset} [list portutil::hook_trace $option]
	}
	dict lappend portutil::option_hooks $option {*}$args
	return
}

proc portutil::hook_trace {option name1 name2 operation} {
	variable option_hooks
	upvar #0 $option value
	foreach hook [dict get $option_hooks $option] {
		switch -exact -- $operation {
			write {uplevel #0 [list $hook $option set $value]}
			read {uplevel #0 [list $hook $option read]}
			unset {
				catch {uplevel #0 [list $hook $option delete]}
			}
		}
	}
	if {$operation eq "unset"} {
		trace add variable value {read write unset} [list portutil::hook_trace $option]
	}
}

# The values that the world outside the worker may see: the array PortInfo.
proc options_export {args} {
	foreach option $args {
		option_proc $option portutil::export
	}
}

proc portutil::export {option action {value ""}} {
	global PortInfo
	switch -exact -- $action {
		set {set PortInfo($option) $value}
		delete {unset -nocomplain PortInfo($option)}
	}
}

# An old name of an option: still accepted, says so, and sets the new one.
proc option_deprecate {option {newoption ""}} {
	if {$newoption eq ""} {
		proc ::$option {args} [list ui_warn "option \"$option\" is deprecated and has no effect"]
	} else {
		foreach action {"" -append -prepend -delete -replace -strsed} {
			interp alias {} $option$action {} $newoption$action
		}
		upvar #0 $option variable
		default $option "\${$newoption}"
	}
	return
}

# Text options: {...} blocks lose the indentation that they have in the Portfile.
proc portutil::unindent {option action {value ""}} {
	if {$action ne "set"} {
		return
	}
	set texts {}
	foreach text [join $value] {
		lappend texts $text
	}
	upvar #0 $option variable
	if {[llength $value] == 1 && [string first \n [lindex $value 0]] >= 0} {
		package require textutil::adjust
		set text [string trim [lindex $value 0] \n]
		set variable [list [string trimright [textutil::adjust::undent $text]]]
	}
}

# ---- commands: NAME.cmd, NAME.args ... and how they are run ---------------------------------------------------

proc commands {args} {
	foreach name $args {
		options use_$name $name.dir $name.pre_args $name.args $name.post_args $name.env $name.nice $name.type $name.cmd
	}
}

# The shell command line of a command: its words joined by blanks, to be read by sh.
proc command_string {name} {
	set words {}
	foreach part {cmd pre_args args post_args} {
		upvar #0 $name.$part value
		if {[info exists value]} {
			lappend words {*}$value
		} elseif {$part eq "cmd"} {
			lappend words $name
		}
	}
	upvar #0 $name.dir dir
	set line [join $words " "]
	return [expr {[info exists dir] ? "cd \"$dir\" && $line" : $line}]
}

# NAME.env (a list of KEY=VALUE) as the array NAME.env_array, to which a phase adds.
proc parse_environment {name} {
	upvar #0 $name.env_array array
	upvar #0 $name.env list
	unset -nocomplain array
	array set array {}
	if {[info exists list]} {
		foreach entry $list {
			set at [string first = $entry]
			if {$at <= 0} {
				return -code error "$name.env: \"$entry\" is not of the form KEY=VALUE"
			}
			set array([string range $entry 0 $at-1]) [string range $entry $at+1 end]
		}
	}
}

# Adds words to a variable of a command's environment, after what the Portfile put there.
proc append_to_environment_value {name key args} {
	upvar #0 $name.env_array array
	foreach word $args {
		if {$word eq ""} {
			continue
		}
		if {[info exists array($key)] && $array($key) ne ""} {
			append array($key) " $word"
		} else {
			set array($key) $word
		}
	}
}

proc environment_array_to_string {name} {
	upvar 1 $name array
	set text {}
	foreach key [lsort [array names array]] {
		lappend text "$key='$array($key)'"
	}
	return [join $text " "]
}

# command_exec ?-notty? ?-callback proc? ?-varprefix name? name ?prefix? ?suffix?
# Runs a command with its directory, environment and niceness; prefix and suffix are shell text around it.
proc command_exec {args} {
	set flags {}
	set varprefix ""
	while {[string match -* [lindex $args 0]]} {
		switch -exact -- [lindex $args 0] {
			-notty {
				lappend flags -notty
				set args [lrange $args 1 end]
			}
			-callback {
				lappend flags {*}[lrange $args 0 1]
				set args [lrange $args 2 end]
			}
			-varprefix {
				set varprefix [lindex $args 1]
				set args [lrange $args 2 end]
			}
			-- {
				set args [lrange $args 1 end]
				break
			}
			default {
				return -code error "command_exec: unknown option [lindex $args 0]"
			}
		}
	}
	lassign $args name before after
	if {$name eq ""} {
		return -code error "command_exec: no command named"
	}
	if {$varprefix eq ""} {
		set varprefix $name
	}
	set dir [option $varprefix.dir]
	if {![file exists $dir]} {
		file mkdir $dir
	}
	upvar #0 $varprefix.env_array environment
	portutil::prepare_environment $varprefix
	ui_debug "Environment: [environment_array_to_string environment]"
	if {[exists $varprefix.nice] && [option $varprefix.nice] ne ""} {
		lappend flags -nice [option $varprefix.nice]
	}
	set line [string trim "$before [command_string $name] $after"]
	ui_info "Executing: $line"
	set saved [array get ::env]
	array set ::env [array get environment]
	set failed [catch {system {*}$flags $line} result details]
	array unset environment
	array unset ::env *
	array set ::env $saved
	if {$failed} {
		return -options $details $result
	}
	return $result
}

# NAME.env_array: NAME.env, what the phase has put there, and what every command finds.
proc portutil::prepare_environment {name} {
	upvar #0 $name.env_array environment
	if {![array exists environment]} {
		parse_environment $name
	}
	foreach {key value} [portutil::build_environment] {
		if {![info exists environment($key)]} {
			set environment($key) $value
		}
	}
}

# What every command of every phase finds in its environment.
proc portutil::build_environment {} {
	set pairs {}
	if {[option compiler.cpath] ne ""} {
		lappend pairs CPATH [join [option compiler.cpath] :]
	}
	if {[option compiler.library_path] ne ""} {
		lappend pairs LIBRARY_PATH [join [option compiler.library_path] :]
	}
	if {[option source_date_epoch] ne ""} {
		lappend pairs SOURCE_DATE_EPOCH [option source_date_epoch]
	}
	return $pairs
}
