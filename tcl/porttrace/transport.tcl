# transport.tcl: the way to the core where it is a process of its own.
#
# One core per process: its pipe belongs to a helper thread that every
# interpreter and thread can reach, because a channel cannot be shared between
# interpreters that do not know each other. Where the Thread package is missing
# each interpreter that loads the package has a core of its own.

namespace eval porttrace::transport {
    # The pipe, in the interpreter that owns it.
    variable pipe ""

    # The helper thread, in the interpreters that use it.
    variable thread ""

    # A core that has said nothing for so long is taken for dead.
    variable patience_ms 4500

    variable directory $::porttrace::directory
}

##
# The Python that runs the core: PORTTRACE_PYTHON; the one that `porttrace
# integrate` wrote into the package's index; the one of the environment that
# this file lies in.
proc porttrace::transport::interpreter {} {
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

##
# Send one request and wait for its answer.
#
# @param words {client command arg ...}
# @return {status value errorcode core}: what went wrong with the core itself is
#         a status of error too, because errors lose their code between threads
proc porttrace::transport::request {words} {
    variable thread
    if {$thread eq ""} {
        set thread [find_thread]
    }
    if {$thread eq "none"} {
        return [direct $words]
    }
    return [thread::send $thread [list ::porttrace::transport::direct $words]]
}

##
# One of Tcl's own commands, also while a guard stands in front of it.
proc porttrace::transport::own {name} {
    set real ::porttrace::inport::real::$name
    return [expr {[llength [info commands $real]] ? $real : "::$name"}]
}

##
# The thread that owns this process's pipe; "none" where there are no threads.
proc porttrace::transport::find_thread {} {
    variable directory
    if {[catch {package require Thread}]} {
        return none
    }
    # The lock makes the first two interpreters agree on one thread.
    return [tsv::lock porttrace {
        if {![tsv::get porttrace thread found] || ![thread::exists $found]} {
            set found [thread::create]
            thread::send $found [list namespace eval ::porttrace [list variable directory $directory]]
            if {[info exists ::porttrace::python]} {
                thread::send $found [list namespace eval ::porttrace [list variable python $::porttrace::python]]
            }
            thread::send $found [list source -encoding utf-8 [file join $directory transport.tcl]]
            tsv::set porttrace thread $found
        }
        set found
    }]
}

##
# Talk to the core from the interpreter that owns the pipe.
proc porttrace::transport::direct {words} {
    variable pipe
    if {[catch {
        if {$pipe eq ""} {
            start
        }
        set body [encoding convertto utf-8 $words]
        puts -nonewline $pipe "[string length $body]\n$body"
        flush $pipe
        drain
        receive
    } answer options]} {
        give_up
        set code [dict get $options -errorcode]
        if {[lrange $code 0 1] ne {PORTTRACE CORE}} {
            set answer "porttrace: the core cannot be reached any more ($answer); its trace is lost"
            set code {PORTTRACE CORE DIED}
        }
        return [list error $answer $code ""]
    }
    return $answer
}

##
# Start the core without waiting for it, so that it is there when it is needed.
proc porttrace::transport::prepare {} {
    variable thread
    if {$thread eq ""} {
        set thread [find_thread]
    }
    if {$thread ne "none"} {
        thread::send -async $thread ::porttrace::transport::prepare_here
    } else {
        prepare_here
    }
}

proc porttrace::transport::prepare_here {} {
    variable pipe
    # what fails here fails again, and is said, where the core is needed
    if {$pipe eq ""} {
        catch start
    }
}

proc porttrace::transport::start {} {
    variable pipe
    set python [interpreter]
    # A core that is started while a trace is in force is none of the traced.
    set preload [array get ::env LD_PRELOAD]
    unset -nocomplain ::env(LD_PRELOAD)
    # -I: neither the build's PYTHON* variables nor its directories matter
    set failed [catch {[own open] |[list $python -I -m porttrace.tclbridge.coprocess] r+} channel]
    array set ::env $preload
    if {$failed} {
        return -code error -errorcode {PORTTRACE CORE START} "porttrace: the core does not start: $channel"
    }
    fconfigure $channel -translation binary -buffering full -blocking 0
    set pipe $channel
}

# A request that is longer than what the pipe holds goes in pieces, which Tcl
# writes in its event loop only; such requests (a filemap as bytes) are rare.
proc porttrace::transport::drain {} {
    variable pipe
    variable patience_ms
    variable tick
    set deadline [expr {[clock milliseconds] + $patience_ms}]
    while {[chan pending output $pipe] > 0} {
        if {[clock milliseconds] > $deadline} {
            silent
        }
        after 1 [list set [namespace current]::tick 1]
        vwait [namespace current]::tick
    }
}

##
# Read one answer. Polls, because waiting in the event loop would run foreign
# events in the middle of a command, and a plain read could wait for ever: most
# answers come within the first millisecond, during which nothing sleeps.
proc porttrace::transport::receive {} {
    variable pipe
    variable patience_ms
    set received ""
    set wanted -1
    set begun [clock microseconds]
    while {1} {
        if {$wanted < 0} {
            if {[gets $pipe line] >= 0} {
                if {![string is digit -strict $line]} {
                    return -code error -errorcode {PORTTRACE CORE PROTOCOL} \
                        "porttrace: the core said something that is not its protocol: [string range $line 0 60]"
                }
                set begun [clock microseconds]
                if {$line > 0} {
                    set wanted $line
                }
                continue
            }
        } else {
            append received [read $pipe [expr {$wanted - [string length $received]}]]
            if {[string length $received] == $wanted} {
                return [encoding convertfrom utf-8 $received]
            }
        }
        if {[eof $pipe]} {
            return -code error -errorcode {PORTTRACE CORE DIED} \
                "porttrace: the core has ended unexpectedly; its trace is lost"
        }
        set waited [expr {([clock microseconds] - $begun) / 1000}]
        if {$waited > $patience_ms} {
            silent
        }
        if {$waited >= 1} {
            after 1
        }
    }
}

proc porttrace::transport::silent {} {
    variable patience_ms
    return -level 2 -code error -errorcode {PORTTRACE CORE HUNG} \
        [format "porttrace: the core has not answered for %.1f seconds and was ended; its trace is lost" \
            [expr {$patience_ms / 1000.0}]]
}

##
# End a core that died or hangs; the next request starts another.
proc porttrace::transport::give_up {} {
    variable pipe
    if {$pipe eq ""} {
        return
    }
    set processes [pid $pipe]
    catch {close $pipe}
    set pipe ""
    foreach process $processes {
        catch {[own exec] kill -KILL $process 2>/dev/null}
    }
}

##
# End the core in good order: the pipe's end is its end, and it answers that by
# ending. So nothing of ours is left when this process ends.
proc porttrace::transport::stop {args} {
    variable thread
    variable pipe
    variable patience_ms
    if {$thread ni {"" none}} {
        catch {thread::send $thread ::porttrace::transport::stop}
        return
    }
    if {$pipe eq ""} {
        return
    }
    catch {
        close $pipe write
        set deadline [expr {[clock milliseconds] + $patience_ms}]
        while {[read $pipe] ne "" || ![eof $pipe]} {
            if {[clock milliseconds] > $deadline} {
                break
            }
            after 1
        }
    }
    if {[catch {eof $pipe} ended] || !$ended} {
        give_up
        return
    }
    catch {
        # reap it: it has closed its end as its last deed
        fconfigure $pipe -blocking 1
        close $pipe
    }
    set pipe ""
}
