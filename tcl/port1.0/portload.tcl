# portload.tcl: load, unload, reload: startup items, of which this port tool makes none.

namespace eval portload {}

foreach portload::name {load unload reload} {
	set portload::item [target_new org.macports.$portload::name portload::load_main]
	target_provides $portload::item $portload::name
	target_requires $portload::item main
	target_runtype $portload::item always
	target_state $portload::item no
}
unset portload::name portload::item

proc portload::load_main {item args} {
	ui_notice "--->  [option subport] has no startup item"
}
