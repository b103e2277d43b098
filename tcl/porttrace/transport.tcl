# transport.tcl: the way to the core where it is a process of its own.
#
# One core per process: its pipe belongs to a helper thread that every
# interpreter and thread can reach, because a channel cannot be shared between
# interpreters that do not know each other. Where the Thread package is missing
# each interpreter that loads the package has a core of its own.
#
# The helper thread never waits for the core: answers come as events. So it is
# the one that notices a core that died or hangs, also while port itself waits
# for a long build: it then has the phase's processes ended, and port goes on.

namespace eval porttrace::transport {
    # The pipe, in the interpreter that owns it.
    variable pipe ""

    # The helper thread, in the interpreters that use it.
    variable thread ""

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

    # Answers by request, where there is no helper thread.
    variable answers [dict create]

    # How many requests this interpreter made.
    variable serial 0

    # Whether the present core has answered anything yet.
    variable proven 0

    # What became of the last core.
    variable why "porttrace: the core of this phase is gone; its trace is lost"

    # Whether this interpreter is the helper thread's.
    variable helper 0

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
    set key [tsv::incr porttrace serial]
    thread::send -async $thread [list ::porttrace::transport::send $key $words]
    set mutex [tsv::get porttrace mutex]
    set condition [tsv::get porttrace condition]
    thread::mutex lock $mutex
    while {![tsv::exists porttrace_answers $key]} {
        # No limit here: the helper thread answers for a core that does not.
        thread::cond wait $condition $mutex
    }
    set answer [tsv::pop porttrace_answers $key]
    thread::mutex unlock $mutex
    return $answer
}

##
# Send one request whose answer nobody waits for.
proc porttrace::transport::post {words} {
    variable thread
    if {$thread eq ""} {
        set thread [find_thread]
    }
    if {$thread eq "none"} {
        direct $words
    } else {
        thread::send -async $thread [list ::porttrace::transport::send "" $words]
    }
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
            tsv::set porttrace mutex [thread::mutex create]
            tsv::set porttrace condition [thread::cond create]
            set found [thread::create]
            set script [list namespace eval ::porttrace [list variable directory $directory]]
            if {[info exists ::porttrace::python]} {
                append script "\n" [list namespace eval ::porttrace [list variable python $::porttrace::python]]
            }
            append script "\n" [list source -encoding utf-8 [file join $directory transport.tcl]]
            append script "\nset ::porttrace::transport::helper 1"
            thread::send $found $script
            tsv::set porttrace thread $found
        }
        set found
    }]
}

##
# Talk to the core from an interpreter that has no helper thread. Polls, because
# waiting in the event loop would run foreign events in the middle of a command:
# most answers come within the first millisecond, during which nothing sleeps.
proc porttrace::transport::direct {words} {
    variable serial
    variable answers
    variable pipe
    variable tick
    set key [incr serial]
    send $key $words
    set begun [clock microseconds]
    while {![dict exists $answers $key]} {
        if {[chan pending output $pipe] > 0} {
            # A request that is longer than what the pipe holds goes in pieces, which Tcl writes in its event loop
            # only; such requests (a filemap as bytes) are rare.
            after 1 [list set [namespace current]::tick 1]
            vwait [namespace current]::tick
        }
        hear
        if {![dict exists $answers $key] && [clock microseconds] - $begun >= 1000} {
            overdue
            after 1
        }
    }
    set answer [dict get $answers $key]
    dict unset answers $key
    return $answer
}

##
# Hand an answer to who waits for it; nobody waits for the one without a key.
proc porttrace::transport::deliver {key answer} {
    variable helper
    variable answers
    if {$key eq ""} {
        return
    }
    if {!$helper} {
        dict set answers $key $answer
        return
    }
    set mutex [tsv::get porttrace mutex]
    thread::mutex lock $mutex
    tsv::set porttrace_answers $key $answer
    thread::cond notify [tsv::get porttrace condition]
    thread::mutex unlock $mutex
}

##
# Send one request; its answer is delivered. Starts the core where there is none.
proc porttrace::transport::send {key words} {
    variable pipe
    variable waiting
    variable heard
    if {[catch {
        if {$pipe eq ""} {
            start
        }
        if {![llength $waiting]} {
            set heard [clock milliseconds]
        }
        lappend waiting $key
        set body [encoding convertto utf-8 $words]
        puts -nonewline $pipe "[string length $body]\n$body"
        flush $pipe
    } message options]} {
        set at [lsearch -exact $waiting $key]
        set waiting [lreplace $waiting $at $at]
        set code [dict get $options -errorcode]
        if {[lrange $code 0 1] ne {PORTTRACE CORE}} {
            set message "porttrace: the core cannot be reached any more ($message); its trace is lost"
            set code {PORTTRACE CORE DIED}
        }
        deliver $key [list error $message $code ""]
        lost $message $code
    }
}

##
# Take what the core has said, and deliver the answers that are complete.
proc porttrace::transport::hear {} {
    variable pipe
    variable waiting
    variable heard
    variable received
    variable wanted
    variable proven
    while {$pipe ne ""} {
        if {$wanted < 0} {
            if {[catch {gets $pipe line} length]} {
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
            append received [read $pipe [expr {$wanted - [string length $received]}]]
            if {[string length $received] == $wanted} {
                set waiting [lassign $waiting key]
                set proven 1
                deliver $key [encoding convertfrom utf-8 $received]
                set received ""
                set wanted -1
                continue
            }
        }
        if {[eof $pipe]} {
            lost "porttrace: the core has ended unexpectedly; its trace is lost" {PORTTRACE CORE DIED}
        }
        return
    }
}

##
# Give up a core that owes an answer for too long.
proc porttrace::transport::overdue {} {
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
proc porttrace::transport::look {} {
    variable pipe
    variable waiting
    variable look_every_ms
    if {$pipe eq ""} {
        return
    }
    overdue
    if {$pipe ne "" && ![llength $waiting]} {
        send "" {"" pid}
    }
    if {$pipe ne ""} {
        after [expr {[llength $waiting] ? 250 : $look_every_ms}] [namespace current]::look
    }
}

##
# The core died, hangs or talks nonsense: end it, tell all who wait for it, and
# have another one end the processes that it leaves.
proc porttrace::transport::lost {message code} {
    variable waiting
    variable helper
    variable proven
    variable why
    set orphans $waiting
    set recovers [expr {$helper && $proven}]
    set why $message
    if {$helper} {
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
        deliver $key [list error $message $code ""]
    }
}

##
# What became of the core that was lost last.
proc porttrace::transport::why {} {
    variable thread
    variable why
    if {$thread ni {"" none} && [tsv::exists porttrace why]} {
        return [tsv::get porttrace why]
    }
    return $why
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

##
# Start the core in an interpreter that is not the one that will need it: port's main one, before it has read its
# configuration. The helper thread takes it over when the first interpreter for a port is made.
proc porttrace::transport::start_early {} {
    variable pipe
    if {![catch start]} {
        trace add execution ::interp enter [namespace current]::hand_over
    }
}

proc porttrace::transport::hand_over {args} {
    variable pipe
    trace remove execution ::interp enter [namespace current]::hand_over
    set channel $pipe
    set pipe ""
    if {[catch {
        set thread [find_thread]
        thread::transfer $thread $channel
    }]} {
        # then it is started where it is needed
        catch {close $channel}
        return
    }
    thread::send -async $thread [list ::porttrace::transport::adopt $channel]
}

##
# In the helper thread: the channel of a core that was started elsewhere.
proc porttrace::transport::adopt {channel} {
    variable pipe
    if {$pipe ne ""} {
        catch {close $channel}
        return
    }
    set pipe $channel
    listen
}

proc porttrace::transport::prepare_here {} {
    variable pipe
    # what fails here fails again, and is said, where the core is needed
    if {$pipe eq ""} {
        catch start
    }
}

##
# Run a script that changes the environment, which all threads share: the helper
# thread may start a core while port gives back what it had set.
proc porttrace::transport::with_environment {script} {
    variable thread
    variable helper
    if {$helper || $thread ni {"" none}} {
        uplevel 1 [list tsv::lock porttrace $script]
    } else {
        uplevel 1 $script
    }
}

proc porttrace::transport::start {} {
    variable pipe
    variable helper
    variable received
    variable wanted
    set python [interpreter]
    # A core that is started while a trace is in force is none of the traced.
    # -I: neither the build's PYTHON* variables nor its directories matter
    with_environment {
        set preload [array get ::env LD_PRELOAD]
        unset -nocomplain ::env(LD_PRELOAD)
        set failed [catch {[own open] |[list $python -I -m porttrace.tclbridge.coprocess] r+} channel]
        array set ::env $preload
    }
    if {$failed} {
        return -code error -errorcode {PORTTRACE CORE START} "porttrace: the core does not start: $channel"
    }
    fconfigure $channel -translation binary -buffering full -blocking 0
    set pipe $channel
    set received ""
    set wanted -1
    if {$helper} {
        listen
    }
}

##
# In the helper thread: be told what the core says, and look after it.
proc porttrace::transport::listen {} {
    variable pipe
    variable look_every_ms
    fileevent $pipe readable [namespace current]::hear
    after cancel [namespace current]::look
    after $look_every_ms [namespace current]::look
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
        fileevent $pipe readable {}
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
