# variants.tcl: a variant that is asked for, and that the port does not have.

# What is asked of a port is meant for all that is built, so it may be a dependency's. An error where it is nobody's: with
# the name mistyped another port would be built than was meant.
proc port::check_variants {worker variants} {
	set name [worker_option $worker subport]
	dict for {variant sign} $variants {
		if {[$worker eval [list variant_exists $variant]]} {
			continue
		}
		if {![info exists below]} {
			set below [variants_below $worker]
		}
		if {$variant ni $below} {
			set own [lsort [worker_eval $worker {dict keys $::portutil::known_variants}]]
			set has [expr {[llength $own] ? "$name has [join $own {, }]" : "$name has none"}]
			return -code error "neither $name nor a port that it needs has a variant $variant: $has"
		}
		ui_warn "$name has no variant $variant: $sign$variant is left to its dependencies"
	}
}

# The variants of all ports that a port needs, however far. One that is in no tree, or damaged, is told of when it is needed.
proc port::variants_below {worker} {
	set seen [dict create]
	set todo [needed_ports $worker]
	set found {}
	while {[llength $todo]} {
		set todo [lassign $todo name]
		if {[dict exists $seen [string tolower $name]]} {
			continue
		}
		dict set seen [string tolower $name] 1
		if {[catch {open_port [find $name] $name {} {}} other]} {
			continue
		}
		try {
			lappend found {*}[worker_eval $other {dict keys $::portutil::known_variants}]
			lappend todo {*}[needed_ports $other]
		} finally {
			close_port $other
		}
	}
	return $found
}

proc port::needed_ports {worker} {
	return [lmap {type spec} [worker_eval $worker portutil::declared] {lindex [split $spec :] end}]
}
