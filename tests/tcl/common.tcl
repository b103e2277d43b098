# Shared by the test files: sourced with the command line
#   SCRIPT SCRATCH ?AUTO_PATH?
# SCRATCH is a directory of this file's own, readable by everybody.
package require tcltest 2.5
namespace import ::tcltest::test
lassign $argv scratch library
if {$library ne ""} {
    # the one under test, also in a Tcl that has another
    set dir [file join $library porttrace]
    source [file join $dir pkgIndex.tcl]
}
::tcltest::configure -verbose {body error line} -singleproc 1
package require porttrace

file mkdir [file join $scratch work] [file join $scratch outside]
set work [file join $scratch work]
set outside [file join $scratch outside]

proc put {path {text "text\n"}} {
    file mkdir [file dirname $path]
    set channel [open $path w]
    puts -nonewline $channel $text
    close $channel
    return $path
}

proc get {path} {
    set channel [open $path r]
    set text [read $channel]
    close $channel
    return $text
}

# {message errorCode} of a script that must fail.
proc refusal {script} {
    if {![catch {uplevel 1 $script} message options]} {
        error "no error, but: $message"
    }
    return [list $message [dict get $options -errorcode]]
}

# The kinds and tails of what was found at or below a place.
proc found {place} {
    set out [list]
    foreach finding [porttrace::violations] {
        if {[string match $place* [dict get $finding path]]} {
            lappend out [list [dict get $finding kind] [dict get $finding access] [file tail [dict get $finding path]]]
        }
    }
    return [lsort -unique $out]
}
