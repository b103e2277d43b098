# depends.tcl: depends_fetch ... depends_test, and which of them a target needs.

namespace eval portutil {
	variable dependency_types {depends_fetch depends_extract depends_patch depends_lib depends_build depends_run depends_test}
}

options {*}$portutil::dependency_types

proc portutil::check_dependencies {option action {value ""}} {
	if {$action ne "set"} {
		return
	}
	foreach spec $value {
		if {![regexp {^(port:[^:/\s]+|(bin|lib|path):[^:]+:[^:/\s]+)$} $spec]} {
			return -code error "$option: cannot read \"$spec\": expected port:NAME, bin:PROGRAM:PORT, lib:NAME:PORT or path:FILE:PORT"
		}
	}
	portutil::export $option set $value
}

foreach portutil::type $portutil::dependency_types {
	option_proc $portutil::type portutil::check_dependencies
}
unset portutil::type

# The dependency types that must be there before a target runs.
proc portutil::types_for_target {target} {
	set types {}
	switch -exact -- $target {
		fetch - checksum {set types depends_fetch}
		extract {set types {depends_fetch depends_extract}}
		patch {set types {depends_fetch depends_extract depends_patch}}
		configure - build {set types {depends_fetch depends_extract depends_patch depends_lib depends_build}}
		test {
			set types {depends_fetch depends_extract depends_patch depends_lib depends_build depends_run depends_test}
		}
		destroot - archive - install {
			set types {depends_fetch depends_extract depends_patch depends_lib depends_build depends_run}
		}
		activate {set types {depends_lib depends_run}}
	}
	return $types
}

# What a traced target may see. Installing and activating work on a finished image: what was needed to build it
# need not be there.
proc portutil::types_to_trace {target} {
	if {$target in {install activate deactivate}} {
		return {depends_lib depends_run}
	}
	return [portutil::types_for_target $target]
}

proc portutil::dependencies {types} {
	set specs {}
	foreach type $types {
		if {[exists $type]} {
			foreach spec [option $type] {
				if {$spec ni $specs} {
					lappend specs $spec
				}
			}
		}
	}
	return $specs
}

# The file that satisfies bin:, lib: or path:, or "" where none does.
proc portutil::satisfying_file {spec} {
	global prefix env
	lassign [split $spec :] form what
	switch -exact -- $form {
		bin {
			foreach directory [split $env(PATH) :] {
				set file [file join $directory $what]
				if {[file isfile $file] && [file executable $file]} {
					return $file
				}
			}
		}
		path {
			set file [expr {[file pathtype $what] eq "absolute" ? $what : [file join $prefix $what]}]
			if {[file exists $file]} {
				return $file
			}
		}
		lib {
			set name [regsub {^lib} $what ""]
			regexp {^([^.]+)(?:\.(.*))?$} $name -> stem release
			set patterns [list lib$stem.so* lib$stem.*dylib lib$stem.a]
			if {[info exists release] && $release ne ""} {
				set patterns [list lib$stem.so.$release* lib$stem.$release*dylib]
			}
			set multiarch [glob -nocomplain -types d /usr/lib/*-linux-gnu*]
			foreach directory [list [file join $prefix lib] /lib /usr/lib {*}$multiarch] {
				foreach pattern $patterns {
					set found [lsort [glob -nocomplain -directory $directory $pattern]]
					if {[llength $found]} {
						return [lindex $found 0]
					}
				}
			}
		}
	}
	return ""
}

# The port that a dependency means now: the named one where it is active, else the one to which the file belongs that
# satisfies bin:, lib: or path:; "" where that file is no port's.
proc portutil::port_of {spec} {
	global env
	return [registry_provider $spec [split $env(PATH) :]]
}

# Names of the ports that a traced target may see, their own dependencies included.
proc portutil::traced_ports {target} {
	set names {}
	foreach spec [portutil::dependencies [portutil::types_to_trace $target]] {
		set name [portutil::port_of $spec]
		if {$name ne "" && $name ni $names} {
			lappend names $name
		}
	}
	if {$target in {activate deactivate}} {
		# what a port does with its own files when they come and go
		lappend names $::subport
	}
	return [lsort [registry_closure $names]]
}

# Whether nothing has to be installed for a dependency.
proc portutil::is_satisfied {spec} {
	if {[registry_active [lindex [split $spec :] end]] ne ""} {
		return 1
	}
	return [expr {[portutil::satisfying_file $spec] ne ""}]
}
