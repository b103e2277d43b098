# portcommands.tcl: commands of the port tool that use files without Tcl's own.
#
# MacPorts has commands in C (xinstall, md5, …) and procedures that run in
# another interpreter (copy, reinplace, … as aliases); neither meets the guards
# of this interpreter. Procedures of this interpreter do, and are left alone.

namespace eval porttrace::inport {
    # command -> how its words are judged:
    #   reads      every word that is no option is read
    #   deletes    … is deleted
    #   makes      … is created
    #   transfer   the last is created, the others read; moves also takes them away
    #   first-ATTR only the first word, for the access named
    #   last-…     only the last word
    variable port_commands {
        xinstall xinstall
        copy {transfer read}
        move {transfer rename}
        ln {transfer stat}
        delete {each delete}
        symlink {at 1 create}
        lchown {at 0 attributes}
        md5 {last read}
        sha1 {last read}
        sha256 {last read}
        rmd160 {last read}
        blake3 {last read}
        readdir {at 0 list}
        dirempty {at 0 list}
        fileIsBinary {last read}
        fileIsSparse {last read}
        mktemp {last create}
        mkdtemp {last create}
        clonefile {transfer read}
        portutil::_reinplace reinplace
        portutil::_touch touch
    }

    # Options of these that take a word.
    variable port_options {
        xinstall {-B -f -g -m -o -W}
        reinplace {-locale -W}
        touch {-r -t -W}
    }
}

proc porttrace::inport::install_port_commands {} {
    variable port_commands
    dict for {name how} $port_commands {
        if {[llength [info commands ::$name]] && ![llength [info procs ::$name]]} {
            cover $name [namespace current]::guarded_port_command $name $how
        }
    }
    if {[llength [info commands ::fs-traverse]] && ![llength [info procs ::fs-traverse]]} {
        cover fs-traverse [namespace current]::guarded_traverse
    }
}

proc porttrace::inport::guarded_port_command {name how args} {
    ::porttrace::settle
    # Each judge answers with the words to use, or refuses.
    tailcall [real_name $name] {*}[judge_[lindex $how 0] [namespace tail $name] [lrange $how 1 end] $args]
}

# Words after the options, and the directory that -W names.
proc porttrace::inport::operands {name words {with_value {}}} {
    set directory ""
    while {[string match -?* [lindex $words 0]]} {
        set option [lindex $words 0]
        set words [lrange $words 1 end]
        if {$option eq "--"} {
            break
        }
        if {$option in $with_value} {
            if {$option eq "-W"} {
                set directory [lindex $words 0]
            }
            set words [lrange $words 1 end]
        }
    }
    return [list $words $directory]
}

proc porttrace::inport::judge_each {name how words} {
    set paths [lindex [operands $name $words] 0]
    set kept [lrange $words 0 end-[llength $paths]]
    foreach path $paths {
        lassign [verdict $how [absolute $path]] verdict
        switch -- $verdict {
            ok { lappend kept $path }
            ENOENT {
                # Not there for us, and these commands do not mind: it must not reach them.
            }
            default { refuse $verdict "$name: $path" }
        }
    }
    return $kept
}

proc porttrace::inport::judge_at {name how words} {
    lassign $how at access
    if {[llength $words] > $at} {
        permit $access [lindex $words $at] "$name: %s"
    }
    return $words
}

proc porttrace::inport::judge_last {name how words} {
    if {[llength $words] && ![string match -* [lindex $words end]]} {
        permit $how [lindex $words end] "$name: %s"
    }
    return $words
}

proc porttrace::inport::judge_transfer {name how words} {
    set paths [lindex [operands $name $words] 0]
    if {[llength $paths] < 2} {
        return $words
    }
    set target [lindex $paths end]
    foreach source [lrange $paths 0 end-1] {
        if {$name ne "ln"} {
            # a symbolic link may point to what does not exist, and reads nothing
            permit $how $source "$name: %s"
            if {$how eq "read"} {
                visible_tree $source "$name: $source"
            }
        }
        set into $target
        if {[visible $target] && [::tcl::file::isdirectory $target]} {
            set into [::tcl::file::join $target [::tcl::file::tail $source]]
        }
        permit create $into "$name: %s"
    }
    return $words
}

proc porttrace::inport::judge_xinstall {name how words} {
    variable port_options
    lassign [operands $name $words [dict get $port_options xinstall]] paths directory
    set base [::tcl::file::join [pwd] $directory]
    if {"-d" in [lrange $words 0 end-[llength $paths]]} {
        foreach path $paths {
            set path [::tcl::file::join $base $path]
            if {![::tcl::file::isdirectory $path] || ![visible $path]} {
                permit create $path "xinstall: %s"
            }
        }
        return $words
    }
    if {[llength $paths] < 2} {
        return $words
    }
    set target [::tcl::file::join $base [lindex $paths end]]
    foreach source [lrange $paths 0 end-1] {
        permit read [::tcl::file::join $base $source] "xinstall: %s"
        set into $target
        if {[visible $target] && [::tcl::file::isdirectory $target]} {
            set into [::tcl::file::join $target [::tcl::file::tail $source]]
        }
        permit create $into "xinstall: %s"
    }
    return $words
}

# MacPorts gives the directory (and for reinplace the one for temporary files) before the words of the Portfile.
proc porttrace::inport::judge_reinplace {name how words} {
    variable port_options
    set base [lindex $words 0]
    lassign [operands $name [lrange $words 2 end] [dict get $port_options reinplace]] paths directory
    if {$directory ne ""} {
        set base $directory
    }
    foreach path [lrange $paths 1 end] {
        set path [::tcl::file::join $base $path]
        permit read $path "reinplace: %s"
        permit write $path "reinplace: %s"
    }
    return $words
}

proc porttrace::inport::judge_touch {name how words} {
    variable port_options
    set base [lindex $words 0]
    lassign [operands $name [lrange $words 1 end] [dict get $port_options touch]] paths directory
    if {$directory ne ""} {
        set base $directory
    }
    foreach path $paths {
        permit create [::tcl::file::join $base $path] "touch: %s"
    }
    return $words
}

##
# MacPorts' walk is its own, in C, and shows what is hidden: where anything can be, it is made of commands that do not.
#
#   fs-traverse ?-depth? ?-ignoreErrors? ?-tails? ?--? variable targets body
#
# A `continue` for a directory leaves out what is below it, a `break` ends the walk.
proc porttrace::inport::guarded_traverse {args} {
    set words $args
    set options [dict create -depth 0 -ignoreErrors 0 -tails 0]
    while {[string match -* [lindex $words 0]]} {
        set words [lassign $words option]
        if {$option eq "--"} {
            break
        }
        dict set options $option 1
    }
    if {[llength $words] != 3 || [dict size $options] != 3} {
        tailcall [real_name fs-traverse] {*}$args
    }
    lassign $words variable targets body
    set hides 0
    foreach target $targets {
        set hides [expr {$hides || ![is_open tree [absolute $target]]}]
    }
    if {!$hides} {
        tailcall [real_name fs-traverse] {*}$args
    }
    set level [expr {[info level] - 1}]
    foreach target $targets {
        if {![dict get $options -ignoreErrors]} {
            permit list $target "fs-traverse: %s"
        } elseif {![visible $target]} {
            continue
        }
        if {[traverse $level $variable $body $target . $options] == 3} {
            return
        }
    }
}

# One path of a walk and what is below it: 3 where the body broke off.
proc porttrace::inport::traverse {level variable body target tail options} {
    set path [expr {$tail eq "." ? $target : [::tcl::file::join $target $tail]}]
    set directory [expr {[::file isdirectory $path] && ($tail eq "." || [::file type $path] ne "link")}]
    set visit {
        upvar #$level $variable shown
        set shown [expr {[dict get $options -tails] ? $tail : $path}]
        set code [catch {uplevel #$level $body} result details]
        switch -- $code {
            0 {}
            3 { return 3 }
            4 { return 0 }
            default {
                dict incr details -level
                return -options $details $result
            }
        }
    }
    if {![dict get $options -depth]} {
        eval $visit
    }
    if {$directory} {
        foreach name [lsort [::glob -nocomplain -tails -directory $path -- * .*]] {
            if {$name ni {. ..}} {
                set below [expr {$tail eq "." ? $name : [::tcl::file::join $tail $name]}]
                if {[traverse $level $variable $body $target $below $options] == 3} {
                    return 3
                }
            }
        }
    }
    if {[dict get $options -depth]} {
        eval $visit
    }
    return 0
}
