/*
 * Everything large that the process keeps, beside the library's other data:
 * no mapping of its own, and pages come as they are touched. Linked last and
 * not aligned by the linker, so that the library's small variables stay in the
 * page that the loader has written anyway.
 */
#include "dircache.h"

#ifdef __linux__
__attribute__((section(".policy"), aligned(64))) const struct pt_room pt_room = { .mark = "porttrace: room for a policy", .size = sizeof pt_room };
#endif

#ifdef __clang__
#define IN_ORDER                       /* as they are written anyway */
#else
#define IN_ORDER __attribute__((no_reorder))
#endif
#define PAGE 16384u                   /* the largest of the machines that we know */

/* The first of them, beside the small variables: few programs have a descriptor whose byte is not in that page. */
_Atomic uint8_t pt_fd_facts[PT_FDS] IN_ORDER;
_Atomic uint64_t pt_more_not_links[PT_NOT_LINKS] IN_ORDER, pt_more_told[PT_TOLD] IN_ORDER;
_Static_assert(sizeof(struct pt_few) <= 4096, "one page");

#define SLABS (PT_SMALL_SLABS * PT_SMALL_SIZE + PT_LARGE_SLABS * PT_LARGE_SIZE)
/*
 * Together with the code it stays below two megabytes: what is larger the kernel puts where nothing else is, and each
 * process would pay for page tables of its own.
 */
static char room[5 * PAGE + SLABS + sizeof(struct pt_dir) * (PT_DIRS + PT_FD_SLOTS + 1) + PT_DEEP_SIZE + PT_FAR_SIZE];
_Static_assert(sizeof room < (7u << 18), "a quarter of a megabyte is left for the rest");

static char *page(char *p)
{
	return (char *)(((uintptr_t)p + PAGE - 1) & ~(uintptr_t)(PAGE - 1));
}

void pt_find_own(void)
{
	char *p = page((char *)(pt.few + 1));
	if (sys_wipe_on_fork(p))
		pt.own = (struct pt_own *)(void *)p;
}

PT_HOT void pt_find_tables(void)   /* run by each process that starts */
{
	pt.slabs = page(room);
	/* the slot of the working directory, which comes last, in a page with the first directories */
	pt.dirs = (struct pt_dir *)(void *)page(pt.slabs + SLABS + sizeof(struct pt_dir) * PT_FD_SLOTS) + 1;
	pt.fds = pt.dirs - PT_FD_SLOTS - 1;
	pt.deep = (char *)(pt.dirs + PT_DIRS);
	pt.far = pt.deep + PT_DEEP_SIZE;
	pt.few = (struct pt_few *)(void *)page(pt.far + PT_FAR_SIZE);
	/* only a log writes so many events that asking the kernel for the pid each time would count */
	if (pt.flags & PT_IMG_LOG)
		pt_find_own();
}
