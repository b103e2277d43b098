# portquery.tcl: port installed, contents, provides, deps, info, list. Sourced by the driver, not by the workers.
#
# Questions about a port of the tree (action_deps, action_info, action_list) take a dict of its options, as PortInfo has
# them; questions about the registry take names. Each procedure returns the exit status. Headings go to ui_notice
# (silent with -q), what was asked for to standard output.

namespace eval portquery {
	variable dependency_labels {
		depends_fetch Fetch
		depends_extract Extract
		depends_patch Patch
		depends_build Build
		depends_lib Library
		depends_run Runtime
		depends_test Test
	}
}

# The answer itself. One command, so that whoever embeds this can send it elsewhere.
proc portquery::out {text} {
	if {![::host::answer $text]} {
		# `port list | head`: the reader has seen enough, and there is nobody to tell it to. Other reasons were told.
		return -code error -errorcode {PORT UNREAD} "nobody reads the answer"
	}
}

# {name @version_revision+variants} -> {name specifier}
proc portquery::split_name {word} {
	set at [string first @ $word]
	if {$at < 0} {
		return [list $word ""]
	}
	return [list [string trim [string range $word 0 $at-1]] [string range $word $at+1 end]]
}

proc portquery::full_name {entry} {
	return "[dict get $entry name] @[dict get $entry version]_[dict get $entry revision][dict get $entry variants]"
}

# port installed ?name ...?
proc portquery::action_installed {names {verbose 0}} {
	set entries {}
	if {[llength $names]} {
		foreach word $names {
			lappend entries {*}[registry_installed {*}[portquery::split_name $word]]
		}
	} else {
		set entries [registry_installed]
	}
	if {![llength $entries]} {
		ui_notice [expr {[llength $names] ? "None of the specified ports are installed." : "No ports are installed."}]
		return 0
	}
	ui_notice "The following ports are currently installed:"
	foreach entry $entries {
		set line "  [portquery::full_name $entry]"
		if {[dict get $entry active]} {
			append line " (active)"
		}
		if {$verbose} {
			append line " requested_variants='[dict get $entry requested_variants]'"
			append line " platform='[dict get $entry os_platform] [dict get $entry os_major]'"
			append line " archs='[dict get $entry archs]'"
			append line " date='[clock format [dict get $entry date] -format %Y-%m-%dT%H:%M:%S%z]'"
		}
		portquery::out $line
	}
	return 0
}

# port contents name ...
proc portquery::action_contents {names} {
	set status 0
	foreach word $names {
		lassign [portquery::split_name $word] name specifier
		if {[catch {registry_files $name $specifier} files]} {
			ui_error "port contents failed: $files"
			set status 1
			continue
		}
		# The version that registry_files chose: the active one, else the last.
		set entries [registry_installed $name $specifier]
		set entry [lindex $entries end]
		foreach candidate $entries {
			if {[dict get $candidate active]} {
				set entry $candidate
			}
		}
		if {[llength $files]} {
			ui_notice "Port [portquery::full_name $entry] contains:"
			foreach file $files {
				portquery::out "  $file"
			}
		} else {
			ui_notice "Port [portquery::full_name $entry] does not have any files registered."
		}
	}
	return $status
}

# port provides file ...
proc portquery::action_provides {files {quiet 0}} {
	set status 0
	foreach word $files {
		set file [file normalize $word]
		if {[catch {file type $file} type]} {
			ui_error "$file does not exist."
			set status 1
		} elseif {$type eq "directory"} {
			ui_error "$file is a directory."
			set status 1
		} else {
			set owner [registry_owner $file]
			if {$owner ne ""} {
				portquery::out [expr {$quiet ? $owner : "$file is provided by: $owner"}]
			} elseif {!$quiet} {
				portquery::out "$file is not provided by a MacPorts port."
			}
		}
	}
	return $status
}

# port deps: INFO is the dict of one port's options.
proc portquery::action_deps {info {verbose 0}} {
	variable dependency_labels
	set lines {}
	foreach {type label} $dependency_labels {
		set names [portquery::dependency_names $info $type $verbose]
		if {[llength $names]} {
			lappend lines [portquery::wrapped "$label Dependencies" [join $names ", "]]
		}
	}
	set name "[dict get $info name] @[dict get $info version]_[portquery::value $info revision 0]"
	append name [portquery::value $info canonical_active_variants]
	if {![llength $lines]} {
		ui_notice "$name has no dependencies."
		return 0
	}
	ui_notice "Full Name: $name"
	portquery::out [join $lines \n]
	return 0
}

proc portquery::dependency_names {info type verbose} {
	return [lmap spec [portquery::value $info $type] {
		expr {$verbose ? $spec : [lindex [split $spec :] end]}
	}]
}

proc portquery::value {info key {default ""}} {
	return [expr {[dict exists $info $key] ? [dict get $info $key] : $default}]
}

# port info
proc portquery::action_info {info {verbose 0}} {
	variable dependency_labels
	set heading "[dict get $info name] @[dict get $info version]"
	if {[portquery::value $info revision 0] > 0} {
		append heading _[dict get $info revision]
	}
	if {[portquery::value $info categories] ne ""} {
		append heading " ([join [dict get $info categories] {, }])"
	}
	set lines [list $heading]
	foreach {key label} {replaced_by "Replaced by" subports Sub-ports variants Variants} {
		set value [portquery::value $info $key]
		if {$value ne ""} {
			lappend lines [portquery::wrapped $label [join $value ", "]]
		}
	}
	lappend lines ""
	foreach {key label} {long_description Description homepage Homepage} {
		set value [join [portquery::value $info $key]]
		if {$value ne ""} {
			lappend lines [portquery::wrapped $label $value]
		}
	}
	lappend lines ""
	foreach {type label} $dependency_labels {
		set names [portquery::dependency_names $info $type $verbose]
		if {[llength $names]} {
			lappend lines [portquery::wrapped "$label Dependencies" [join $names ", "]]
		}
	}
	foreach {key label separator} {
		conflicts "Conflicts with" ", " platforms Platforms ", " license License " and " maintainers Maintainers ", "
	} {
		set value [portquery::value $info $key]
		if {$value ne ""} {
			lappend lines [portquery::wrapped $label [join $value $separator]]
		}
	}
	portquery::out [join $lines \n]
	return 0
}

# port list: ROWS are name, version and directory of each port.
proc portquery::action_list {rows} {
	foreach {name version directory} $rows {
		portquery::out [format "%-30s @%-14s %s" $name $version $directory]
	}
	return 0
}

# "Label:      text", folded at the terminal's width (80 where there is none) with the text's column kept.
proc portquery::wrapped {label text {column 22}} {
	set width 80
	if {[info exists ::env(COLUMNS)] && [string is integer -strict $::env(COLUMNS)] && $::env(COLUMNS) > 40} {
		set width $::env(COLUMNS)
	}
	set lines {}
	set line [format "%-*s" $column "$label: "]
	set empty 1
	foreach word [split [string trim $text]] {
		if {$word eq ""} {
			continue
		}
		if {!$empty && [string length $line] + 1 + [string length $word] > $width} {
			lappend lines $line
			set line [string repeat " " $column]
			set empty 1
		}
		append line [expr {$empty ? "" : " "}]$word
		set empty 0
	}
	return [join [lappend lines $line] \n]
}
