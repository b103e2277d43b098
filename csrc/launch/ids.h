/* Giving up an identity for good: real, effective and saved ids, and the supplementary groups. */
#ifndef PORTTRACE_LAUNCH_IDS_H
#define PORTTRACE_LAUNCH_IDS_H

#include <stdbool.h>
#include <sys/types.h>

#define PT_MAX_GROUPS 256

struct pt_ids {
	bool have_uid, have_gid, have_groups;
	uid_t uid;
	gid_t gid;
	gid_t groups[PT_MAX_GROUPS];
	int ngroups;
	bool left_root; /* told by pt_ids_drop: one of the ids was root's, and none is now */
};

/*
 * Become `ids`; where it says nothing, the effective ids become the only ones (so that nothing is left in
 * secure-execution mode). NULL, or what failed, errno set.
 */
const char *pt_ids_drop(struct pt_ids *ids);

#endif
