/*
 * What a worker thread may do. It works for a build, so it must be able to do no more than the build: ids and
 * capabilities are a thread's own in Linux, and a worker gives up all but the right to look into the process that
 * asks. That right opens other processes' places in /proc too, so it is laid down where something is opened there.
 */
#include <linux/capability.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/vfs.h>

#include "supervisor_answer.h"

/* glibc's own calls would change all threads. */
static bool effective(bool look)
{
	struct __user_cap_header_struct who = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct caps[2] = { { 0 } };
	if (syscall(SYS_capget, &who, caps))
		return false;
	caps[0].effective = look ? 1u << CAP_SYS_PTRACE & caps[0].permitted : 0;
	caps[1].effective = 0;
	caps[0].inheritable = caps[1].inheritable = 0;
	return syscall(SYS_capset, &who, caps) == 0;
}

bool pt_rights_adopt(uid_t uid, gid_t gid, const gid_t *groups, int count)
{
	if (geteuid() != 0 || uid == 0)
		return true;
	/* The real uid stays root's: a thread with the build's could be killed by the build. */
	if (syscall(SYS_setgroups, count, groups) || syscall(SYS_setresgid, -1, gid, -1) || syscall(SYS_setresuid, -1, uid, -1) ||
	    !effective(true))
		return false;
	return geteuid() == uid && getegid() == gid && (uid_t)syscall(SYS_setfsuid, -1) == uid && (gid_t)syscall(SYS_setfsgid, -1) == gid;
}

static bool in_others_proc(const struct pt_task *t, int fd)
{
	struct statfs fs;
	pid_t process, parent;
	int number;
	if (fd < 0 || fstatfs(fd, &fs) || fs.f_type != PROC_SUPER_MAGIC)
		return false;
	if (!starts(t->at.physical, "/proc"))
		return true;
	if (sscanf(t->at.physical, "/proc/%d", &number) != 1 || number == t->pid)
		return false; /* what is of no process, and its own place */
	pt_target_ids(t->pid, &process, &parent);
	return number != process;
}

bool pt_rights_lower(const struct pt_task *t, int fd)
{
	return t->looks && in_others_proc(t, fd) && effective(false);
}

void pt_rights_raise(void)
{
	(void)effective(true);
}

long pt_open_as_program(const struct pt_task *t, const char *path, const struct open_how *how)
{
	long fd = pt_target_openat2(path, how);
	if (fd < 0 || !pt_rights_lower(t, (int)fd))
		return fd;
	close((int)fd);
	fd = pt_target_openat2(path, how);
	int err = errno;
	pt_rights_raise();
	errno = err;
	return fd;
}
