#include "ids.h"

#include <errno.h>
#include <grp.h>
#include <unistd.h>

#ifdef __APPLE__
/*
 * macOS has no call for three ids at once, and shows the saved ones to nobody. Root's setgid and setuid set all
 * three; whether root could come back is tried at the end.
 */
static int getresuid(uid_t *r, uid_t *e, uid_t *s)
{
	*r = getuid();
	*s = *e = geteuid();
	return 0;
}

static int getresgid(gid_t *r, gid_t *e, gid_t *s)
{
	*r = getgid();
	*s = *e = getegid();
	return 0;
}

static int setresgid(gid_t r, gid_t e, gid_t s)
{
	(void)e, (void)s;
	return setgid(r);
}

static int setresuid(uid_t r, uid_t e, uid_t s)
{
	(void)s;
	return r == (uid_t)-1 ? seteuid(e) : setuid(e);
}
#define setgroups(n, list) setgroups((int)(n), list)
#endif

/* Without the right to change them, the groups that we have must all be wanted. */
static bool groups_are_within(const struct pt_ids *ids)
{
	gid_t have[PT_MAX_GROUPS];
	int n = getgroups(PT_MAX_GROUPS, have);
	for (int i = 0; i < n; i++) {
		bool wanted = have[i] == ids->gid;
		for (int j = 0; j < ids->ngroups && !wanted; j++)
			wanted = have[i] == ids->groups[j];
		if (!wanted)
			return false;
	}
	return n >= 0;
}

const char *pt_ids_drop(struct pt_ids *ids)
{
	uid_t ru, eu, su;
	gid_t rg, eg, sg;
	if (getresuid(&ru, &eu, &su) || getresgid(&rg, &eg, &sg))
		return "reading the ids";
	bool asked = ids->have_uid || ids->have_gid || ids->have_groups;
	if (!asked && ru == eu && eu == su && rg == eg && eg == sg)
		return NULL;
	if (!ids->have_uid)
		ids->uid = eu;
	if (!ids->have_gid)
		ids->gid = eg;
	/* A port that runs as root has only its effective uid switched: take root back in order to give all of it up. */
	if (eu != 0 && (ru == 0 || su == 0) && setresuid((uid_t)-1, 0, (uid_t)-1))
		return "taking root back";
	bool root = geteuid() == 0;
	/* Root that becomes somebody else without naming groups keeps none of root's. */
	if (!ids->have_groups && root && ids->uid != 0) {
		ids->groups[0] = ids->gid;
		ids->ngroups = 1;
		ids->have_groups = true;
	}
	if (ids->have_groups && setgroups((size_t)ids->ngroups, ids->groups)) {
		if (errno != EPERM || root || !groups_are_within(ids)) {
			errno = EPERM;
			return "setting the supplementary groups";
		}
	}
	if (setresgid(ids->gid, ids->gid, ids->gid))
		return "setting the group ids";
	if (setresuid(ids->uid, ids->uid, ids->uid))
		return "setting the user ids";
	if (getresuid(&ru, &eu, &su) || getresgid(&rg, &eg, &sg) || ru != ids->uid || eu != ids->uid || su != ids->uid ||
	    rg != ids->gid || eg != ids->gid || sg != ids->gid) {
		errno = EPERM;
		return "checking the new ids";
	}
	ids->left_root = root && ids->uid != 0;
	if (ids->uid != 0 && setresuid((uid_t)-1, 0, (uid_t)-1) == 0) {
		errno = EPERM;
		return "giving up root (it could be taken back)";
	}
	return NULL;
}
