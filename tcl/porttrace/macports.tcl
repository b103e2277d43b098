# macports.tcl: what is special where MacPorts' own port(1) is the host.

namespace eval porttrace {
    # What the last policy was made from that other phases have in common.
    variable common ""

    # Places where everything may be read in each phase under it, and the question for them that is on its way.
    variable common_places [list]
    variable asked_places ""

    # Users by number, as far as they were asked for: the phases of a port are run by two.
    variable names [dict create]

    # What the core says of the means to hold a phase, and whether the user was told.
    variable tiers_line ""
    variable tiers_said 0
}

# This interpreter runs the phases of MacPorts' own port(1).
proc porttrace::in_macports {} {
    return [expr {![catch {package present Pextlib}] && [llength [info procs ::target_run]]}]
}

proc porttrace::macports_context {target} {
    variable names
    set uid [geteuid]
    if {![dict exists $names $uid]} {
        dict set names $uid [uid_to_name $uid]
    }
    set context [list enforce 0 phase $target user [dict get $names $uid]]
    set database [expr {[info exists ::registry.path] ? ${::registry.path} :
        [info exists ::portdbpath] ? $::portdbpath : ""}]
    if {$database ne ""} {
        lappend context registry [file join $database registry registry.db]
    }
    if {[info exists ::portdbpath]} {
        lappend context portdbpath $::portdbpath
    }
    foreach {key variables} {ccache_dir {::env(CCACHE_DIR) ::ccache_dir} tmpdir ::env(TMPDIR)} {
        set found ""
        foreach variable $variables {
            if {$found eq "" && [info exists $variable]} {
                set found [string trim [set $variable]]
            }
        }
        lappend context $key [expr {[string index $found 0] eq "/" ? $found : ""}]
    }
    set readable [list]
    foreach variable {::configure.sdkroot ::developer_dir} {
        # On Linux the latter is empty, which must not come to mean everything.
        if {[info exists $variable] && [string length [string trim [set $variable] / ]]} {
            lappend readable [set $variable]
        }
    }
    lappend context readable $readable allowances [macports_allowances $target]
    return $context
}

# What the Portfile says with trace.read and its siblings, which the PortGroup porttrace 1.0 makes options of
# MacPorts: {kind path origin phase target}, in the order in which they decide.
proc porttrace::macports_allowances {target} {
    set rows [list]
    foreach form [list $target.trace_ trace.] {
        foreach kind {hide read write} {
            if {![info exists ::$form$kind]} {
                continue
            }
            foreach word [set ::$form$kind] {
                if {[regexp {^(.*?)=>(.*)$} $word -> path redirected]} {
                    lappend rows [list redirect $path $form$kind "" $redirected]
                } else {
                    lappend rows [list $kind $word $form$kind "" ""]
                }
            }
        }
    }
    return $rows
}

##
# Phases of a port differ in what may be written; what may be read in one is read in the next as well, but for temporary
# files and what is named for the phase, where nothing else has changed. The core is asked for that once, while port has
# other things to do: a question about the port's own files needs no policy then, which is made meanwhile.
#
# @param workpath as for trace_start
proc porttrace::share_places {context workpath} {
    variable client
    variable common
    variable common_places
    variable asked_places
    variable queued
    set same [dict replace [dict remove $context phase user tmpdir] workpath $workpath]
    if {$same ne $common} {
        forget_places
        set common $same
        set asked_places [transport::post [list $client batch {*}$queued [list warm $workpath]]]
    }
    inport::know $common_places {}
}

##
# Forget them.
proc porttrace::forget_places {} {
    variable common ""
    variable common_places [list]
    learn_places
    set common_places [list]
}

##
# Take what the core has answered.
proc porttrace::learn_places {} {
    variable asked_places
    variable common_places
    variable tiers_line
    variable edited
    if {$asked_places eq ""} {
        return
    }
    lassign [transport::answer $asked_places] status answers
    set asked_places ""
    if {$status ne "ok"} {
        # whatever it is: the next request meets it, too
        return
    }
    lassign [lindex $answers end] places tiers_line
    if {!$edited} {
        set common_places $places
        inport::know $common_places {}
    }
}

##
# Phases in which nothing was held say nothing of the means by which it would have been; a run that has no others does,
# once.
proc porttrace::say_tiers {} {
    variable tiers_line
    variable tiers_said
    if {!$tiers_said} {
        learn_places
        if {$tiers_line ne ""} {
            set tiers_said 1
            say info $tiers_line
        }
    }
}

proc porttrace::tiers_were_said {} {
    variable tiers_said 1
}
