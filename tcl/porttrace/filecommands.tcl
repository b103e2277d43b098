# filecommands.tcl: the subcommands of `file` under the policy of the phase.
#
# A command of Tcl's own is replaced by rename (inport.tcl); `file` is an
# ensemble, whose map leads to the guards here.

namespace eval porttrace::inport {
    # Whether the map of the `file` ensemble leads to the guards. Once it does,
    # it stays: with each change of it Tcl compiles every procedure of the
    # interpreter anew, which for port is a tenth of a whole install.
    variable file_covered 0

    # Whether the guards of `file` judge, or hand on.
    variable awake 0

    # What is not guarded, and why; see unguarded_commands.
    variable unguarded_file {
        channels {names of channels} dirname {text} extension {text} join {text} nativename {text, and home directories} pathtype {text}
        rootname {text} separator {text} split {text} tail {text} volumes {names of file systems}
        system {the kind of file system; one that is not there has one, too} home {a name} tildeexpand {text}
    }
}

##
# Lead the ensemble's map to the guards, once.
proc porttrace::inport::cover_file {} {
    variable file_covered
    if {!$file_covered} {
        set map [namespace ensemble configure ::file -map]
        foreach subcommand [dict keys $map] {
            set guard [file_guard $subcommand]
            if {$guard ne ""} {
                dict set map $subcommand [list [namespace current]::file_command $guard $subcommand]
            }
        }
        namespace ensemble configure ::file -map $map
        set file_covered 1
    }
}

proc porttrace::inport::file_guard {subcommand} {
    switch -- $subcommand {
        exists - isdirectory - isfile - readable - executable - owned { return file_question }
        writable { return file_writable }
        stat - size - type - lstat - readlink { return file_look }
        atime - mtime - attributes { return file_attributes }
        mkdir { return file_mkdir }
        delete { return file_delete }
        copy - rename { return file_transfer }
        link { return file_link }
        tempfile { return file_tempfile }
        tempdir { return file_tempdir }
        normalize { return file_normalize }
    }
    return ""
}

proc porttrace::inport::file_command {guard subcommand args} {
    variable awake
    if {$awake} {
        tailcall $guard $subcommand {*}$args
    }
    tailcall ::tcl::file::$subcommand {*}$args
}

proc porttrace::inport::file_question {subcommand args} {
    set path [lindex $args 0]
    # What has no name is not there; MacPorts' system asks that of the shell that nobody has set.
    if {[llength $args] == 1 && $path ne ""} {
        set absolute [absolute $path]
        lassign [verdict stat $absolute] verdict physical
        if {$verdict ne "ok"} {
            return 0
        }
        if {$physical ne $absolute} {
            set args [list $physical]
        }
    }
    tailcall ::tcl::file::$subcommand {*}$args
}

proc porttrace::inport::file_writable {subcommand args} {
    if {[llength $args] == 1} {
        set path [lindex $args 0]
        # A question is no attempt: it is not reported as one.
        if {![visible $path] || ![visible $path may-write]} {
            return 0
        }
    }
    tailcall ::tcl::file::writable {*}$args
}

proc porttrace::inport::file_look {subcommand args} {
    if {[llength $args]} {
        set access [dict get {stat stat size stat type lstat lstat lstat readlink readlink} $subcommand]
        set message [expr {$subcommand eq "readlink" ? "could not read link \"%s\"" : "could not read \"%s\""}]
        lset args 0 [permit $access [lindex $args 0] $message]
    }
    tailcall ::tcl::file::$subcommand {*}$args
}

proc porttrace::inport::file_attributes {subcommand args} {
    if {[llength $args]} {
        set limit [expr {$subcommand eq "attributes" ? 2 : 1}]
        set path [permit stat [lindex $args 0] "could not read \"%s\""]
        if {[llength $args] > $limit} {
            set message [expr {$subcommand eq "attributes" ? "could not set attributes for file \"%s\"" :
                "could not set [dict get {atime access mtime modification} $subcommand] time for file \"%s\""}]
            set path [permit attributes [lindex $args 0] $message]
        }
        lset args 0 $path
    }
    tailcall ::tcl::file::$subcommand {*}$args
}

proc porttrace::inport::file_mkdir {subcommand args} {
    foreach path $args {
        # Each directory that is missing on the way is a creation of its own.
        set missing [list]
        set at [absolute $path]
        while {![::tcl::file::isdirectory $at] && $at ne [::tcl::file::dirname $at]} {
            lappend missing $at
            set at [::tcl::file::dirname $at]
        }
        foreach at [lreverse $missing] {
            permit create $at "can't create directory \"$path\""
        }
        if {![llength $missing] && ![visible $path]} {
            # It is there and hidden: to make it is to write outside.
            permit create $path "can't create directory \"%s\""
        }
    }
    tailcall ::tcl::file::mkdir {*}$args
}

proc porttrace::inport::leading_options {words allowed} {
    set at 0
    while {[lindex $words $at] in $allowed} {
        incr at
        if {[lindex $words $at-1] eq "--"} {
            break
        }
    }
    return $at
}

proc porttrace::inport::file_delete {subcommand args} {
    set at [leading_options $args {-force --}]
    set kept [list]
    foreach path [lrange $args $at end] {
        lassign [verdict delete [absolute $path]] verdict
        switch -- $verdict {
            ok { lappend kept $path }
            ENOENT {
                # Tcl does not mind deleting what is not there.
            }
            default { refuse $verdict "error deleting \"$path\"" }
        }
    }
    tailcall ::tcl::file::delete {*}[lrange $args 0 $at-1] \
        {*}[expr {$at && [lindex $args $at-1] eq "--" ? "" : "--"}] {*}$kept
}

proc porttrace::inport::file_transfer {subcommand args} {
    set at [leading_options $args {-force --}]
    set paths [lrange $args $at end]
    if {[llength $paths] >= 2} {
        set target [lindex $paths end]
        set verb [expr {$subcommand eq "copy" ? "copying" : "renaming"}]
        foreach source [lrange $paths 0 end-1] {
            set message "error $verb \"$source\""
            permit [expr {$subcommand eq "copy" ? "lstat" : "rename"}] $source $message
            if {$subcommand eq "copy"} {
                visible_tree $source $message
            }
            set into $target
            if {[visible $target] && [::tcl::file::isdirectory $target]} {
                set into [::tcl::file::join $target [::tcl::file::tail $source]]
            }
            permit create $into "error $verb \"$source\" to \"$into\""
        }
    }
    tailcall ::tcl::file::$subcommand {*}$args
}

# A copy of a tree takes nothing along that is hidden: there it stops, as the
# system's own copy would at a file that it may not read.
proc porttrace::inport::visible_tree {source message} {
    set top [absolute $source]
    if {[is_open tree $top]} {
        return
    }
    set hidden [::porttrace::call hidden_below $top]
    if {$hidden ne ""} {
        refuse ENOENT "$message: \"$hidden\""
    }
}

proc porttrace::inport::file_link {subcommand args} {
    set words $args
    set symbolic 0
    if {[string match -* [lindex $words 0]]} {
        set symbolic [string match -s* [lindex $words 0]]
        set words [lrange $words 1 end]
    }
    if {[llength $words] == 1} {
        permit readlink [lindex $words 0] "could not read link \"%s\""
    } elseif {[llength $words] == 2} {
        lassign $words link target
        set message "could not create new link \"$link\" pointing to \"$target\""
        permit create $link $message
        if {[::tcl::file::pathtype $target] eq "relative"} {
            set target [::tcl::file::join [::tcl::file::dirname $link] $target]
        }
        # Tcl wants the target to be there, and a hard link is another name of it.
        permit stat $target $message
        if {!$symbolic && ![::tcl::file::isdirectory $target] && [lindex $args 0] eq "-hard"} {
            permit link $target $message
        }
    }
    tailcall ::tcl::file::link {*}$args
}

# Tcl follows the links on the way: as far as what they lead to is to be seen, a hidden one does not show where that is.
proc porttrace::inport::file_normalize {subcommand args} {
    if {[llength $args] == 1} {
        set path [absolute [lindex $args 0]]
        if {[::tcl::file::normalize [format %s $path]] eq $path} {
            # no link on the way: nothing is told that was not given
            return $path
        }
        set above [::tcl::file::dirname $path]
        if {$above ne $path && [lindex [::porttrace::call check entry $above/.] 0 0] ne "ok"} {
            set above [file_normalize normalize $above]
            switch -- [::tcl::file::tail $path] {
                . { return $above }
                .. { return [::tcl::file::dirname $above] }
                default { return [::tcl::file::join $above [::tcl::file::tail $path]] }
            }
        }
    }
    tailcall ::tcl::file::normalize {*}$args
}

# A template with a directory names the place; without one it is made in that of temporary files.
proc porttrace::inport::file_tempdir {subcommand args} {
    if {[string match */* [lindex $args 0]]} {
        permit create [lindex $args 0] "can't create temporary directory"
    }
    tailcall ::tcl::file::tempdir {*}$args
}

proc porttrace::inport::file_tempfile {subcommand args} {
    if {[llength $args] > 1 && [string match */* [lindex $args 1]]} {
        permit create [lindex $args 1] "can't create temporary file"
    }
    # the variable is the caller's
    tailcall ::tcl::file::tempfile {*}$args
}
