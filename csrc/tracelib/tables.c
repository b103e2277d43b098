/*
 * Everything large that the process keeps, beside the library's other data:
 * no mapping of its own, and pages come as they are touched. Linked last and
 * not aligned by the linker, so that the library's small variables stay in the
 * page that the loader has written anyway.
 */
#include "trace.h"

#define PAGE 16384u                   /* the largest of the machines that we know */

_Atomic uint64_t pt_not_links[PT_NOT_LINKS], pt_told[PT_TOLD];

static char room[PAGE + sizeof(struct pt_dir) * (PT_DIRS + PT_FDS + 1) + sizeof(struct pt_slab) * PT_SLABS + 2 * PAGE];

static char *page(char *p)
{
	return (char *)(((uintptr_t)p + PAGE - 1) & ~(uintptr_t)(PAGE - 1));
}

void pt_find_tables(void)
{
	char *p = page(room);
	/* only a log writes so many events that asking the kernel for the pid each time would count */
	if ((pt.flags & PT_IMG_LOG) && sys_wipe_on_fork(p))
		pt.own = (struct pt_own *)p;
	pt.dirs = (struct pt_dir *)(p + PAGE);
	pt.fds = pt.dirs + PT_DIRS;
	pt.slabs = page((char *)(pt.fds + PT_FDS + 1));
}
