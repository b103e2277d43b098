# variants.tcl: variant, default_variants, platform, subport, PortGroup.

namespace eval portutil {
	# name -> dict: requires conflicts description body
	variable known_variants [dict create]
	# What the user asked for, then what was decided: name -> + or -
	variable asked_variants [dict create]
	variable chosen_variants [dict create]
	# An installed port has the variants of the registry, not those that are the default
	variable exact_variants 0
	variable subports {}
	variable groups {}
}

# variant NAME ?requires X ...? ?conflicts Y ...? ?description {text}? ?{body}?
proc variant {args} {
	if {![llength $args]} {
		return -code error "variant takes a name and a block: variant NAME \[requires X] \[conflicts Y] \[description {text}] { ... }"
	}
	set names {}
	set record [dict create requires {} conflicts {} description "" body "" place [portutil::place]]
	set body [lindex $args end]
	set mode provides
	for {set i 0} {$i < [llength $args] - 1} {incr i} {
		set word [lindex $args $i]
		switch -exact -- $word {
			requires - conflicts {set mode $word}
			description {
				incr i
				dict set record description [join [lindex $args $i]]
			}
			default {
				if {$mode eq "provides"} {
					lappend names $word
				} else {
					dict lappend record $mode $word
				}
			}
		}
	}
	if {[llength $names] != 1} {
		return -code error "variant takes one name and a block, not \"[lrange $args 0 end-1]\""
	}
	set name [lindex $names 0]
	if {![regexp {^[A-Za-z0-9_]+$} $name]} {
		return -code error "variant \"$name\": a variant's name holds letters, digits and _ only"
	}
	dict set record body [portutil::make_body $body [portutil::place]]
	dict set portutil::known_variants $name $record
	return
}

proc variant_exists {name} {
	return [dict exists $portutil::known_variants $name]
}

proc variant_isset {name} {
	set sign ""
	if {[dict exists $portutil::chosen_variants $name]} {
		set sign [dict get $portutil::chosen_variants $name]
	} elseif {[dict exists $portutil::asked_variants $name]} {
		set sign [dict get $portutil::asked_variants $name]
	}
	return [expr {$sign eq "+"}]
}

proc variant_set {name} {
	dict set portutil::chosen_variants $name +
}

proc variant_undef {name} {
	dict set portutil::chosen_variants $name -
}

proc variant_remove {name} {
	dict unset portutil::known_variants $name
}

# default_variants +a -b: for those that the user did not name.
proc portutil::add_default_variants {option action {value ""}} {
	variable asked_variants
	variable chosen_variants
	variable exact_variants
	if {$action ne "set"} {
		return
	}
	foreach word $value {
		if {![regexp {^([+-])(\w+)$} $word -> sign name]} {
			return -code error "default_variants: \"$word\" is not of the form +NAME or -NAME"
		}
		if {![dict exists $asked_variants $name] && !$exact_variants} {
			dict set chosen_variants $name $sign
		}
	}
}

# Decides the variants and runs their bodies. Called once, after the Portfile.
proc portutil::eval_variants {} {
	variable known_variants
	variable asked_variants
	variable chosen_variants
	dict for {name sign} $asked_variants {
		if {[dict exists $known_variants $name]} {
			dict set chosen_variants $name $sign
		} elseif {$sign eq "+"} {
			ui_debug "variant +$name is not one of this port's"
		}
	}
	dict for {name sign} $chosen_variants {
		if {![dict exists $known_variants $name]} {
			dict unset chosen_variants $name
		}
	}
	set queue [lmap {name sign} $chosen_variants {
		if {$sign ne "+"} continue
		set name
	}]
	set done {}
	while {[llength $queue]} {
		set queue [lassign $queue name]
		if {$name in $done} {
			continue
		}
		lappend done $name
		foreach needed [dict get $known_variants $name requires] {
			if {![dict exists $known_variants $needed]} {
				return -code error "variant +$name requires +$needed, which does not exist"
			}
			if {[dict exists $asked_variants $needed] && [dict get $asked_variants $needed] eq "-"} {
				return -code error "variant +$name requires +$needed, and -$needed was asked for"
			}
			dict set chosen_variants $needed +
			lappend queue $needed
		}
	}
	foreach name $done {
		foreach other [dict get $known_variants $name conflicts] {
			if {$other in $done} {
				return -code error "variant +$name conflicts with +$other: choose one of them"
			}
		}
	}
	# Required variants first.
	set ordered {}
	foreach name $done {
		portutil::order_variant $name ordered
	}
	foreach name $ordered {
		uplevel #0 [dict get $known_variants $name body]
	}
	global portvariants portvariations
	set portvariants ""
	foreach name [lsort $ordered] {
		append portvariants +$name
	}
	set portvariations {}
	foreach name [lsort [dict keys $chosen_variants]] {
		lappend portvariations $name [dict get $chosen_variants $name]
	}
	foreach {name} [lsort $done] {
		ui_debug "Executing variant $name"
	}
}

proc portutil::order_variant {name listname} {
	upvar 1 $listname ordered
	variable known_variants
	if {$name in $ordered} {
		return
	}
	foreach needed [dict get $known_variants $name requires] {
		if {$needed ni $ordered} {
			portutil::order_variant $needed ordered
		}
	}
	if {$name ni $ordered} {
		lappend ordered $name
	}
}

# platform OS ?RELEASE? ?ARCH? {body}: evaluated at once where it describes this machine.
proc platform {args} {
	global os.platform os.major os.arch os.subplatform
	if {[llength $args] < 2} {
		return -code error "platform takes an operating system and a block: platform darwin { ... }"
	}
	set body [lindex $args end]
	set matches 1
	# "darwin >= 11" is one word, or three
	foreach word [regsub -all {([<>]=?)\s+} [join [lrange $args 0 end-1]] {\1}] {
		if {[regexp {^(>=|<=|>|<)?\s*(\d+)$} $word -> operator release]} {
			if {$operator eq ""} {
				set operator ==
			}
			if {![expr "${os.major} $operator $release"]} {
				set matches 0
			}
		} elseif {$word in {i386 x86_64 powerpc ppc ppc64 arm arm64 aarch64}} {
			if {$word ne ${os.arch} && !($word in {i386 x86_64} && ${os.arch} eq "i386")} {
				set matches 0
			}
		} elseif {$word ni [list any ${os.platform} ${os.subplatform}]} {
			set matches 0
		}
	}
	if {$matches} {
		uplevel 1 $body
	}
	return
}

# subport NAME {body}: a port of its own out of the same Portfile; the body counts when that port is asked for.
proc subport {name body} {
	global subport PortInfo
	lappend portutil::subports $name
	if {[string equal -nocase $name $subport]} {
		set subport $name
		uplevel 1 $body
	}
	return
}

# PortGroup NAME VERSION: code that several Portfiles share, from _resources of the port's own tree, else of another.
proc PortGroup {name version} {
	global porttree_resources
	if {[list $name $version] in $portutil::groups} {
		return
	}
	foreach resources $porttree_resources {
		set file [file join $resources port1.0 group $name-$version.tcl]
		if {[file isfile $file]} {
			lappend portutil::groups [list $name $version]
			uplevel #0 [list source -encoding utf-8 $file]
			return
		}
	}
	return -code error "PortGroup $name $version: no $name-$version.tcl in [join [lmap r $porttree_resources {file join $r port1.0 group}] {, }]"
}
