# port.tcl: the driver of the port tool: actions, ports of a tree, dependencies.
#
# Runs in the main interpreter; Python (porttrace/porttool) has put its commands into the namespace ::host.
# Each port is evaluated in a worker interpreter of its own. An action that is not a phase is a procedure
# port::action::NAME in tcl/actions/*.tcl, called with the list of ports that the user named (dicts with the keys
# name, version, variants, options, portdir); it returns the exit status.

namespace eval port {
	variable directory [file dirname [file normalize [info script]]]
	variable options [dict create]
	variable phases {fetch checksum extract patch configure build test destroot archive install activate clean load unload reload}
	# Ports that are being installed, outermost first: for finding cycles.
	variable installing {}
	variable worker_count 0
	# Directories of the trees' ports, by lower-cased name.
	variable found [dict create]
	namespace eval action {}
}

proc ui_msg {text} {::host::ui_say msg $text}
foreach port::level {error warn notice info debug} {
	proc ui_$port::level {text} [list ::host::ui_say $port::level]\ \$text
}
unset port::level

proc port::main {given action args} {
	variable options
	variable phases
	variable directory
	set options $given
	foreach file [lsort [glob -nocomplain -directory [file join $directory actions] *.tcl]] {
		uplevel #0 [list source -encoding utf-8 $file]
	}
	if {$action ni $phases && [info commands ::port::action::$action] eq ""} {
		set known [lsort -unique [concat $phases [lmap c [info commands ::port::action::*] {namespace tail $c}]]]
		return [usage_error "unknown action \"$action\": expected one of [join $known {, }]"]
	}
	if {[opt binary] eq "1" && [opt source] eq "1"} {
		return [usage_error "-b (archives only) and -s (no archives) exclude each other"]
	}
	if {[opt binary] eq "1" && $action in {fetch checksum extract patch configure build test destroot archive}} {
		return [usage_error "-b builds nothing, so there is nothing to $action: leave -b out"]
	}
	if {$action eq "clean"} {
		set args [clean_options $args]
	}
	if {[catch {parse_ports [expr {$action eq "shell" ? [shell_options $args] : $args}]} ports]} {
		return [usage_error $ports]
	}
	if {[info commands ::port::action::$action] ne ""} {
		if {[catch {::port::action::$action $ports} status details]} {
			return [report $status $details]
		}
		return [expr {[string is integer -strict $status] ? $status : 0}]
	}
	if {![llength $ports]} {
		if {![file isfile [file join [pwd] Portfile]]} {
			return [usage_error "no port named, and there is no Portfile in [pwd]: name a port, or use -D PORTDIR"]
		}
		set ports [list [dict create name "" version "" variants {} options {} portdir [pwd]]]
	}
	set failed 0
	foreach port $ports {
		if {[catch {run_phase $action $port} status details]} {
			set status [report $status $details]
		}
		if {$status} {
			set failed $status
			if {[opt proceed] ne "1" || [::host::interrupted]} {
				break
			}
		}
	}
	return $failed
}

# port clean --all foo: what is to be cleaned.
proc port::clean_options {words} {
	variable options
	set rest {}
	foreach word $words {
		if {$word in {--all --dist --archive --work}} {
			dict set options clean_[string range $word 2 end] 1
		} else {
			lappend rest $word
		}
	}
	return $rest
}

# Says what is wrong with the command line; returns the exit status for that.
proc port::usage_error {message} {
	ui_error $message
	return 2
}

# Says what an error of ours is; returns the exit status for it: its error code tells where the command line is wrong.
proc port::report {message details} {
	if {![::host::interrupted] && [dict get $details -errorcode] ne {PORT UNREAD}} {
		ui_error [lindex [split $message \n] 0]
	}
	ui_debug [dict get $details -errorinfo]
	return [expr {[dict get $details -errorcode] eq {PORT USAGE} ? 2 : 1}]
}

proc port::opt {key} {
	variable options
	return [expr {[dict exists $options $key] ? [dict get $options $key] : ""}]
}

# NAME ?@VERSION? ?+VARIANT-VARIANT ...? ?KEY=VALUE ...? ... -> a list of dicts
proc port::parse_ports {words} {
	set ports {}
	set current ""
	foreach word $words {
		if {$word eq ""} {
			return -code error "the name of a port is empty"
		}
		if {[regexp {^@(\S+)$} $word -> version]} {
			if {$current eq ""} {
				set current [anonymous]
			}
			# @1.2_1+x: the variants belong to the version's text, as `port installed` prints it
			dict set current version $version
		} elseif {[string match --* $word]} {
			return -code error "unknown option $word: options stand before the action (port --help shows them)"
		} elseif {[regexp {^[+-]} $word]} {
			if {![regexp {^([+-]\w+)+$} $word]} {
				return -code error "\"$word\" is not a list of variants like +x-y"
			}
			if {$current eq ""} {
				set current [anonymous]
			}
			foreach {- sign name} [regexp -all -inline {([+-])(\w+)} $word] {
				dict set current variants $name $sign
			}
		} elseif {[regexp {^([\w.]+)=(.*)$} $word -> key value]} {
			if {$current eq ""} {
				set current [anonymous]
			}
			dict set current options $key $value
		} else {
			if {$current ne ""} {
				lappend ports $current
			}
			set version ""
			regexp {^([^@]+)@(.+)$} $word -> word version
			set current [dict create name $word version $version variants {} options {} portdir [opt portdir]]
		}
	}
	if {$current ne ""} {
		lappend ports $current
	} elseif {[opt portdir] ne ""} {
		lappend ports [anonymous]
	}
	return $ports
}

# A port that is named by its directory only.
proc port::anonymous {} {
	set directory [opt portdir]
	if {$directory eq ""} {
		set directory [pwd]
	}
	return [dict create name "" version "" variants {} options {} portdir $directory]
}

# A message without what Tcl puts before those of its variable traces.
proc port::plain {message} {
	return [regsub {^can't (set|read|unset) "[^"]*": } $message ""]
}

# ---- finding ports -----------------------------------------------------------------------------------------------

# The directory of a port's Portfile; an error where no tree has it.
proc port::find {name} {
	variable found
	set key [string tolower $name]
	if {[dict exists $found $key]} {
		return [dict get $found $key]
	}
	set trees [lmap tree [::host::trees] {lindex $tree 0}]
	foreach tree $trees {
		foreach portfile [lsort [glob -nocomplain -directory $tree */*/Portfile]] {
			if {[string equal -nocase [file tail [file dirname $portfile]] $name]} {
				return [remember $key [file dirname $portfile]]
			}
		}
		# Not a directory's name: perhaps a subport.
		foreach portfile [lsort [glob -nocomplain -directory $tree */*/Portfile]] {
			set channel [open $portfile r]
			set text [read $channel]
			close $channel
			if {[string first subport $text] < 0} {
				continue
			}
			if {[catch {open_port [file dirname $portfile] "" {} {}} worker]} {
				continue
			}
			set subports [worker_eval $worker {set ::portutil::subports}]
			close_port $worker
			foreach subport $subports {
				if {[string equal -nocase $subport $name]} {
					return [remember $key [file dirname $portfile]]
				}
			}
		}
	}
	if {![llength $trees]} {
		return -code error "port $name not found: there is no ports tree; name one in [file join [::host::setting prefix] etc macports sources.conf]"
	}
	return -code error "port $name not found in [join $trees {, }]"
}

proc port::remember {key directory} {
	variable found
	dict set found $key $directory
	return $directory
}

# The directories of all ports of the trees, each name once, the first tree's first.
proc port::all_directories {} {
	set seen [dict create]
	foreach tree [::host::trees] {
		foreach portfile [lsort [glob -nocomplain -directory [lindex $tree 0] */*/Portfile]] {
			set key [string tolower [file tail [file dirname $portfile]]]
			if {![dict exists $seen $key]} {
				dict set seen $key [file dirname $portfile]
			}
		}
	}
	return [dict values $seen]
}

# ---- workers ------------------------------------------------------------------------------------------------------

# Evaluates a Portfile in a new worker; returns the worker. An error's message names file and line.
# `exact`: the port has just these variants, whatever the Portfile's default_variants are.
proc port::open_port {portdir name variants settings {exact 0}} {
	variable directory
	variable worker_count
	set portdir [file normalize $portdir]
	set portfile [file join $portdir Portfile]
	if {![file isfile $portfile]} {
		return -code error "$portdir: there is no Portfile"
	}
	if {![file readable $portfile]} {
		return -code error "$portfile cannot be read: permission denied"
	}
	set worker [interp create worker[incr worker_count]]
	foreach command [info commands ::host::*] {
		set tail [namespace tail $command]
		interp alias $worker $tail {} $command
	}
	foreach command {ui_msg ui_error ui_warn ui_notice ui_info ui_debug} {
		interp alias $worker $command {} ::$command
	}
	interp alias $worker trace_library {} ::host::adopt $worker
	$worker eval [list set ::auto_path $::auto_path]
	set tree [file dirname [file dirname $portdir]]
	set resources [list [file join $tree _resources]]
	foreach other [::host::trees] {
		if {[lindex $other 0] ne $tree} {
			lappend resources [file join [lindex $other 0] _resources]
		}
	}
	foreach {key value} [list portpath $portdir prefix [::host::setting prefix] prefix_frozen [::host::setting prefix] \
			portdbpath [::host::setting portdbpath] porttree_resources $resources \
			ports_trace [expr {[opt trace] eq "1" || [::host::setting_flag porttrace]}] \
			ports_verbose [expr {[opt verbose] eq "1"}] \
			ports_force [expr {[opt force] eq "1"}] ports_source_only [expr {[opt source] eq "1"}] \
			ports_clean_all [expr {[opt clean_all] eq "1"}] ports_clean_dist [expr {[opt clean_dist] eq "1"}] \
			ports_clean_archive [expr {[opt clean_archive] eq "1"}] \
			ports_binary_only [expr {[opt binary] eq "1"}] ports_audit [expr {[opt audit] eq "1"}] \
			ports_absent [expr {[opt absent] eq "1"}] ports_sdk [sdk] ports_requested 0 \
			macportsuser [::host::build_user] portvariants {} portvariations {}] {
		$worker eval [list set ::$key $value]
	}
	if {$name ne ""} {
		$worker eval [list set ::subport $name]
	}
	if {[catch {
		$worker eval [list source -encoding utf-8 [file join $directory port1.0 portutil.tcl]]
		$worker eval [list portutil::load_phases]
	} message details]} {
		interp delete $worker
		return -code error -errorinfo [dict get $details -errorinfo] "internal error: $message"
	}
	$worker eval [list set ::portutil::asked_variants $variants]
	$worker eval [list set ::portutil::exact_variants $exact]
	$worker eval [list set ::portutil::user_options {}]
	dict for {key value} $settings {
		if {![$worker eval [list info exists ::$key]] && [$worker eval [list info commands ::$key]] eq ""} {
			interp delete $worker
			return -code error "unknown option \"$key\" in $key=$value"
		}
		$worker eval [list set ::$key $value]
		$worker eval [list dict set ::portutil::user_options $key $value]
	}
	if {[catch {$worker eval [list portutil::evaluate $portfile]} message details]} {
		set place [$worker eval [list portutil::error_place [dict get $details -errorinfo]]]
		interp delete $worker
		lassign $place file line
		if {$file eq ""} {
			set where $portfile
		} else {
			set where $file:$line
		}
		return -code error -errorinfo [dict get $details -errorinfo] "$where: [plain $message]"
	}
	return $worker
}

proc port::close_port {worker} {
	if {[interp exists $worker]} {
		interp delete $worker
	}
}

proc port::worker_eval {worker script} {
	return [interp eval $worker $script]
}

# The value of an option in a worker; "" where it is not set.
proc port::worker_option {worker option} {
	return [interp eval $worker [list portutil::value_or_empty $option]]
}

# --with-trace-sdk, or trace_sdk of macports.conf: a directory; "" where none was asked for.
proc port::sdk {} {
	set name [opt sdk]
	if {$name eq ""} {
		set name [::host::setting trace_sdk]
	}
	if {$name eq ""} {
		return ""
	}
	return [::host::find_sdk $name]
}

# ---- running --------------------------------------------------------------------------------------------------------

# Runs one phase of a port that the user named, with what it needs. Returns 0 or 1.
proc port::run_phase {action port} {
	dict with port {}
	if {$portdir eq ""} {
		if {$action in {activate clean} || $version ne ""} {
			set image [installed_version $name $version]
			if {$image ne "" && $action eq "activate"} {
				::host::image_activate $name $version [expr {[opt force] eq "1"}]
				return 0
			}
		}
		set portdir [find $name]
	}
	set worker [open_port $portdir $name $variants $options]
	try {
		set real [worker_option $worker version]
		if {$version ne "" && $version ni [list $real ${real}_[worker_option $worker revision]]} {
			return -code error "[worker_option $worker subport] @$version is not in the tree: it has @$real"
		}
		check_variants $worker $variants
		$worker eval {set ::ports_requested 1}
		return [run_worker $worker $action]
	} finally {
		close_port $worker
	}
}

proc port::installed_version {name version} {
	set entries [::host::registry_installed $name $version]
	return [lindex $entries 0]
}

# Dependencies, then the phase itself, then what an installation leaves to be cleaned. Returns 0 or 1.
proc port::run_worker {worker action} {
	variable installing
	set name [worker_option $worker subport]
	set at [lsearch -exact -nocase $installing $name]
	if {$at >= 0} {
		return -code error "the ports [join [concat [lrange $installing $at end] [list $name]] { -> }] depend on each other"
	}
	set target [expr {$action eq "install" ? "activate" : $action}]
	if {$action in {install} && [opt force] ne "1" && [is_active $worker]} {
		ui_info "$name @[worker_option $worker version]_[worker_option $worker revision][$worker eval {set ::portvariants}] is already installed and active"
		return 0
	}
	if {[worker_option $worker known_fail] eq "yes" && $target ni {clean fetch checksum extract patch} && [opt force] ne "1"} {
		return -code error "$name is known to fail; use -f to try nevertheless"
	}
	$worker eval [list portinstall::choose_archive $target]
	lappend installing $name
	try {
		if {$target ni {clean load unload reload} && [opt nodeps] ne "1"} {
			if {[install_dependencies $worker $target]} {
				return 1
			}
		}
		set log [worker_option $worker logpath]
		if {$target ne "clean"} {
			if {[catch {::host::log_open $log} message]} {
				return -code error "cannot write the log: $message"
			}
		}
		try {
			set status [$worker eval [list eval_targets $target]]
		} finally {
			::host::log_phase main
			::host::log_close
		}
		if {$status} {
			if {![::host::interrupted] && $target ne "clean" && [file exists $log]} {
				ui_error "See $log for details."
			}
			set failed [$worker eval {set ::portutil::failed_phase}]
			if {![::host::interrupted] && $failed in [$worker eval {set ::portutil::shell_phases}]} {
				ui_error "A shell where it failed: [shell_line $worker $failed]"
			}
			return 1
		}
		if {$action eq "install" && [$worker eval {tbool ports_trace}]} {
			$worker eval portutil::report_usage
		}
		if {$action in {install activate} && [opt keep] ne "1" && [::host::setting_flag portautoclean]} {
			$worker eval {eval_targets clean}
		}
		return 0
	} finally {
		set installing [lrange $installing 0 end-1]
	}
}

proc port::is_active {worker} {
	return [::host::registry_is_active [worker_option $worker subport] [worker_option $worker version] \
		[worker_option $worker revision] [$worker eval {set ::portvariants}]]
}

# Installs what a target of a port needs and is not there. Returns 0, or 1 after the message of what failed.
proc port::install_dependencies {worker target} {
	variable installing
	set name [worker_option $worker subport]
	set types_of $target
	set image [list [worker_option $worker subport] [worker_option $worker version] [worker_option $worker revision] \
		[$worker eval {set ::portvariants}]]
	if {$target in {install activate} && [$worker eval {set ::portinstall::archive}] ne ""} {
		set types_of activate
	} elseif {$target eq "activate" && ![::host::registry_is_installed {*}$image]} {
		set types_of install
	}
	set specs [$worker eval [list portutil::dependencies [$worker eval [list portutil::types_for_target $types_of]]]]
	set missing [lmap spec $specs {
		if {[$worker eval [list portutil::is_satisfied $spec]]} continue
		set spec
	}]
	if {[llength $specs]} {
		ui_notice "--->  Computing dependencies for $name"
	}
	if {[llength $missing]} {
		ui_notice "--->  Dependencies to be installed: [join [lmap spec $missing {lindex [split $spec :] end}] { }]"
	}
	foreach spec $missing {
		# One that came in with another meanwhile.
		if {[$worker eval [list portutil::is_satisfied $spec]]} {
			continue
		}
		set needed [lindex [split $spec :] end]
		if {[catch {find $needed} portdir]} {
			return -code error "$name needs $spec: $portdir"
		}
		# A variant that the user asked for is meant for all that is built.
		set other [open_port $portdir $needed [$worker eval {set ::portutil::asked_variants}] {}]
		try {
			if {[run_worker $other install]} {
				ui_error "$name was not built: its dependency $needed failed"
				return 1
			}
		} finally {
			close_port $other
		}
	}
	return 0
}
