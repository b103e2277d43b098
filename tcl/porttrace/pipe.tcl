# pipe.tcl: the core's process, and the pipe to it, in the interpreter that owns them.
#
# That is the helper thread's wherever there are threads. It never waits for the
# core: answers come as events. So it is the one that notices a core that died or
# hangs, also while port itself waits for a long build: it then has the phase's
# processes ended, and port goes on.

namespace eval porttrace::pipe {
    # The pipe; empty where no core runs.
    variable channel ""

    # A core that has said nothing for so long is taken for dead.
    variable patience_ms 4000

    # So often the helper thread looks whether an idle core still answers.
    variable look_every_ms 500

    # Requests under way, oldest first: the core answers in their order.
    variable waiting [list]

    # When the core said something last, or was first asked since.
    variable heard 0

    # What came of an answer so far, and its length (-1: not known yet).
    variable received ""
    variable wanted -1

    # Whether the present core has answered anything yet.
    variable proven 0

    # What is said of one that is gone.
    variable ended "porttrace: the core has ended unexpectedly; its trace is lost"

    variable directory $::porttrace::directory
}

##
# The Python that runs the core: PORTTRACE_PYTHON; the one that `porttrace
# integrate` wrote into the package's index; the one of the environment that
# this file lies in.
proc porttrace::pipe::interpreter {} {
    variable directory
    if {[info exists ::env(PORTTRACE_PYTHON)] && $::env(PORTTRACE_PYTHON) ne ""} {
        set tried [list $::env(PORTTRACE_PYTHON)]
    } elseif {[info exists ::porttrace::python]} {
        set tried [list $::porttrace::python]
    } else {
        # …/bin/python3 of …/lib/python3.x/site-packages/porttrace/tcl/porttrace
        set tried [list [file join {*}[lrange [file split $directory] 0 end-6] bin python3]]
    }
    foreach candidate $tried {
        if {[file pathtype $candidate] eq "absolute" && [::tcl::file::executable $candidate]} {
            return $candidate
        }
    }
    return -code error -errorcode {PORTTRACE CORE NOPYTHON} \
        "porttrace: no Python to run the core with (tried [join $tried {, }]): set PORTTRACE_PYTHON to the absolute\
        path of one that has porttrace installed"
}

proc porttrace::pipe::start {} {
    variable channel
    variable received
    variable wanted
    set python [interpreter]
    # A core that is started while a trace is in force is none of the traced.
    # -I: neither the build's PYTHON* variables nor its directories matter. Where it is known in which directories the
    # core's modules lie, Python need not look for all that is installed (-S).
    set directories [list]
    set words [list -I]
    if {[info exists ::porttrace::modules] && $python eq $::porttrace::python} {
        set directories $::porttrace::modules
        lappend words -S
    }
    lappend words -c "import sys; sys.path += sys.argv\[1:\];\
        from porttrace.tclbridge.coprocess import serve; serve()" {*}$directories
    ::porttrace::transport::with_environment {
        set preload [array get ::env LD_PRELOAD]
        unset -nocomplain ::env(LD_PRELOAD)
        set failed [catch {[::porttrace::transport::own open] |[list $python {*}$words] r+} opened]
        array set ::env $preload
    }
    if {$failed} {
        return -code error -errorcode {PORTTRACE CORE START} "porttrace: the core does not start: $opened"
    }
    fconfigure $opened -translation binary -buffering full -blocking 0
    set channel $opened
    set received ""
    set wanted -1
    if {$::porttrace::transport::helper} {
        listen
    }
}

##
# Start the core where there is none yet, and have it do something that nobody waits for.
proc porttrace::pipe::prepare {request} {
    # what fails here fails again, and is said, where the core is needed
    send "" [list "" {*}$request]
}

##
# Give up the pipe to another owner.
proc porttrace::pipe::release {} {
    variable channel
    set released $channel
    set channel ""
    return $released
}

##
# In the helper thread: the channel of a core that was started elsewhere.
proc porttrace::pipe::adopt {started} {
    variable channel
    if {$channel ne ""} {
        catch {close $started}
        return
    }
    set channel $started
    listen
}

##
# In the helper thread: be told what the core says, and look after it.
proc porttrace::pipe::listen {} {
    variable channel
    variable look_every_ms
    fileevent $channel readable [namespace current]::hear
    after cancel [namespace current]::look
    after $look_every_ms [namespace current]::look
}

##
# Send one request; its answer is delivered. Starts the core where there is none.
proc porttrace::pipe::send {key words} {
    variable channel
    variable ended
    variable waiting
    variable heard
    if {[catch {
        if {$channel eq ""} {
            start
        }
        if {![llength $waiting]} {
            set heard [clock milliseconds]
        }
        lappend waiting $key
        set body [encoding convertto utf-8 $words]
        puts -nonewline $channel "[string length $body]\n$body"
        flush $channel
    } message options]} {
        set at [lsearch -exact $waiting $key]
        set waiting [lreplace $waiting $at $at]
        set code [dict get $options -errorcode]
        if {[lrange $code 0 1] eq {POSIX EPIPE}} {
            # whoever looks first, a request or its end that is to be read, it is the same
            set message $ended
            set code {PORTTRACE CORE DIED}
        } elseif {[lrange $code 0 1] ne {PORTTRACE CORE}} {
            set message "porttrace: the core cannot be reached any more ($message); its trace is lost"
            set code {PORTTRACE CORE DIED}
        }
        ::porttrace::transport::deliver $key [list error $message $code ""]
        lost $message $code
    }
}

##
# Take what the core has said, and deliver the answers that are complete.
proc porttrace::pipe::hear {} {
    variable channel
    variable ended
    variable waiting
    variable heard
    variable received
    variable wanted
    variable proven
    while {$channel ne ""} {
        if {$wanted < 0} {
            if {[catch {gets $channel line} length]} {
                lost "porttrace: the core cannot be reached any more ($length); its trace is lost" {PORTTRACE CORE DIED}
                return
            }
            if {$length >= 0} {
                if {![string is digit -strict $line]} {
                    lost "porttrace: the core said something that is not its protocol: [string range $line 0 60]" \
                        {PORTTRACE CORE PROTOCOL}
                    return
                }
                set heard [clock milliseconds]
                # 0: it is still at work
                if {$line > 0} {
                    set wanted $line
                }
                continue
            }
        } else {
            append received [read $channel [expr {$wanted - [string length $received]}]]
            if {[string length $received] == $wanted} {
                set waiting [lassign $waiting key]
                set proven 1
                ::porttrace::transport::deliver $key [encoding convertfrom utf-8 $received]
                set received ""
                set wanted -1
                continue
            }
        }
        if {[eof $channel]} {
            lost $ended {PORTTRACE CORE DIED}
        }
        return
    }
}

##
# Give up a core that owes an answer for too long.
proc porttrace::pipe::overdue {} {
    variable waiting
    variable heard
    variable patience_ms
    if {[llength $waiting] && [clock milliseconds] - $heard > $patience_ms} {
        lost [format "porttrace: the core has not answered for %.1f seconds and was ended; its trace is lost" \
            [expr {$patience_ms / 1000.0}]] {PORTTRACE CORE HUNG}
    }
}

##
# In the helper thread: see now and then whether the core is still there. A
# core that owes nothing is asked for a sign of life.
proc porttrace::pipe::look {} {
    variable channel
    variable waiting
    variable look_every_ms
    if {$channel eq ""} {
        return
    }
    overdue
    if {$channel ne "" && ![llength $waiting]} {
        send "" {"" pid}
    }
    if {$channel ne ""} {
        after [expr {[llength $waiting] ? 250 : $look_every_ms}] [namespace current]::look
    }
}

##
# The core died, hangs or talks nonsense: end it, tell all who wait for it, and
# have another one end the processes that it leaves.
proc porttrace::pipe::lost {message code} {
    variable waiting
    variable proven
    set orphans $waiting
    set recovers [expr {$::porttrace::transport::helper && $proven}]
    set ::porttrace::transport::why $message
    if {$::porttrace::transport::helper} {
        tsv::set porttrace why $message
    }
    set waiting [list]
    give_up
    if {$recovers} {
        # One that never answered would have no better successor. It starts while port still waits, because for a moment
        # there is no library in the environment.
        set proven 0
        send "" {"" recover}
    }
    foreach key $orphans {
        ::porttrace::transport::deliver $key [list error $message $code ""]
    }
}

##
# End a core that died or hangs; the next request starts another.
proc porttrace::pipe::give_up {} {
    variable channel
    if {$channel eq ""} {
        return
    }
    set processes [pid $channel]
    catch {close $channel}
    set channel ""
    foreach process $processes {
        catch {[::porttrace::transport::own exec] kill -KILL $process 2>/dev/null}
    }
}

##
# End the core in good order: the pipe's end is its end, and it answers that by
# ending. So nothing of ours is left when this process ends.
proc porttrace::pipe::stop {} {
    variable channel
    variable patience_ms
    if {$channel eq ""} {
        return
    }
    catch {
        fileevent $channel readable {}
        close $channel write
        set deadline [expr {[clock milliseconds] + $patience_ms}]
        while {[read $channel] ne "" || ![eof $channel]} {
            if {[clock milliseconds] > $deadline} {
                break
            }
            after 1
        }
    }
    if {[catch {eof $channel} ended] || !$ended} {
        give_up
        return
    }
    catch {
        # reap it: it has closed its end as its last deed
        fconfigure $channel -blocking 1
        close $channel
    }
    set channel ""
}
