# whereabouts.tcl: what another interpreter, or another thread, has to know before it can read our files.

##
# A script that sets some of our variables there as they are here; one that has no value here gets none.
#
# @param names names of variables of the namespace porttrace
proc porttrace::whereabouts {names} {
    set known [list]
    foreach name $names {
        if {[info exists ::porttrace::$name]} {
            lappend known $name [set ::porttrace::$name]
        }
    }
    return [list namespace eval ::porttrace [list variable {*}$known]]
}
