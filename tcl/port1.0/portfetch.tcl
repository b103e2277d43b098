# portfetch.tcl: gets the distfiles into distpath.

namespace eval portfetch {}

set org.macports.fetch [target_new org.macports.fetch portfetch::fetch_main]
target_provides ${org.macports.fetch} fetch
target_requires ${org.macports.fetch} main
target_prerun ${org.macports.fetch} portfetch::fetch_start
target_init ${org.macports.fetch} portfetch::fetch_init

options master_sites patch_sites distfiles patchfiles fetch.type extract.suffix \
	master_sites.mirror_subdir patch_sites.mirror_subdir
default master_sites {}
default patch_sites {$master_sites}
default distfiles {[list [join $distname][join ${extract.suffix}]]}
default patchfiles {}
default fetch.type standard

# "file:tag" without its tag.
proc portfetch::name_of {distfile} {
	return [regsub {^(.+):[A-Za-z][\w.-]*$} $distfile {\1}]
}

proc portfetch::tag_of {distfile} {
	set tag ""
	regexp {^.+:([A-Za-z][\w.-]*)$} $distfile -> tag
	return $tag
}

# The names of all that has to be there: distfiles, then patches that do not lie beside the Portfile.
proc portfetch::wanted {} {
	set files {}
	foreach file [option distfiles] {
		lappend files [list $file [option master_sites]]
	}
	foreach file [option patchfiles] {
		if {![file exists [file join [option filespath] [portfetch::name_of $file]]]} {
			lappend files [list $file [option patch_sites]]
		}
	}
	return $files
}

proc portfetch::fetch_init {args} {
	global distpath
	if {[option fetch.type] ne "standard"} {
		return -code error "fetch.type [option fetch.type] is not supported: only distfiles are"
	}
	if {![file isdirectory $distpath]} {
		privileges root
		if {[catch {
			file mkdir $distpath
			give_to_build_user $distpath
		} message]} {
			return -code error "cannot make $distpath: [portutil::short_reason $message]"
		}
		privileges build
	}
}

proc portfetch::fetch_start {args} {
	ui_notice "--->  Fetching distfiles for [option subport]"
}

proc portfetch::fetch_main {args} {
	global distpath filespath portpath
	foreach entry [portfetch::wanted] {
		lassign $entry file sites
		set name [portfetch::name_of $file]
		set target [file join $distpath $name]
		if {[file isfile $target]} {
			continue
		}
		set beside ""
		foreach place [list $filespath $portpath] {
			if {[file isfile [file join $place $name]]} {
				set beside [file join $place $name]
				break
			}
		}
		if {$beside ne ""} {
			ui_info "Taking $name from [file dirname $beside]"
			portfetch::take $beside $target
			continue
		}
		portfetch::from_sites $name [portfetch::tag_of $file] $sites $target
	}
}

# A copy that is there whole or not at all.
proc portfetch::take {source target} {
	file copy -force -- $source $target.TMP
	file attributes $target.TMP -permissions 0644
	file rename -force -- $target.TMP $target
}

# Whether there was such a file. A place that the Portfile names as a site is declared by that, and trace mode does not
# hide it, no more than what lies on a network. In the prefix files belong to ports, which are declared in their own way.
proc portfetch::take_from_site {path target} {
	global prefix
	if {[string first $prefix/ [file normalize $path]] != 0} {
		return [take_file $path $target]
	}
	if {![file isfile $path]} {
		return 0
	}
	portfetch::take $path $target
	return 1
}

proc portfetch::from_sites {name tag sites target} {
	set reasons {}
	set tried 0
	foreach site $sites {
		set site_tag ""
		regexp {^(.+?[^/:]/?):([A-Za-z][\w.-]*)$} $site -> site site_tag
		if {$tag ne "" && $site_tag ne "" && $tag ne $site_tag} {
			continue
		}
		if {![regexp {^[a-z]+://} $site]} {
			lappend reasons "the mirror group $site is not known here, give a URL"
			continue
		}
		incr tried
		set url [string trimright $site /]/$name
		if {[regexp {^file://(/.*)$} $url -> path]} {
			ui_info "Looking for $name in [file dirname $path]"
			if {[portfetch::take_from_site $path $target]} {
				return
			}
			lappend reasons "$path does not exist"
			continue
		}
		ui_notice "--->  Attempting to fetch $name from $site"
		if {![catch {download $url $target} message details]} {
			return
		}
		if {[interrupted]} {
			return -options $details $message
		}
		ui_debug "Fetching distfile failed: $message"
		lappend reasons $message
	}
	if {![llength $sites]} {
		lappend reasons "the Portfile names no master_sites"
	}
	return -code error "cannot fetch $name: [join [lrange $reasons 0 2] {; }]"
}
