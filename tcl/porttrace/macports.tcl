# macports.tcl: what is special where MacPorts' own port(1) is the host.

# This interpreter runs the phases of MacPorts' own port(1).
proc porttrace::in_macports {} {
    return [expr {![catch {package present Pextlib}] && [llength [info procs ::target_run]]}]
}

proc porttrace::macports_context {target} {
    set context [list enforce 0 phase $target user [uid_to_name [geteuid]]]
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
# Phases of a port differ in what is the port's own. The places of the base system that were open in a former one are
# so in the next as well, where nothing else has changed.
#
# @return whether this phase is the first of its kind
proc porttrace::share_places {context} {
    variable common
    variable common_places
    set same [dict remove $context phase user tmpdir]
    set first [expr {$same ne $common}]
    if {$first} {
        set common $same
        set common_places [list]
    }
    inport::know $common_places {}
    return $first
}

proc porttrace::keep_common {places} {
    variable common
    variable common_places
    variable edited
    if {$edited || $common eq ""} {
        return
    }
    set own [list]
    foreach key {prefix portpath distpath portdbpath ccache_dir} {
        if {[dict exists $common $key] && [dict get $common $key] ne ""} {
            lappend own [dict get $common $key]
        }
    }
    set common_places [list]
    foreach pair $places {
        set place [lindex $pair 0]
        foreach directory $own {
            if {[string equal -length [string length $directory] $directory $place]} {
                set place ""
                break
            }
        }
        if {$place ne "" && ![string match */tmp $place]} {
            lappend common_places $pair
        }
    }
}
