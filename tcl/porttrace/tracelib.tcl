# tracelib.tcl: MacPorts' low-level command, which portutil calls beside the
# package, and which programs may use by itself.
#
# Its state belongs to the process, not to an interpreter: setname, opensocket
# and run are called in a helper thread, the rest in another.

namespace eval porttrace::tracelib {}

##
# Take the place of Pextlib's command of that name. Pextlib comes first, else
# loading it later would bring the old one back.
proc porttrace::tracelib::install {} {
    if {[llength [package versions Pextlib]] || [llength [info commands ::tracelib]]} {
        catch {package require Pextlib 1.0}
    }
    interp alias {} ::tracelib {} ::porttrace::tracelib::command
}

proc porttrace::tracelib::command {args} {
    if {![llength $args]} {
        return -code error -errorcode {TCL WRONGARGS} {wrong # args: should be "tracelib option"}
    }
    set words [lassign $args option]
    if {$::porttrace::tracing} {
        # This interpreter's own trace, started with trace_start.
        switch -- $option {
            setdeps {
                check_words $option $words 1
                return [::porttrace::setdeps [lindex $words 0]]
            }
            enablefence {
                check_words $option $words 0
                return [::porttrace::trace_enable_fence]
            }
            closesocket {
                # Nothing is pending ever: processes write what they did into
                # memory that is shared. (A core that is gone is said here.)
                check_words $option $words 0
                if {![::porttrace::in_macports]} {
                    # MacPorts asks what was found right after it.
                    ::porttrace::or_give_up {::porttrace::call trace_active}
                }
                return
            }
            clean - setname - opensocket - run {
                check_words $option $words [expr {$option eq "setname"}]
                return
            }
            setsandbox {
                check_words $option $words 1
                ::porttrace::follow [list sandbox [lindex $words 0]]
                return
            }
        }
    }
    switch -- $option {
        run {
            check_words $option $words 0
            tailcall [namespace current]::run
        }
        closesocket {
            ::porttrace::call tracelib closesocket {*}$words
            set deadline [expr {[clock milliseconds] + 4000}]
            while {[::porttrace::call tracelib waiting] && [clock milliseconds] < $deadline} {
                after 5
            }
            foreach pair [::porttrace::call tracelib account] {
                ::porttrace::say {*}$pair
            }
        }
        clean {
            ::porttrace::call tracelib clean {*}$words
            ::porttrace::restore_environment
        }
        setsandbox - setdeps - enablefence {
            ::porttrace::apply_environment [::porttrace::call tracelib $option {*}$words]
        }
        default {
            ::porttrace::call tracelib $option {*}$words
        }
    }
    return
}

##
# Wait until closesocket, then report in the namespace of the caller.
proc porttrace::tracelib::run {} {
    ::porttrace::call tracelib run
    while {1} {
        lassign [::porttrace::call tracelib poll] state news
        foreach {kind path} $news {
            uplevel 1 [list [dict get {
                violation slave_add_sandbox_violation unknown slave_add_sandbox_unknown
            } $kind] $path]
        }
        if {$state eq "closed"} {
            return
        }
        after 20
    }
}

proc porttrace::tracelib::check_words {option words number} {
    if {[llength $words] != $number} {
        return -level 2 -code error -errorcode {TCL WRONGARGS} \
            "wrong # args: should be \"tracelib $option[string repeat { value} $number]\""
    }
}

porttrace::tracelib::install
