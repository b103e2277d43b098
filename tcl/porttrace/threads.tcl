# threads.tcl: threads that a Portfile makes for itself.
#
# Their interpreters have Tcl's own commands, as those of `interp create` do
# (children.tcl), and what they start is started by the same process. A thread
# that is made while a trace is in force loads this package, is known to the
# core by the name of its maker, and has the maker's guards for as long as that.

namespace eval porttrace::inport {
    # Those that were made, and may still live.
    variable threads [list]
}

##
# Guard the commands that make threads, where there are any.
proc porttrace::inport::cover_threads {} {
    variable installed
    foreach {name guard} {thread::create guarded_thread tpool::create refused_threads} {
        if {[llength [info commands ::porttrace::core::invoke]]} {
            # The core in this process answers this thread only.
            set guard refused_threads
        }
        if {[llength [info commands ::$name]] && ![dict exists $installed $name]} {
            cover $name [namespace current]::$guard
        }
    }
}

proc porttrace::inport::guarded_thread {args} {
    variable threads
    ::porttrace::settle
    set at 0
    while {[lindex $args $at] in {-joinable -preserved}} {
        incr at
    }
    set script [expr {$at < [llength $args] ? [lindex $args $at] : "thread::wait"}]
    set made [[real_name thread::create] {*}[lrange $args 0 $at-1] "[thread_guards]\n$script" {*}[lrange $args $at+1 end]]
    lappend threads $made
    return $made
}

# A pool makes its threads by itself, whenever, and nobody could take the guards away again.
proc porttrace::inport::refused_threads {args} {
    return -code error -errorcode {PORTTRACE THREADS} \
        "porttrace: such threads would not be held by trace mode; with MacPorts those of thread::create are"
}

# The script that gives another thread the guards.
proc porttrace::inport::thread_guards {} {
    variable open_places
    set script [list [::porttrace::whereabouts {directory client python modules}]]
    lappend script [list if {![llength [info procs ::porttrace::inport::install]]} \
        [list source -encoding utf-8 [::tcl::file::join $::porttrace::directory porttrace.tcl]]]
    lappend script [list set ::porttrace::client $::porttrace::client]
    lappend script [list ::porttrace::inport::know [dict get $open_places read] [dict get $open_places write]]
    lappend script [list ::porttrace::inport::install [::porttrace::call launcher]]
    return [join $script "\n"]
}

##
# Give those that live the guards of a new trace. It has to be in force for that: they do not know how to see to it.
proc porttrace::inport::guard_threads {} {
    variable threads
    set threads [lmap thread $threads {expr {[thread::exists $thread] ? $thread : [continue]}}]
    if {[llength $threads]} {
        ::porttrace::settle
        set guards [thread_guards]
        foreach thread $threads {
            thread::send -async $thread $guards
        }
    }
}

proc porttrace::inport::tell_threads {args} {
    variable threads
    foreach thread $threads {
        if {[thread::exists $thread]} {
            thread::send -async $thread $args
        }
    }
}
