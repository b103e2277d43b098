# keywords.tcl: keywords of real Portfiles that are read and have no effect here, and what happens to unknown ones.

# Ports with these build the same without them: they say something about macOS, about upgrades or about the
# binary servers of MacPorts.
options add_users altinstall.hooks applications_dir archive_sites cargo.crates compiler.blacklist compiler.c_standard \
	compiler.cxx_standard compiler.fallback compiler.limit_flags compiler.log_verbose_output compiler.mpi \
	compiler.openmp_version compiler.require_fortran compiler.thread_local_storage compiler.whitelist \
	compiler.blacklist_environment compiler.support_environment_paths compiler.support_environment_sdkroot \
	conflicts copy_log_files depends_skip_archcheck deprecated_by destroot.asroot distcheck.type frameworks_dir \
	install.group install.user installs_libs known_fail legacysupport.newest_darwin_requires_legacy \
	license_noconflict livecheck.branch livecheck.compression livecheck.distname livecheck.ignore_sslcert \
	livecheck.md5 livecheck.name livecheck.regex livecheck.type livecheck.url livecheck.user_agent livecheck.version \
	macosx_deployment_target mirror_sites.listfile minimum_xcodeversions muniversal.is_cross.x86_64 \
	os.universal_supported replaced_by startupitem.autostart startupitem.create startupitem.executable \
	startupitem.init startupitem.install startupitem.location startupitem.logfile startupitem.name \
	startupitem.netchange startupitem.pidfile startupitem.restart startupitem.start startupitem.stop \
	startupitem.type startupitems supported_archs test.ignore_archs universal_variant use_xcode \
	configure.universal_args configure.universal_archs configure.universal_cflags configure.universal_cppflags \
	configure.universal_cxxflags configure.universal_ldflags configure.sdkroot configure.sdk_version \
	configure.march configure.mtune configure.optflags_universal \
	fetch.ignore_sslcert fetch.password fetch.remote_time fetch.use_epsv fetch.user fetch.user_agent \
	build.mem_per_job build.asroot configure.asroot extract.asroot patch.asroot test.asroot
option_proc known_fail portutil::export
option_proc replaced_by portutil::export
option_proc conflicts portutil::export
option_proc supported_archs portutil::export
default known_fail no
default supported_archs {}
default conflicts {}
default replaced_by {}
default add_users {}
default install.user root
default install.group [expr {$tcl_platform(os) eq "Darwin" ? "wheel" : "root"}]

# A keyword that is not supported is an error that names it; portutil::error_place adds file and line.
proc unknown {args} {
	set word [lindex $args 0]
	# Tcl's own library is loaded on first use too.
	if {[auto_load $word [uplevel 1 {::namespace current}]]} {
		return [uplevel 1 $args]
	}
	if {[regexp {^([^.]+)\.trace_(?:read|write|hide)(?:-|$)} $word -> phase]} {
		return -code error -errorcode {PORT KEYWORD} \
			"$word: no phase \"$phase\" takes it: must be one of [join $portutil::fence_phases {, }]"
	}
	return -code error -errorcode {PORT KEYWORD} "unsupported keyword or command \"$word\""
}
