package provide porttrace 1.1
# porttrace.tcl: trace mode for Tcl programs.
#
# Pure Tcl, for 8.6 and 9. The work is done by a core in Python: inside this
# process where Python is the host (the command ::porttrace::core::invoke is
# there already), else in one co-process that is shared by all interpreters of
# this process (transport.tcl).

namespace eval porttrace {
    # Where the siblings of this file lie: the interpreter's auto_path may not
    # know, MacPorts' workers for instance are given the ifneeded script only.
    variable directory [file dirname [file normalize [info script]]]

    # MacPorts' portsandbox reads this to let traced programs reach a socket.
    variable fifo_mktemp_template "/tmp/macports/sock-XXXXXX"

    # This interpreter's name for the core: all state is kept by it.
    variable client [format %x-%x-%x [pid] [clock microseconds] [expr {int(rand() * 0x7fffffff)}]]

    # Whether a trace that this interpreter started is running.
    variable tracing 0

    # The core that traces: its process id.
    variable trace_core ""

    # Whether the fence was asked for and comes with the dependencies.
    variable fence_pending 0

    # Requests that nobody waits for, to be made before the next one.
    variable queued [list]

    # Whether the policy is to be put in force by the next request only. MacPorts has fourteen phases, and in most of
    # them nothing is done that the policy has a say in: these never reach the core.
    variable deferred 0

    # Where it was asked for ahead of its need: what the answer is fetched by, and the requests that were made.
    variable ahead ""
    variable ahead_requests [list]

    # Whether that was tried and failed.
    variable unsettled 0

    # Whether the filemaps were edited.
    variable edited 0

    # Targets of MacPorts that start a program if anything: the core makes their policy while port gets there.
    variable targets_with_programs {extract configure build test destroot}

    # The target of the trace, in MacPorts.
    variable phase ""

    # Targets for which every MacPorts says the dependencies right after it
    # has asked for the fence.
    variable targets_with_deps {
        fetch checksum extract patch configure build test destroot dmg mdmg pkg mpkg portpkg ""
    }

    # The question for what is in force, for `obey`.
    variable in_force {batch environment launcher open_places}

    namespace eval core {}
}

foreach sibling {transport.tcl environment.tcl messages.tcl inport.tcl tracelib.tcl macports.tcl} {
    source -encoding utf-8 [file join $porttrace::directory $sibling]
}
unset sibling

##
# What the core can do before there is a phase: read the registry that MacPorts asks in each.
proc porttrace::wanted_early {} {
    if {[info exists ::registry.path] && [info exists ::prefix]} {
        return [list get_ready [file join ${::registry.path} registry registry.db] $::prefix]
    }
    return [list get_ready]
}

# A port that is going to be traced: its core starts while port gets ready.
if {[info exists ::ports_trace] && [string is true -strict $::ports_trace]
        && ![llength [info commands ::porttrace::core::invoke]]} {
    porttrace::transport::prepare [porttrace::wanted_early]
    # With the first change of `file` Tcl compiles anew what it has compiled: that is little yet, and much in a phase.
    porttrace::inport::cover_file
}

# A program that ends takes its core along before it is gone. (MacPorts hides
# `exit` from its workers; there the pipe's end does the same a moment later.)
if {[llength [info commands ::exit]] && ![llength [info commands ::porttrace::core::invoke]]} {
    trace add execution ::exit enter ::porttrace::transport::stop
}

##
# Ask the core. The answer is the command's value; a refusal is a Tcl error
# with the core's message and errorCode.
#
# @param command name in the command table
# @param args    its words
proc porttrace::call {command args} {
    variable client
    variable queued
    variable deferred
    if {$deferred} {
        settle
    }
    set request [list $command {*}$args]
    set before [llength $queued]
    if {$before} {
        set request [list batch {*}$queued $request]
        set queued [list]
    }
    if {[llength [info commands ::porttrace::core::invoke]]} {
        set answer [::porttrace::core::invoke $client {*}$request]
    } else {
        set answer [transport::request [list $client {*}$request]]
    }
    set value [heed $answer]
    if {$before} {
        set value [lindex $value end]
    }
    return $value
}

##
# The value of an answer, or its error.
proc porttrace::heed {answer} {
    variable tracing
    variable trace_core
    lassign $answer status value code core
    if {$tracing} {
        if {$trace_core eq ""} {
            set trace_core $core
        } elseif {$core ne $trace_core && [lrange $code 0 1] ne {PORTTRACE CORE}} {
            # Another core than the one that traces: an answer of "nothing found" would be a lie.
            set status error
            set value [transport::why]
            set code {PORTTRACE CORE DIED}
        }
    }
    if {$status ne "ok"} {
        return -code error -errorcode $code $value
    }
    return $value
}

##
# Tell the core what a phase's policy is made from, or show it.
#
# Keys: port phase prefix registry portpath distpath portdbpath tmpdir
# ccache_dir extra readable allowances user strict audit log enforce.
proc porttrace::context {args} {
    variable tracing
    set result [call context {*}$args]
    if {$tracing && [llength $args]} {
        follow
    }
    return $result
}

##
# Start to trace what this process starts from now on.
#
# What is not set with porttrace::context is taken from the caller's usual
# variables where they exist: prefix, portpath, distpath, subport.
#
# @param workpath the directory that the build may write to
proc porttrace::trace_start {workpath} {
    variable tracing
    variable trace_core
    variable queued
    if {$tracing} {
        # of a former phase that ended without a word; its core may be gone
        catch trace_stop
    }
    # MacPorts' target_run has the name of the target in a variable of its own.
    upvar 1 target target
    variable phase [expr {[info exists target] ? $target : ""}]
    set context [gathered_context $phase]
    lappend queued [list hello [encoding system]] [list context {*}$context]
    set trace_core ""
    set tracing 1
    set workpath [file normalize $workpath]
    if {[in_macports]} {
        # Nothing is in force before it asks for the fence, and it goes on to do so at once.
        share_places $context $workpath
        lappend queued [list trace_start $workpath]
        return
    }
    lappend queued [list trace_start $workpath]
    if {[catch follow message options]} {
        set tracing 0
        dict incr options -level
        return -options $options $message
    }
    return
}

##
# End the trace and give this process back what it gave up. What was found
# stays for `violations`; what still ran is ended and said. Nothing to do where
# no trace is running.
proc porttrace::trace_stop {} {
    variable tracing
    variable queued
    # First what cannot fail: the process is itself again even where the core is gone.
    inport::uninstall
    restore_environment
    if {!$tracing} {
        return
    }
    set untold [llength $queued]
    end_phase
    if {$untold} {
        # The core never heard of this phase.
        return
    }
    foreach pair [call trace_stop] {
        say {*}$pair
    }
    return
}

# No phase is traced any more.
proc porttrace::end_phase {} {
    variable tracing 0
    variable fence_pending 0
    variable deferred 0
    variable unsettled 0
    variable queued [list]
    variable ahead
    if {$ahead ne ""} {
        # whatever it was, nobody asks any more
        transport::answer $ahead
        set ahead ""
    }
}

##
# From now on nothing may be written outside the policy, by the kernel's word too.
proc porttrace::trace_enable_fence {} {
    variable fence_pending
    variable targets_with_deps
    upvar 1 target target
    if {[in_macports] && [info exists target] && $target in $targets_with_deps} {
        # What MacPorts does until then is its own search for the dependencies,
        # which no policy without them must answer.
        set fence_pending 1
        return
    }
    put_in_force
    return
}

##
# Put the policy in force.
#
# @param args requests to be made before, as lists
proc porttrace::put_in_force {args} {
    variable client
    variable fence_pending
    variable queued
    variable deferred
    variable ahead
    variable ahead_requests
    variable phase
    variable targets_with_programs
    variable in_force
    set fence_pending 0
    if {[in_macports] && [llength $queued]} {
        # The guards are there at once; what they ask first, or a program that is to be started, puts it in force.
        lappend queued {*}$args trace_enable_fence
        set deferred 1
        if {$phase in $targets_with_programs} {
            set ahead [transport::post [list $client batch {*}$queued $in_force]]
            set ahead_requests $queued
            set queued [list]
        }
        inport::install deferred
        return
    }
    follow {*}$args trace_enable_fence
}

##
# Make sure that the policy is in force, also in the environment: a program is about to be started, or a question asked.
#
# @return whether it was not before
proc porttrace::settle {} {
    variable deferred
    variable unsettled
    variable queued
    variable ahead
    variable ahead_requests
    set was $deferred
    if {$deferred} {
        set kept $queued
        set deferred 0
        if {$ahead ne ""} {
            set kept $ahead_requests
            set answer [transport::answer $ahead]
            set ahead ""
            set failed [catch {obey [lindex [heed $answer] end]} message options]
        } else {
            set failed [catch follow message options]
        }
        if {$failed} {
            # Whoever takes this for no error is told again.
            set queued $kept
            set deferred 1
            set unsettled 1
            dict incr options -level
            return -options $options $message
        }
        set unsettled 0
    }
    need_environment
    return $was
}

##
# Make requests that change the policy, and have this process follow it.
#
# @param args requests, as lists
proc porttrace::follow {args} {
    variable in_force
    if {[llength [info commands ::porttrace::core::invoke]]} {
        # In the core's own process a question costs next to nothing, and what port used is counted by the questions.
        obey [lindex [call batch {*}$args {batch environment launcher}] end]
    } else {
        obey [lindex [call batch {*}$args $in_force] end]
    }
}

##
# Take over what is in force: {environment launcher ?open_places?}.
proc porttrace::obey {answers} {
    lassign $answers environment launcher places
    apply_environment $environment
    inport::know [lindex $places 0] [lindex $places 1]
    inport::install $launcher
}

##
# The ports that may be seen from now on, with all that they depend on.
#
# @param names list of port names; case does not matter
proc porttrace::setdeps {names} {
    variable fence_pending
    variable queued
    if {$fence_pending} {
        put_in_force [list setdeps $names]
    } elseif {[in_macports] && [llength $queued]} {
        # nothing is in force in this phase
        lappend queued [list setdeps $names]
    } else {
        follow [list setdeps $names]
    }
    return
}

##
# Edit or show the filemaps:
#   append|prepend|replace ?-read|-write? ?-phase p? path action ?target?
#   remove ?-read|-write? ?-phase p? path
#   clear|list|dump ?-read|-write? ?-phase p?
#   reset (forget all changes)
#   load ?-read|-write? ?-phase p? bytes
# Actions are allow, ask, deny, redirect. A change takes effect for processes
# that are started after it; first match wins.
proc porttrace::filemap {subcommand args} {
    variable tracing
    variable edited
    # an edit may be of some phases only
    set edited 1
    forget_places
    set result [call filemap $subcommand {*}$args]
    if {$tracing && $subcommand ni {list dump}} {
        follow
    }
    if {$subcommand eq "dump"} {
        # characters 0 to 255 stand for bytes
        set result [binary format a* $result]
    }
    return $result
}

##
# The findings of the running trace, or of the last: a list of dicts, or JSON.
proc porttrace::violations {args} {
    return [call violations {*}$args]
}

##
# Say what the trace found, through ui_warn, ui_msg and ui_info where there are
# such commands, else on standard error and output.
proc porttrace::trace_check_violations {} {
    variable tracing
    variable fence_pending
    variable queued
    variable unsettled
    if {$fence_pending} {
        return -code error -errorcode {PORTTRACE USAGE} \
            "porttrace: this phase ran without trace mode: port never said its dependencies (tracelib setdeps)"
    }
    if {[in_macports] && [llength $queued] && !$unsettled} {
        # Neither a program was started nor a question asked.
        say_tiers
        return
    }
    set options [list]
    if {[is_verbose]} {
        lappend options -verbose
    }
    if {[in_macports] && $tracing} {
        # The phase is over, and trace_stop comes next: one way to the core and one look at the events for both.
        lassign [or_give_up {call finish {*}$options}] told ended
        end_phase
        inport::uninstall
        restore_environment
        tiers_were_said
    } else {
        set told [or_give_up {call trace_check_violations {*}$options}]
        set ended [list]
    }
    foreach pair [concat $told $ended] {
        say {*}$pair
    }
    return
}

##
# What the policy says to a path that this process itself wants to use.
#
# @param access read stat lstat exec list readlink write create delete rename link attributes
# @return {verdict path}: ok, ENOENT or EACCES, and the path to use instead of the one given
proc porttrace::check {access path} {
    return [inport::verdict $access [inport::absolute $path]]
}

##
# Run a script that ends a trace or looks at it. Where the core is gone, this
# process gets back what it gave up before the error is raised.
proc porttrace::or_give_up {script} {
    if {[catch {uplevel 1 $script} result options]} {
        if {[lrange [dict get $options -errorcode] 0 1] eq {PORTTRACE CORE}} {
            end_phase
            inport::uninstall
            restore_environment
        }
        dict incr options -level
    }
    return -options $options $result
}

# --- what is between the commands above and the core --------------------------

##
# Take what the policy depends on from the variables that a port tool has.
# What was set with porttrace::context before wins where no variable says otherwise.
proc porttrace::gathered_context {target} {
    set context [list]
    foreach {key variable} {prefix prefix portpath portpath distpath distpath port subport} {
        if {[info exists ::$variable] && [set ::$variable] ne ""} {
            lappend context $key [set ::$variable]
        }
    }
    if {[in_macports]} {
        lappend context {*}[macports_context $target]
    }
    return $context
}

