# Runs one of MacPorts' own test files of darwintrace against our `tracelib` command and library:
#
#   tclsh adapter.tcl PORTTRACE_PACKAGE TEST_FILE SKIPPED…
#
# What it puts between, and nothing else:
#   1. Our package is loaded before the test file and in each thread that it makes: its `tracelib` is ours from then on.
#   2. On Linux the loader's variable is LD_PRELOAD, which `tracelib setsandbox` and `enablefence` set themselves. The
#      test file is read with these names changed. What a program preloads itself stays, behind ours.
#   3. DARWINTRACE_LOG is darwintrace's second variable. Ours needs no second one (policy and events lie beside the
#      library), so what the tests say of it is taken out.
#   4. Tests that are about darwintrace's inside are skipped; their names are given on the command line.
package require tcltest 2
package require Pextlib 1.0
package require Thread

set adapter_skipped [lassign $argv adapter_package adapter_file]
set argv {}
set dir $adapter_package
source [file join $adapter_package pkgIndex.tcl]
package require porttrace 1.1

rename thread::create adapter_thread_create
proc thread::create {args} {
    set script [list set dir $::adapter_package]
    append script "\n" [list source [file join $::adapter_package pkgIndex.tcl]]
    append script "\n" {package require Pextlib 1.0; package require porttrace 1.1}
    lset args end "$script\n[lindex $args end]"
    return [::adapter_thread_create {*}$args]
}

proc adapter_read {path} {
    set channel [open $path r]
    try {
        return [read $channel]
    } finally {
        close $channel
    }
}

tcltest::configure -skip $adapter_skipped -singleproc 1 -verbose {body error}
set adapter_text [adapter_read $adapter_file]
if {$tcl_platform(os) ne "Darwin"} {
    set adapter_text [string map {
        { || [string match "DARWINTRACE_LOG=*" $line]} {}
        {"DARWINTRACE_LOG=/tmp/macports-test-*" } {}
        {"DYLD_INSERT_LIBRARIES=$darwintrace_lib"} {"LD_PRELOAD=/tmp/macports/*/tracelib.so*"}
        DYLD_INSERT_LIBRARIES LD_PRELOAD
    } $adapter_text]
}
cd [file dirname $adapter_file]
info script $adapter_file
eval $adapter_text
