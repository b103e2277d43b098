# query.tcl: the actions that are no phases: what is installed, what a port is, and taking ports away.

source -encoding utf-8 [file join $port::directory port1.0 portquery.tcl]

# portquery asks the registry by its plain names.
foreach port::command [info commands ::host::registry_*] {
	interp alias {} [namespace tail $port::command] {} $port::command
}
unset port::command

# NAME@VERSION as the registry's commands take it.
proc port::names {ports} {
	return [lmap port $ports {
		set variants ""
		dict for {name sign} [dict get $port variants] {
			append variants $sign$name
		}
		expr {[dict get $port version] eq "" ? [dict get $port name] : "[dict get $port name]@[dict get $port version]$variants"}
	}]
}

proc port::need_names {action ports} {
	foreach port $ports {
		if {[dict get $port name] ne ""} {
			return
		}
	}
	return -code error -errorcode {PORT USAGE} "port $action needs a name"
}

proc port::action::installed {ports} {
	return [portquery::action_installed [port::names $ports] [expr {[::host::ui_level] >= 2}]]
}

proc port::action::contents {ports} {
	port::need_names contents $ports
	return [portquery::action_contents [port::names $ports]]
}

proc port::action::provides {ports} {
	port::need_names provides $ports
	return [portquery::action_provides [port::names $ports] [expr {[::host::ui_level] == 0}]]
}

# Calls BODY with the variable `info`, the options of each port that was named.
proc port::each_info {action ports body} {
	upvar 1 info info
	set status 0
	if {![llength $ports]} {
		if {![file isfile [file join [pwd] Portfile]]} {
			return -code error -errorcode {PORT USAGE} "port $action needs a name"
		}
		set ports [list [port::anonymous]]
	}
	foreach port $ports {
		set portdir [dict get $port portdir]
		if {$portdir eq ""} {
			set portdir [port::find [dict get $port name]]
		}
		set worker [port::open_port $portdir [dict get $port name] [dict get $port variants] [dict get $port options]]
		try {
			port::check_variants $worker [dict get $port variants]
			set info [port::worker_eval $worker portutil::describe]
		} finally {
			port::close_port $worker
		}
		if {[uplevel 1 $body]} {
			set status 1
		}
	}
	return $status
}

proc port::action::info {ports} {
	return [port::each_info info $ports {portquery::action_info $info [expr {[::host::ui_level] >= 2}]}]
}

proc port::action::deps {ports} {
	if {[port::opt trace] eq "1"} {
		return [port::each_info deps $ports {port::show_usage $info}]
	}
	return [port::each_info deps $ports {portquery::action_deps $info [expr {[::host::ui_level] >= 2}]}]
}

# port -t deps: what the Portfile declares against what the last traced build used.
proc port::show_usage {info} {
	set declared {}
	foreach type {depends_fetch depends_extract depends_patch depends_build depends_lib depends_run depends_test} {
		foreach spec [portquery::value $info $type] {
			lappend declared $type $spec
		}
	}
	set lines [::host::usage_show [dict get $info name] $declared [split [::host::setting binpath] :]]
	portquery::out [join $lines \n]
	return 0
}

proc port::action::list {ports} {
	set directories {}
	if {[llength $ports]} {
		foreach port $ports {
			set name [dict get $port name]
			set portdir [dict get $port portdir]
			lappend directories $name [expr {$portdir ne "" ? $portdir : [port::find $name]}]
		}
	} else {
		foreach directory [port::all_directories] {
			lappend directories "" $directory
		}
	}
	set rows {}
	set status 0
	foreach {name directory} $directories {
		# One port that cannot be read must not hide the others.
		if {[catch {port::open_port $directory $name {} {}} worker]} {
			ui_error $worker
			set status 1
			continue
		}
		lappend rows [port::worker_option $worker subport] [port::worker_option $worker version] \
			[file join [file tail [file dirname $directory]] [file tail $directory]]
		port::close_port $worker
	}
	portquery::action_list $rows
	return $status
}

# NAME, and which of its installed versions; "" for the only or active one.
proc port::each_installed {action ports command} {
	port::need_names $action $ports
	foreach port $ports {
		set specifier ""
		if {[dict get $port version] ne ""} {
			set specifier [dict get $port version]
			dict for {name sign} [dict get $port variants] {
				append specifier $sign$name
			}
		}
		set worker [port::worker_with_blocks $action [dict get $port name] $specifier]
		if {$worker eq ""} {
			::host::$command [dict get $port name] $specifier [expr {[port::opt force] eq "1"}]
			continue
		}
		set build [file dirname [port::worker_option $worker workpath]]
		try {
			set targets $action
			if {$action eq "uninstall" && [port::worker_eval $worker {set ::ports_is_active}]} {
				set targets {deactivate uninstall}
			}
			foreach target $targets {
				if {[port::worker_eval $worker [list eval_targets $target]]} {
					return 1
				}
			}
		} finally {
			port::close_port $worker
			file delete -force -- $build
		}
	}
	return 0
}

# The Portfile of an installed port, as it was kept, in a worker, where it has something to do before or after ACTION;
# "" where it has not.
proc port::worker_with_blocks {action name specifier} {
	lassign [::host::image_portfile $action $name $specifier] portdir name specifier variants active
	if {$portdir eq "" || ($action eq "deactivate" && !$active)} {
		return ""
	}
	set channel [open [file join $portdir Portfile] r]
	fconfigure $channel -encoding utf-8
	set text [read $channel]
	close $channel
	if {![regexp {deactivate|uninstall|PortGroup} $text]} {
		return ""
	}
	if {[port::opt force] ne "1"} {
		set others [lmap entry [::host::registry_dependents $name] {
			if {$action eq "deactivate" && ![dict get $entry active]} continue
			dict get $entry name
		}]
		if {[llength $others] && ($active || [llength [::host::registry_installed $name]] == 1)} {
			# It will be refused, with their names: nothing may have happened by then.
			return ""
		}
	}
	set signs {}
	foreach {- sign variant} [regexp -all -inline {([+-])(\w+)} $variants] {
		lappend signs $variant $sign
	}
	if {[catch {port::open_port $portdir $name $signs {} 1} worker]} {
		ui_warn "What the Portfile of $name does at $action cannot be done: $worker"
		return ""
	}
	set blocks 0
	foreach target [expr {$action eq "uninstall" && $active ? {deactivate uninstall} : $action}] {
		incr blocks [port::worker_eval $worker [list portutil::has_blocks $target]]
	}
	if {!$blocks} {
		port::close_port $worker
		return ""
	}
	port::worker_eval $worker [list set ::ports_specifier $specifier]
	port::worker_eval $worker [list set ::ports_is_active $active]
	return $worker
}

proc port::action::deactivate {ports} {
	return [port::each_installed deactivate $ports image_deactivate]
}

proc port::action::uninstall {ports} {
	return [port::each_installed uninstall $ports image_uninstall]
}
