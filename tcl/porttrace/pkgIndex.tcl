package ifneeded porttrace 1.1 [list source [file join $dir porttrace.tcl]]
