# transport.tcl: how an interpreter reaches the core where that is a process of its own.
#
# One core per process: its pipe (pipe.tcl) belongs to a helper thread that every
# interpreter and thread can reach, because a channel cannot be shared between
# interpreters that do not know each other. Where the Thread package is missing
# each interpreter that loads the package has a core of its own.

namespace eval porttrace::transport {
    # The helper thread, in the interpreters that use it; "none" where there are no threads.
    variable thread ""

    # Whether this interpreter is the helper thread's.
    variable helper 0

    # Answers by request, where there is no helper thread.
    variable answers [dict create]

    # How many requests this interpreter made.
    variable serial 0

    # What became of the last core.
    variable why "porttrace: the core of this phase is gone; its trace is lost"

    variable directory $::porttrace::directory
}
source -encoding utf-8 [file join $porttrace::directory whereabouts.tcl]

##
# Send one request and wait for its answer.
#
# @param words {client command arg ...}
# @return {status value errorcode core}: what went wrong with the core itself is
#         a status of error too, because errors lose their code between threads
proc porttrace::transport::request {words} {
    return [answer [post $words]]
}

##
# Send one request without waiting for its answer.
#
# @return what to give to `answer`
proc porttrace::transport::post {words} {
    variable thread
    variable answers
    variable serial
    if {$thread eq ""} {
        set thread [find_thread]
    }
    if {$thread eq "none"} {
        set answer [direct $words]
        dict set answers [incr serial] $answer
        return $serial
    }
    set key [tsv::incr porttrace serial]
    thread::send -async $thread [list ::porttrace::pipe::send $key $words]
    return $key
}

##
# Wait for the answer to what was posted; it is given once.
proc porttrace::transport::answer {key} {
    variable thread
    variable answers
    if {$thread eq "none"} {
        set answer [dict get $answers $key]
        dict unset answers $key
        return $answer
    }
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
# Talk to the core from an interpreter that has no helper thread. Polls, because
# waiting in the event loop would run foreign events in the middle of a command:
# most answers come within the first millisecond, during which nothing sleeps.
proc porttrace::transport::direct {words} {
    variable serial
    variable answers
    variable tick
    set key [incr serial]
    ::porttrace::pipe::send $key $words
    set begun [clock microseconds]
    while {![dict exists $answers $key]} {
        if {[chan pending output $::porttrace::pipe::channel] > 0} {
            # A request that is longer than what the pipe holds goes in pieces, which Tcl writes in its event loop
            # only; such requests (a filemap as bytes) are rare.
            after 1 [list set [namespace current]::tick 1]
            vwait [namespace current]::tick
        }
        ::porttrace::pipe::hear
        if {![dict exists $answers $key] && [clock microseconds] - $begun >= 1000} {
            ::porttrace::pipe::overdue
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
            set script [::porttrace::whereabouts {directory python modules}]
            append script "\n" [list source -encoding utf-8 [file join $directory transport.tcl]]
            append script "\nset ::porttrace::transport::helper 1"
            thread::send $found $script
            tsv::set porttrace thread $found
        }
        set found
    }]
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
#
# @param request what it is to do meanwhile; nobody is told what came of it
proc porttrace::transport::prepare {request} {
    variable thread
    if {$thread eq ""} {
        set thread [find_thread]
    }
    if {$thread ne "none"} {
        thread::send -async $thread [list ::porttrace::pipe::prepare $request]
    } else {
        ::porttrace::pipe::prepare $request
    }
}

##
# Start the core in an interpreter that is not the one that will need it: port's main one, before it has read its
# configuration. The helper thread takes it over when the first interpreter for a port is made.
proc porttrace::transport::start_early {} {
    if {![catch ::porttrace::pipe::start]} {
        trace add execution ::interp enter [namespace current]::hand_over
    }
}

proc porttrace::transport::hand_over {args} {
    trace remove execution ::interp enter [namespace current]::hand_over
    set channel [::porttrace::pipe::release]
    if {[catch {
        set thread [find_thread]
        thread::transfer $thread $channel
    }]} {
        # then it is started where it is needed
        catch {close $channel}
        return
    }
    thread::send -async $thread [list ::porttrace::pipe::adopt $channel]
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

##
# End the core in good order, before this process ends.
proc porttrace::transport::stop {args} {
    variable thread
    if {$thread ni {"" none}} {
        catch {thread::send $thread ::porttrace::pipe::stop}
    } else {
        ::porttrace::pipe::stop
    }
}

source -encoding utf-8 [file join $porttrace::directory pipe.tcl]
