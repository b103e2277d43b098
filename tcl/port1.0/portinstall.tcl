# portinstall.tcl: the destroot becomes an image and an entry of the registry. Nothing in the prefix changes yet.

namespace eval portinstall {
	# The archive from which this port is installed; empty: it is built.
	variable archive ""
}

set org.macports.install [target_new org.macports.install portinstall::install_main]
target_provides ${org.macports.install} install
target_requires ${org.macports.install} main fetch checksum extract patch configure build destroot
target_prerun ${org.macports.install} portinstall::install_start
target_state ${org.macports.install} no

options portarchivetype
default portarchivetype {[setting portarchivetype]}

proc portinstall::install_start {args} {
	global subport
	ui_notice "--->  Installing $subport @[portinstall::specifier]"
}

proc portinstall::install_main {args} {
	variable archive
	if {$archive ne ""} {
		ui_debug "Image: [image_install_archive [portinstall::description] $archive]"
	} else {
		ui_debug "Image: [image_install [portinstall::description]]"
	}
	return 0
}

# Decides whether an installation takes an archive: -b always, -s never; else where one was made from this very
# Portfile, and in trace mode by a traced build.
proc portinstall::choose_archive {target} {
	global subport portpath
	variable archive ""
	if {$target ni {install activate} || [tbool ports_source_only] \
			|| [registry_is_installed $subport [option version] [option revision] [option portvariants]]} {
		return
	}
	set file [file join [option archive.fulldestpath] [portinstall::image]]
	if {![file isfile $file]} {
		if {[tbool ports_binary_only]} {
			return -code error "there is no archive of $subport @[portinstall::specifier] ($file):\
				make one with \"port archive $subport\", or leave -b out"
		}
		return
	}
	lassign [archive_made_from $file] checksum traced
	set same [expr {$checksum eq [hash_file sha256 [file join $portpath Portfile]]}]
	if {[tbool ports_binary_only]} {
		if {!$same} {
			ui_notice "The archive of $subport was made from another Portfile than the one in $portpath"
		}
	} elseif {!$same || ([tbool ports_trace] && !$traced)} {
		ui_info "The archive $file is not used: [expr {$same ? "its build was not traced" : "it was made from another Portfile"}]"
		return
	}
	ui_info "Installing $subport from the archive $file"
	set archive $file
	return
}

# version_revision+variants
proc portinstall::specifier {} {
	return [option version]_[option revision][option portvariants]
}

# The architectures of what is installed, as MacPorts writes them.
proc portinstall::archs {} {
	if {[option supported_archs] eq "noarch"} {
		return noarch
	}
	if {[exists configure.build_arch] && [option configure.build_arch] ne ""} {
		return [option configure.build_arch]
	}
	return [option os.arch]
}

# {platform major}, each `any` where the port itself says that it does not matter: the option's default says only
# where a port may be built.
proc portinstall::compatible_platform {} {
	set platforms {}
	if {[exists platforms] && ![dict exists $portutil::defaults platforms]} {
		set platforms [option platforms]
	}
	foreach entry $platforms {
		if {$entry eq "any"} {
			return {any any}
		}
		if {[lindex $entry 0] in [list [option os.platform] [option os.subplatform]] && [lindex $entry 1] eq "any"} {
			return [list [option os.platform] any]
		}
	}
	return [list [option os.platform] [option os.major]]
}

proc portinstall::image {} {
	global subport
	return [image_name $subport [portinstall::specifier] [join [portinstall::compatible_platform] _] \
		[portinstall::archs] [option portarchivetype]]
}

# A block of text as one string: options hold their words as a list.
proc portinstall::text {option} {
	return [expr {[exists $option] ? [join [option $option]] : ""}]
}

# The ports that this one needs to run.
proc portinstall::runtime_ports {} {
	set names {}
	foreach type {depends_lib depends_run} {
		if {[exists $type]} {
			foreach spec [option $type] {
				set name [registry_provider $spec]
				if {$name ne "" && $name ni $names} {
					lappend names $name
				}
			}
		}
	}
	return $names
}

# What an archive keeps of the state file: how the port was built, not when which phase ran.
proc portinstall::state {} {
	global portpath
	set lines [list "version: 2" "checksum: [hash_file sha256 [file join $portpath Portfile]]"]
	foreach {name sign} [option portvariations] {
		lappend lines "variant: $sign$name"
	}
	lappend lines "target: org.macports.destroot"
	return [join $lines \n]\n
}

# Name, version and file of each PortGroup.
proc portinstall::groups {} {
	global porttree_resources
	set found {}
	foreach group $portutil::groups {
		lassign $group name version
		foreach resources $porttree_resources {
			set file [file join $resources port1.0 group $name-$version.tcl]
			if {[file isfile $file]} {
				lappend found $name $version $file
				break
			}
		}
	}
	return $found
}

# Everything that image_install and image_archive need to know of this port.
proc portinstall::description {} {
	global subport portpath destroot
	lassign [portinstall::compatible_platform] platform major
	set depends [portinstall::runtime_ports]
	set pkgdeps {}
	foreach name $depends {
		set entry [registry_active $name]
		lappend pkgdeps [expr {$entry eq "" ? $name
			: "[dict get $entry name]-[dict get $entry version]_[dict get $entry revision]"}]
	}
	set also {}
	foreach option {applications_dir frameworks_dir} {
		if {[exists $option]} {
			lappend also {*}[option $option]
		}
	}
	return [dict create \
		name $subport \
		version [option version] \
		revision [option revision] \
		variants [option portvariants] \
		requested_variants [expr {[exists requested_variants] ? [option requested_variants] : [option portvariants]}] \
		epoch [option epoch] \
		requested [tbool ports_requested] \
		archs [portinstall::archs] \
		os_platform $platform \
		os_major $major \
		image [portinstall::image] \
		source_date_epoch [portinstall::date] \
		destroot $destroot \
		portfile [file join $portpath Portfile] \
		portgroups [portinstall::groups] \
		depends $depends \
		pkgdeps $pkgdeps \
		description [portinstall::text description] \
		long_description [portinstall::text long_description] \
		homepage [portinstall::text homepage] \
		state [portinstall::state] \
		trace [usage_archive $subport [lindex [portutil::state_values build] 0]] \
		also $also \
		violate_mtree [expr {[tbool destroot.violate_mtree] ? "yes" : "no"}]]
}

# The latest time that a file in an archive may carry: what the build was told, else the Portfile's own.
proc portinstall::date {} {
	global portpath
	if {[exists source_date_epoch] && [option source_date_epoch] ne ""} {
		return [option source_date_epoch]
	}
	return [file mtime [file join $portpath Portfile]]
}
