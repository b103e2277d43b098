# inport.tcl: the port process's own commands under the policy of the phase.
namespace eval porttrace::inport {}
proc porttrace::inport::install {} {}
proc porttrace::inport::uninstall {} {}
proc porttrace::inport::absolute {path} {
    # The core's working directory is not ours. Links stay: they are judged, not resolved here.
    return [file join [pwd] $path]
}
