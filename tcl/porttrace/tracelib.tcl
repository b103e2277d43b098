# tracelib.tcl: MacPorts' low-level command, which portutil calls beside the package.
namespace eval porttrace::tracelib {}
