# messages.tcl: how the user is told, by the commands of the port tool where there are any.

namespace eval porttrace {
    # What messages are shown at the least in a program that has no ui_*.
    variable verbose 0
}

proc porttrace::is_verbose {} {
    variable verbose
    if {$verbose} {
        return 1
    }
    # the one of port(1)'s workers, and the one of the port tool here
    foreach name {::portverbose ::ports_verbose} {
        if {[info exists $name] && [string is true -strict [set $name]]} {
            return 1
        }
    }
    return 0
}

proc porttrace::say {level text} {
    set command ::ui_$level
    if {[llength [info commands $command]]} {
        $command $text
        return
    }
    switch -- $level {
        msg - notice { puts stderr $text }
        warn { puts stderr "Warning: $text" }
        error { puts stderr "Error: $text" }
        default {
            variable verbose
            if {$verbose} {
                puts stderr $text
            }
        }
    }
}
