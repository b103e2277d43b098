# -*- coding: utf-8; mode: tcl; tab-width: 4; indent-tabs-mode: nil; c-basic-offset: 4 -*- vim:fenc=utf-8:ft=tcl:et:sw=4:ts=4:sts=4
#
# What a Portfile says to porttrace: which files it may use beyond its dependencies, or must not see.
#
# PortGroup     porttrace 1.0
#
# trace.read, trace.write, trace.hide                           for every phase
# ${phase}.trace_read, ${phase}.trace_write, ${phase}.trace_hide      for one
#
# porttrace knows these options by itself. With this group the same Portfile also loads where porttrace is not
# installed: there the options exist, and mean nothing.

foreach porttrace_kind {read write hide} {
    if {[info commands trace.${porttrace_kind}] eq ""} {
        options trace.${porttrace_kind}
        default trace.${porttrace_kind} {}
        foreach porttrace_phase {fetch checksum extract patch configure build test destroot archive install activate deactivate} {
            options ${porttrace_phase}.trace_${porttrace_kind}
            default ${porttrace_phase}.trace_${porttrace_kind} {}
        }
    }
}
unset -nocomplain porttrace_kind porttrace_phase
