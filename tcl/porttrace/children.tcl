# children.tcl: interpreters that a Portfile makes for itself.
#
# What `interp create` makes has Tcl's own commands. While a trace is in force
# each such interpreter is given the guards of the one that made it: the same
# files are read into it, and what they ask the core they ask by way of the
# maker. A safe interpreter has no command that uses a file, and is left alone;
# who exposes one in it, or invokes a hidden one, means to go around us
# (docs/macports.md says so).

proc porttrace::inport::guarded_interp {args} {
    if {[lindex $args 0] ne "create"} {
        tailcall [real_name interp] {*}$args
    }
    set made [[real_name interp] {*}$args]
    guard_child $made [::porttrace::call launcher]
    return $made
}

##
# The interpreters made by this one that have, or could be given, our guards. One that has loaded the package itself
# has traces of its own.
proc porttrace::inport::children {} {
    set found [list]
    foreach child [interp slaves] {
        if {![interp issafe $child] && ![llength [interp eval $child {info commands ::porttrace::trace_start}]]} {
            lappend found $child
        }
    }
    return $found
}

##
# Put the guards in front in another interpreter, after making them known there.
proc porttrace::inport::guard_child {child launcher} {
    variable open_places
    if {[interp issafe $child]} {
        return
    }
    if {![llength [interp eval $child {info commands ::porttrace::inport::install}]]} {
        interp alias $child ::porttrace::call {} ::porttrace::call
        interp alias $child ::porttrace::settle {} ::porttrace::settle
        interp alias $child ::porttrace::learn_places {} ::porttrace::learn_places
        interp eval $child [::porttrace::whereabouts {directory client python modules}]
        # It reads them by its own commands, before any of these is guarded.
        interp eval $child [list source -encoding utf-8 [::tcl::file::join $::porttrace::directory inport.tcl]]
    }
    interp eval $child [list ::porttrace::inport::know [dict get $open_places read] [dict get $open_places write]]
    interp eval $child [list ::porttrace::inport::install $launcher]
}

##
# Tell those that have the guards.
proc porttrace::inport::tell_children {args} {
    foreach child [children] {
        if {[llength [interp eval $child {info commands ::porttrace::inport::install}]]} {
            interp eval $child $args
        }
    }
}
