#include "tag_linux.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "sysraw.h"

struct limit {
	uint64_t soft, hard;
};

/* By the inode and not by the name: it can be reached by several. */
uint64_t pt_tag_of(const char *directory)
{
	struct stat st;
	if (pt_raw4(SYS_newfstatat, AT_FDCWD, directory, &st, 0) || !S_ISDIR(st.st_mode))
		return 0;
	return PT_TAG_BIT | ((uint64_t)st.st_ino & (PT_TAG_BIT - 1));
}

uint64_t pt_tag_own(void)
{
	struct limit limit = { 0, UINT64_MAX };
	pt_raw4(SYS_prlimit64, 0, RLIMIT_LOCKS, 0, &limit);
	return limit.hard;
}

void pt_tag_take(uint64_t tag)
{
	const struct limit limit = { tag, tag };
	if (pt_is_tag(tag))
		pt_raw4(SYS_prlimit64, 0, RLIMIT_LOCKS, &limit, 0);
}
