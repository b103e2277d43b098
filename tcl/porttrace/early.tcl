# early.tcl: read by the index where port's command line asks for trace mode.
#
# The core takes some time to start, and port some more to read its
# configuration and the Portfile: both at once. Nothing is traced yet, and this
# interpreter is not the one that will; it only holds the pipe until then.

namespace eval porttrace {
    variable directory [file dirname [file normalize [info script]]]
}
source -encoding utf-8 [file join $porttrace::directory transport.tcl]
porttrace::transport::start_early
