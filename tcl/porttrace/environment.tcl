# environment.tcl: the variables that programs need under a policy, and the way back.

namespace eval porttrace {
    # The environment as it was before trace_start: name -> {existed value}.
    variable saved_env [dict create]

    # What programs need in their environment under the present policy.
    variable needed [dict create]
}

##
# Set what programs need, and remember what was there.
proc porttrace::apply_environment {environment} {
    variable saved_env
    variable needed
    set needed $environment
    dict for {name value} $environment {
        if {![dict exists $saved_env $name]} {
            if {[info exists ::env($name)]} {
                dict set saved_env $name [list 1 $::env($name)]
            } else {
                dict set saved_env $name [list 0 {}]
            }
        }
        lassign [dict get $saved_env $name] existed former
        # What the user preloads stays, behind ours: ours has to see the program first.
        if {$existed && $former ne "" && $name in {LD_PRELOAD DYLD_INSERT_LIBRARIES}} {
            set value "$value:$former"
        }
        set ::env($name) $value
    }
}

##
# See that it still is there: who saves the environment and gives it back later
# (MacPorts' command_exec does) may not know of ours.
proc porttrace::need_environment {} {
    variable needed
    dict for {name value} $needed {
        set present [expr {[info exists ::env($name)] ? "$::env($name):" : ""}]
        if {![string equal -length [string length $value:] $value: $present]} {
            set ::env($name) [string trimright $value:$present :]
        }
    }
}

##
# Give back what was there.
proc porttrace::restore_environment {} {
    variable saved_env
    variable needed
    set needed [dict create]
    transport::with_environment {
        dict for {name state} $saved_env {
            lassign $state existed former
            if {$existed} {
                set ::env($name) $former
            } else {
                unset -nocomplain ::env($name)
            }
        }
    }
    set saved_env [dict create]
}
