# -*- coding: utf-8; mode: tcl; tab-width: 4; indent-tabs-mode: nil; c-basic-offset: 4 -*- vim:fenc=utf-8:ft=tcl:et:sw=4:ts=4:sts=4
#
# Ports whose upstream source is also in Debian: where apt-get is, it fetches the upstream
# tarball by the name of Debian's source package, from the mirrors that the machine already uses.
# Elsewhere, and where that fails, the port's own master_sites serve. Whatever the
# way, the file is the one that the port's checksums name.
#
# PortGroup             debian_source 1.0
# debian_source.setup   hello
#
# The machine's configuration of apt is read and left alone: indices and state go into the workpath.

options debian_source.package
default debian_source.package {}

proc debian_source.setup {package} {
    debian_source.package   ${package}
}

namespace eval debian_source {}

# The machine's sources of packages, asked for source packages instead: {suffix text} of one file.
# Both of apt's formats are known, sources.list(5).
proc debian_source::sources {} {
    set lists [glob -nocomplain /etc/apt/sources.list /etc/apt/sources.list.d/*.list]
    set stanzas [glob -nocomplain /etc/apt/sources.list.d/*.sources]
    set out [dict create list {} sources {}]
    foreach {kind files} [list list ${lists} sources ${stanzas}] {
        foreach path [lsort ${files}] {
            set channel [open ${path} r]
            foreach line [split [read ${channel}] "\n"] {
                if {${kind} eq "list"} {
                    if {[regsub {^\s*deb(-src)?\s} ${line} {deb-src } line]} {
                        dict append out list "${line}\n"
                    }
                } elseif {![string match "#*" ${line}]} {
                    regsub {^Types:.*} ${line} {Types: deb-src} line
                    dict append out sources "${line}\n"
                }
            }
            close ${channel}
            dict append out sources "\n"
        }
    }
    return ${out}
}

# Puts the upstream tarball of a source package into distpath, under the port's own name for it.
# An error where apt-get cannot get it.
proc debian_source::get {package directory target} {
    file delete -force ${directory}
    foreach sub {lists/partial cache/archives/partial state parts download} {
        file mkdir ${directory}/${sub}
    }
    dict for {suffix text} [sources] {
        set channel [open ${directory}/parts/all.${suffix} w]
        puts ${channel} ${text}
        close ${channel}
    }
    set channel [open ${directory}/apt.conf w]
    # The machine's own hooks have no business here.
    puts ${channel} "#clear APT::Update;
#clear DPkg;
Dir::Etc::SourceList \"/dev/null\";
Dir::Etc::SourceParts \"${directory}/parts\";
Dir::State \"${directory}/state\";
Dir::State::status \"/dev/null\";
Dir::State::Lists \"${directory}/lists\";
Dir::Cache \"${directory}/cache\";
Dir::Log \"${directory}\";
Acquire::Languages \"none\";
APT::Sandbox::User \"\";"
    close ${channel}
    system -W ${directory}/download "apt-get -q -c ${directory}/apt.conf update"
    system -W ${directory}/download "apt-get -q -c ${directory}/apt.conf source --download-only --tar-only ${package}"
    set found [glob -nocomplain ${directory}/download/*.orig.tar.*]
    if {[llength ${found}] != 1} {
        error "apt-get fetched no upstream tarball of ${package}"
    }
    file copy -force [lindex ${found} 0] ${target}
}

pre-fetch {
    set debian_source_target ${distpath}/[lindex ${distfiles} 0]
    if {${debian_source.package} ne "" && ![file exists ${debian_source_target}]
            && [file executable /usr/bin/apt-get]} {
        ui_info "Fetching the source of Debian's package ${debian_source.package}"
        if {[catch {
            debian_source::get ${debian_source.package} ${workpath}/debian_source ${debian_source_target}
        } debian_source_why]} {
            ui_warn "apt-get could not fetch the source of ${debian_source.package}: ${debian_source_why}"
        }
        file delete -force ${workpath}/debian_source
    }
}
