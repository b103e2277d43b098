/*
 * A word in the session's report about a program that the library may not get into, and that nobody else follows: the
 * record of an exec that nothing answers. Programs that others start have it from the library in those.
 */
#include "word.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "events.h"
#include "sysraw.h"

static struct pt_events *events;
static uint64_t record;

/* Only a set-user-ID program's loader refuses what it is told. */
static bool privileged(const char *path)
{
	struct stat st;
	if (pt_raw4(SYS_newfstatat, AT_FDCWD, path, &st, 0) || !S_ISREG(st.st_mode))
		return false;
	return (st.st_mode & (S_ISUID | S_ISGID)) || pt_raw4(SYS_getxattr, path, "security.capability", NULL, 0) > 0;
}

void pt_word_of_exec(const char *session, const char *path, const char *asked, enum pt_entry entry)
{
	if (entry != PT_ENTRY_STATIC && entry != PT_ENTRY_FOREIGN && !privileged(path))
		return;
	char name[4096 + 16], real[4096];
	snprintf(name, sizeof name, "%s/events", session);
	long fd = pt_raw4(SYS_openat, AT_FDCWD, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0);
	long size = fd < 0 ? -1 : pt_raw3(SYS_lseek, fd, 0, SEEK_END);
	long at = size < (long)PT_EVENTS_MIN ? -1 : pt_raw6(SYS_mmap, 0, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (fd >= 0)
		pt_raw1(SYS_close, fd);
	if ((at < 0 && at > -4096) || !pt_events_capacity((struct pt_events *)at, (size_t)size))
		return;
	events = (struct pt_events *)at;
	fd = pt_raw4(SYS_openat, AT_FDCWD, path, O_PATH | O_CLOEXEC, 0);
	if (fd < 0)
		return;
	snprintf(name, sizeof name, "/proc/self/fd/%d", (int)fd);
	long n = pt_raw4(SYS_readlinkat, AT_FDCWD, name, real, sizeof real);
	pt_raw1(SYS_close, fd);
	if (n <= 0 || n == (long)sizeof real)
		return;
	struct pt_event e = { .kind = PT_EV_EXEC, .access = PT_ACC_EXEC, .tier = 1, .pid = (int32_t)getpid(), .rule = PT_NO_RULE,
		.port = PT_NO_PORT, .path = real, .path_len = (uint32_t)n, .asked = asked, .asked_len = (uint32_t)strlen(asked) };
	record = pt_events_put(events, &e);
}

void pt_word_of_failure(int error)
{
	if (record)
		pt_events_amend(events, record, error);
}
