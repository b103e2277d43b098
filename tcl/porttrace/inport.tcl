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

    # Messages as the C library writes them.
    variable posix {
        ENOENT {no such file or directory}
        EACCES {permission denied}
        ELOOP {too many levels of symbolic links}
    }

    # What is not guarded, and why. A test holds this against the commands that this Tcl has: one that is new is judged
    # or gets a reason here.
    variable unguarded_commands {
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

    # Directories below which the policy allows everything but what begins with one of some names, for reading and for
    # writing: {directory exceptions}. What lies there under a name without links is allowed without a question.
    variable open_places [dict create read {} write {}]

    # The same by directory.
    variable places [dict create read {} write {}]

    # Where Tcl has its own library, some of which it loads when it is needed. That of Tcl 9 is in its program, by names
    # that mean nothing to the system.
    variable own_library [expr {[string match //* [info library]] ? [file dirname [info library]] : [info library]}]

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
    variable awake
    if {[dict size $installed] || ![llength $launcher]} {
        return
    }
    foreach name {open exec glob source cd _cd load interp} {
        if {[llength [info commands ::$name]]} {
            cover $name [namespace current]::guarded_[string trimleft $name _]
        }
    }
    # Those of MacPorts, in C, start programs by themselves, with what the environment says. (A procedure would find
    # other commands where it is renamed to.)
    foreach name {system fork execl} {
        if {[llength [info commands ::$name]] && ![llength [info procs ::$name]]} {
            cover $name [namespace current]::guarded_start $name
        }
    }
    cover_file
    set awake 1
    install_port_commands
    foreach child [children] {
        guard_child $child $launcher
    }
    cover_threads
    guard_threads
}

##
# Take them away again: this process has back what it gave up.
proc porttrace::inport::uninstall {} {
    variable installed
    variable awake
    set awake 0
    tell_children ::porttrace::inport::uninstall
    tell_threads ::porttrace::inport::uninstall
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

##
# One of Tcl's own commands, also while a guard stands in front of it.
proc porttrace::inport::own {name} {
    set real [real_name $name]
    if {[llength [info commands $real]]} {
        return $real
    }
    return ::$name
}

proc porttrace::inport::cover {name guard args} {
    variable installed
    rename ::$name [real_name $name]
    [own interp] alias {} ::$name {} $guard {*}$args
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
    if {[string index $path 0] eq "~" && [info tclversion] < 9} {
        # Tcl 8 takes this for a home directory; where there is none, it says so itself
        if {[catch {::tcl::file::nativename $path} path]} {
            return [pwd]/~
        }
    }
    return [::tcl::file::join [pwd] $path]
}

##
# The directories below which everything is allowed, by the core's word; to be told anew with each policy.
proc porttrace::inport::know {reading writing} {
    variable open_places
    variable places
    variable own_library
    foreach {map pairs} [list read $reading write $writing] {
        # Most often it is one of the two that has changed.
        if {$pairs eq [dict get $open_places $map] && ($map eq "write" || [dict size [dict get $places read]])} {
            continue
        }
        dict set open_places $map $pairs
        if {$map eq "read"} {
            lappend pairs [list $own_library {}]
        }
        set known [dict create]
        # where one is named twice the first decides
        foreach pair [lreverse $pairs] {
            dict set known {*}$pair
        }
        dict set places $map $known
    }
    tell_children ::porttrace::inport::know $reading $writing
    tell_threads ::porttrace::inport::know $reading $writing
}

##
# Whether an absolute path lies in a place where everything is allowed, under a name that no link can lead away; for
# the access `tree`, with all that is below it.
proc porttrace::inport::is_open {access path} {
    variable places
    ::porttrace::learn_places
    set known [dict get $places [expr {$access in {read stat lstat exec list readlink entry tree} ? "read" : "write"}]]
    # The next directory above it that is one of them: it has the exceptions of those above it that lie there, too.
    # (Where all of / is open the core may say so.)
    set place $path
    while {![dict exists $known $place]} {
        set last [string last / $place]
        if {$last <= 0} {
            return 0
        }
        set place [string range $place 0 $last-1]
    }
    foreach exception [dict get $known $place] {
        if {[string equal -nocase -length [string length $exception] $exception $path]
                || $access eq "tree" && [string equal -nocase -length [string length $path] $path $exception]} {
            return 0
        }
    }
    # a fresh value: Tcl keeps with one what it once found the links on the way to be
    return [expr {[::tcl::file::normalize [format %s $path]] eq $path
        && ($access in {lstat entry tree readlink delete rename link} || [catch {::tcl::file::readlink $path}])}]
}

##
# What the policy says to an absolute path: {verdict path-to-use}.
proc porttrace::inport::verdict {access path} {
    # With the policy comes what it leaves open.
    if {[is_open $access $path] || [::porttrace::settle] && [is_open $access $path]} {
        return [list ok $path]
    }
    return [lindex [::porttrace::call check $access $path] 0]
}

##
# The path to use for `path`, or the system's error.
#
# @param access  what is to be done with it
# @param what    how Tcl's message begins, with the path's place as %s
proc porttrace::inport::permit {access path what} {
    set absolute [absolute $path]
    lassign [verdict $access $absolute] verdict physical
    if {$verdict eq "ok"} {
        # Where nothing redirects, the path stays as it was given. (No [expr]: it takes the name 010 for a number.)
        if {$physical eq $absolute} {
            return $path
        }
        return $physical
    }
    refuse $verdict [string map [list %s $path] $what]
}

proc porttrace::inport::refuse {verdict what} {
    variable posix
    set text [dict get $posix $verdict]
    return -level 2 -code error -errorcode [list POSIX $verdict $text] "$what: $text"
}

proc porttrace::inport::visible {path {access stat}} {
    return [expr {[lindex [verdict $access [absolute $path]] 0] eq "ok"}]
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
    if {[string index $name 0] eq "~"} {
        set name [absolute $name]
    }
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

proc porttrace::inport::guarded_start {name args} {
    ::porttrace::settle
    tailcall [real_name $name] {*}$args
}

proc porttrace::inport::guarded_load {args} {
    ::porttrace::settle
    if {[llength $args] && [string match */* [set path [lindex $args 0]]]} {
        permit read $path "couldn't load file \"%s\""
    }
    set loaded [[real_name load] {*}$args]
    # it may have been the Thread package
    cover_threads
    return $loaded
}

proc porttrace::inport::guarded_cd {args} {
    variable installed
    # without a word it goes home
    if {[llength $args]} {
        set directory [lindex $args 0]
    } elseif {[info exists ::env(HOME)]} {
        set directory $::env(HOME)
    } else {
        set directory [pwd]
    }
    permit stat $directory "couldn't change working directory to \"%s\""
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
    # one question for all that have to be asked for
    set shown [list]
    set places [list]
    set paths [list]
    foreach entry $found {
        set path $entry
        if {$tails && $directory ne ""} {
            # no [file join], for which a name that begins with ~ is another place in Tcl 8
            set path [string trimright $directory /]/$entry
        }
        set path [absolute $path]
        # what names an open directory itself, and the one above it, may be shown, too
        set open $path
        regexp {^(.+)/\.\.?$} $path -> open
        if {![is_open entry $open]} {
            lappend places [llength $shown]
            lappend paths $path
        }
        lappend shown $entry
    }
    if {[llength $paths]} {
        foreach place [lreverse $places] answer [lreverse [::porttrace::call check entry {*}$paths]] {
            if {[lindex $answer 0] ne "ok"} {
                set shown [lreplace $shown $place $place]
            }
        }
    }
    if {![llength $shown] && $complain} {
        set patterns [lrange $args [expr {[lindex $args $at] eq "--" ? $at + 1 : $at}] end]
        return -code error -errorcode {TCL OPERATION GLOB NOMATCH} \
            "no files matched glob pattern[expr {[llength $patterns] > 1 ? "s" : ""}] \"$patterns\""
    }
    return $shown
}

# An interpreter that a Portfile makes has these without the transport, and may make others itself.
foreach porttrace::inport::sibling {whereabouts.tcl filecommands.tcl portcommands.tcl children.tcl threads.tcl} {
    source -encoding utf-8 [file join $porttrace::directory $porttrace::inport::sibling]
}
unset porttrace::inport::sibling
