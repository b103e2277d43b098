#include "tag_linux.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "sysraw.h"

struct limit {
	uint64_t soft, hard;
};

#define INODE_BITS 46

/* By device and inode, not by the name: it can be reached by several. */
uint64_t pt_tag_of(const char *directory)
{
	struct stat st;
	if (pt_raw4(SYS_newfstatat, AT_FDCWD, directory, &st, 0) || !S_ISDIR(st.st_mode))
		return 0;
	uint64_t device = (uint64_t)st.st_dev ^ (uint64_t)st.st_dev >> 20; /* the high bits of its minor number lie there */
	return PT_TAG_BIT | (device & 0xffff) << INODE_BITS | ((uint64_t)st.st_ino & ((1ull << INODE_BITS) - 1));
}

uint64_t pt_tag_own(bool *fenced)
{
	struct limit limit = { 0, UINT64_MAX };
	pt_raw4(SYS_prlimit64, 0, RLIMIT_LOCKS, 0, &limit);
	*fenced = pt_is_tag(limit.hard) && limit.soft == limit.hard;
	return limit.hard;
}

static void set(uint64_t soft, uint64_t hard)
{
	const struct limit limit = { soft, hard };
	if (pt_is_tag(hard))
		pt_raw4(SYS_prlimit64, 0, RLIMIT_LOCKS, &limit, 0);
}

void pt_tag_take(uint64_t tag)
{
	set(tag - 1, tag);
}

void pt_tag_fenced(void)
{
	bool already;
	uint64_t own = pt_tag_own(&already);
	if (!already)
		set(own, own);
}
