# inport.tcl: the port process's own commands under the policy of the phase.
#
# While a trace is in force, the commands below stand in front of Tcl's own
# ones in this interpreter; afterwards everything is as it was. What they
# refuse looks like the system's own answer: a hidden file is not there, a
# write outside is not permitted.
#
# This keeps Portfile code honest, it is no wall against hostile Tcl: the
# kernel's fence and the injected library hold the children.

namespace eval porttrace::inport {
    # Commands that are in front now: name -> 1.
    variable installed [dict create]

    # Whether the map of the `file` ensemble leads to the guards. Once it does,
    # it stays: with each change of it Tcl compiles every procedure of the
    # interpreter anew, which for port is a tenth of a whole install.
    variable file_covered 0

    # Whether the guards of `file` judge, or hand on.
    variable awake 0

    # Messages as the C library writes them.
    variable posix {
        ENOENT {no such file or directory}
        EACCES {permission denied}
        ELOOP {too many levels of symbolic links}
    }

    # What is not guarded, and why. A test holds this against the commands that this Tcl has: one that is new is judged
    # or gets a reason here.
    variable unguarded_commands {
        interp {another interpreter's commands are Tcl's own: an honest Portfile has no use for them}
        socket {a network's addresses; Tcl opens no sockets that are files}
        pwd {names where the process stands, which cd has judged}
        unload {what load has judged}
        auto_execok {a procedure, of commands that are judged}
        auto_import {a procedure}
        auto_load {a procedure, of commands that are judged}
        auto_load_index {a procedure, of commands that are judged}
        auto_qualify {a procedure}
        package {loads by source and load}
        encoding {Tcl's own tables, by name}
        zipfs {archives are mounted by the name of a file that open would find; no Portfile does}
        tclLog {a procedure}
        unknown {a procedure, of commands that are judged}
    }
    variable unguarded_file {
        channels {names of channels} dirname {text} extension {text} join {text} nativename {text, and home directories} pathtype {text}
        rootname {text} separator {text} split {text} tail {text} volumes {names of file systems}
        system {the kind of file system; one that is not there has one, too} home {a name} tildeexpand {text}
    }

    # Tcl's own commands while ours are in front.
    namespace eval real {}
}

##
# Put the guarded commands in front. Nothing to do where they are already.
#
# @param launcher the core's words to put before a command line; none where no
#        policy is in force yet
proc porttrace::inport::install {launcher} {
    variable installed
    variable file_covered
    variable awake
    if {[dict size $installed] || ![llength $launcher]} {
        return
    }
    foreach name {open exec glob source cd _cd load} {
        if {[llength [info commands ::$name]]} {
            cover $name [namespace current]::guarded_[string trimleft $name _]
        }
    }
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
    set awake 1
    install_port_commands
}

##
# Take them away again: this process has back what it gave up.
proc porttrace::inport::uninstall {} {
    variable installed
    variable awake
    set awake 0
    foreach name [dict keys $installed] {
        # Where somebody has put another command in its place meanwhile, that one goes too.
        catch {rename ::$name {}}
        rename [real_name $name] ::$name
    }
    set installed [dict create]
}

proc porttrace::inport::real_name {name} {
    return [namespace current]::real::[string map {:: .} $name]
}

proc porttrace::inport::cover {name guard args} {
    variable installed
    rename ::$name [real_name $name]
    interp alias {} ::$name {} $guard {*}$args
    dict set installed $name 1
}

##
# Run a script with this process's own commands, for what the port tool itself
# has to do outside the policy while a phase runs (its log, its state).
proc porttrace::inport::unguarded {script} {
    variable installed
    set was [dict size $installed]
    if {$was} {
        uninstall
    }
    try {
        return [uplevel 1 $script]
    } finally {
        if {$was} {
            install [::porttrace::call launcher]
        }
    }
}

# --- asking ------------------------------------------------------------------

proc porttrace::inport::absolute {path} {
    # Links stay: they are judged by the core, not resolved here.
    if {[string index $path 0] eq "~" && [package vcompare [info patchlevel] 9.0-] < 0} {
        # Tcl 8 takes this for a home directory
        catch {set path [::tcl::file::nativename $path]}
    }
    return [::tcl::file::join [pwd] $path]
}

##
# The path to use for `path`, or the system's error.
#
# @param access  what is to be done with it
# @param what    how Tcl's message begins, with the path's place as %s
proc porttrace::inport::permit {access path what} {
    lassign [lindex [::porttrace::call check $access [absolute $path]] 0] verdict physical
    if {$verdict eq "ok"} {
        # where nothing redirects, the path stays as it was given
        return [expr {$physical eq [absolute $path] ? $path : $physical}]
    }
    refuse $verdict [string map [list %s $path] $what]
}

proc porttrace::inport::refuse {verdict what} {
    variable posix
    set text [dict get $posix $verdict]
    return -level 2 -code error -errorcode [list POSIX $verdict $text] "$what: $text"
}

proc porttrace::inport::visible {path {access stat}} {
    return [expr {[lindex [::porttrace::call check $access [absolute $path]] 0 0] eq "ok"}]
}

# --- open, exec ----------------------------------------------------------------

proc porttrace::inport::guarded_open {args} {
    set path [lindex $args 0]
    if {![llength $args]} {
        tailcall [real_name open]
    }
    if {[string index $path 0] eq "|"} {
        set command [pipeline [string range $path 1 end]]
        tailcall [real_name open] |$command {*}[lrange $args 1 end]
    }
    lassign [open_accesses [lindex $args 1]] reads writes creates
    set message "couldn't open \"%s\""
    if {$reads || !$creates} {
        # also where only writing is asked for: what cannot be seen cannot be opened without making it
        set used [permit read $path $message]
    }
    if {$writes} {
        set used [permit [expr {$creates ? "create" : "write"}] $path $message]
    }
    tailcall [real_name open] $used {*}[lrange $args 1 end]
}

proc porttrace::inport::open_accesses {mode} {
    if {$mode eq ""} {
        return {1 0 0}
    }
    if {[string is lower [string index $mode 0]]} {
        set plain [string map {b {}} $mode]
        return [list [expr {$plain in {r r+ w+ a+}}] [expr {$plain ne "r"}] [expr {[string index $plain 0] ne "r"}]]
    }
    return [list [expr {"RDONLY" in $mode || "RDWR" in $mode}] [expr {"WRONLY" in $mode || "RDWR" in $mode}] \
        [expr {"CREAT" in $mode}]]
}

proc porttrace::inport::guarded_exec {args} {
    set at 0
    while {[string index [lindex $args $at] 0] eq "-"} {
        set option [lindex $args $at]
        incr at
        if {$option eq "--"} {
            break
        }
        if {$option eq "-encoding"} {
            incr at
        }
    }
    set command [pipeline [lrange $args $at end]]
    tailcall [real_name exec] {*}[lrange $args 0 $at-1] {*}[expr {[lindex $args $at-1] eq "--" ? "" : "--"}] {*}$command
}

##
# A pipeline's words with the launcher before each program, and its
# redirections judged: Tcl opens those files in this process.
proc porttrace::inport::pipeline {words} {
    set launcher [::porttrace::call launcher]
    set out [list]
    set first 1
    set redirection ""
    foreach word $words {
        if {$redirection ne ""} {
            lappend out [redirected $redirection $word]
            set redirection ""
        } elseif {$first} {
            lappend out {*}$launcher [program $word]
            set first 0
        } elseif {$word in {| |&}} {
            lappend out $word
            set first 1
        } elseif {[regexp {^(<<|<@|>@|2>@1|2>@|>&@)} $word sign]} {
            # text or a channel: nothing is opened; a sign alone takes the next word
            lappend out $word
            if {$word eq $sign && $word ne "2>@1"} {
                set redirection =
            }
        } elseif {[regexp {^(<|>>&|>&|>>|>|2>>|2>)(.*)$} $word -> sign path]} {
            if {$path eq ""} {
                lappend out $sign
                set redirection $sign
            } else {
                lappend out $sign[redirected $sign $path]
            }
        } elseif {$word eq "&"} {
            lappend out $word
        } else {
            lappend out $word
        }
    }
    return $out
}

proc porttrace::inport::redirected {sign path} {
    switch -- $sign {
        = { return $path }
        < { return [permit read $path "couldn't read file \"%s\""] }
        default { return [permit create $path "couldn't write file \"%s\""] }
    }
}

proc porttrace::inport::program {name} {
    set search [expr {[info exists ::env(PATH)] ? $::env(PATH) : "/usr/bin:/bin"}]
    lassign [::porttrace::call program $name $search [pwd]] verdict path
    if {$verdict ne "ok"} {
        refuse $verdict "couldn't execute \"$name\""
    }
    return $path
}

# --- what reads -------------------------------------------------------------------

proc porttrace::inport::guarded_source {args} {
    if {[llength $args]} {
        set args [lreplace $args end end [permit read [lindex $args end] "couldn't read file \"%s\""]]
    }
    tailcall [real_name source] {*}$args
}

proc porttrace::inport::guarded_load {args} {
    if {[llength $args] && [string match */* [set path [lindex $args 0]]]} {
        permit read $path "couldn't load file \"%s\""
    }
    tailcall [real_name load] {*}$args
}

proc porttrace::inport::guarded_cd {args} {
    variable installed
    if {[llength $args]} {
        permit stat [lindex $args 0] "couldn't change working directory to \"%s\""
    }
    tailcall [real_name [expr {[dict exists $installed cd] ? "cd" : "_cd"}]] {*}$args
}

proc porttrace::inport::guarded_glob {args} {
    set directory ""
    set tails 0
    set complain 1
    for {set at 0} {$at < [llength $args]} {incr at} {
        switch -glob -- [lindex $args $at] {
            -- { break }
            -dir* { set directory [lindex $args [incr at]] }
            -path - -pa* { incr at }
            -ty* { incr at }
            -ta* { set tails 1 }
            -noc* { set complain 0 }
            -jo* {}
            -* {}
            default { break }
        }
    }
    set found [uplevel 1 [list [real_name glob] {*}$args]]
    if {![llength $found]} {
        return $found
    }
    set paths [list]
    foreach entry $found {
        lappend paths [absolute [expr {$tails && $directory ne "" ? [::tcl::file::join $directory $entry] : $entry}]]
    }
    set shown [list]
    foreach entry $found answer [::porttrace::call check entry {*}$paths] {
        if {[lindex $answer 0] eq "ok"} {
            lappend shown $entry
        }
    }
    if {![llength $shown] && $complain} {
        set patterns [lrange $args [expr {[lindex $args $at] eq "--" ? $at + 1 : $at}] end]
        return -code error -errorcode {TCL OPERATION GLOB NOMATCH} \
            "no files matched glob pattern[expr {[llength $patterns] > 1 ? "s" : ""}] \"$patterns\""
    }
    return $shown
}

# --- file ---------------------------------------------------------------------------

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
    if {[llength $args] == 1} {
        set path [lindex $args 0]
        lassign [lindex [::porttrace::call check stat [absolute $path]] 0] verdict physical
        if {$verdict ne "ok"} {
            return 0
        }
        if {$physical ne [absolute $path]} {
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
        lassign [lindex [::porttrace::call check delete [absolute $path]] 0] verdict physical
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
    set hidden [::porttrace::call hidden_below [absolute $source]]
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

source -encoding utf-8 [file join $porttrace::directory portcommands.tcl]
