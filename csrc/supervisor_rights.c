/*
 * What a worker thread may do. It works for a build, so it must be able to do no more than the build: ids and
 * capabilities are a thread's own in Linux, and a worker gives up all but the right to look into the process that
 * asks. That right opens other processes' places in /proc too, so it is laid down where something is opened there.
 */
#include <linux/capability.h>
#include <linux/magic.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/vfs.h>

#include "supervisor_answer.h"

/* Capabilities that the program has itself. */
static __thread uint64_t of_program;

/* glibc's own calls would change all threads. */
static bool effective(bool look)
{
	struct __user_cap_header_struct who = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct caps[2] = { { 0 } };
	if (syscall(SYS_capget, &who, caps))
		return false;
	uint64_t wanted = of_program | (look ? UINT64_C(1) << CAP_SYS_PTRACE : 0);
	caps[0].effective = (uint32_t)wanted & caps[0].permitted;
	caps[1].effective = (uint32_t)(wanted >> 32) & caps[1].permitted;
	caps[0].inheritable = caps[1].inheritable = 0;
	return syscall(SYS_capset, &who, caps) == 0;
}

/* The real uid stays root's: a thread with the build's could be killed by the build. */
static bool become(uid_t uid, gid_t gid, const gid_t *groups, int count)
{
	if (syscall(SYS_setgroups, count, groups) || syscall(SYS_setresgid, -1, gid, -1) || syscall(SYS_setresuid, -1, uid, -1) ||
	    !effective(true))
		return false;
	return geteuid() == uid && getegid() == gid && (uid_t)syscall(SYS_setfsuid, -1) == uid && (gid_t)syscall(SYS_setfsgid, -1) == gid;
}

bool pt_rights_adopt(uid_t uid, gid_t gid, const gid_t *groups, int count)
{
	return geteuid() != 0 || uid == 0 || become(uid, gid, groups, count);
}

/* Whether capabilities mean the same to the program as to us. */
static bool same_users(pid_t pid)
{
	char name[64], own[64] = "", its[64] = "";
	snprintf(name, sizeof name, "/proc/%d/ns/user", (int)pid);
	return readlink("/proc/self/ns/user", own, sizeof own - 1) > 0 && readlink(name, its, sizeof its - 1) > 0 && !strcmp(own, its);
}

bool pt_rights_are_ours(pid_t pid)
{
	static __thread struct pt_target_rights own, its;
	if (getuid() != 0)
		return true; /* there are none */
	return same_users(pid) && pt_target_rights(getpid(), &own) && pt_target_rights(pid, &its) && !(own.caps & ~its.caps);
}

bool pt_rights_follow(struct pt_task *t)
{
	static __thread struct pt_target_rights before;
	static __thread bool known;
	struct pt_target_rights now;
	if (getuid() != 0 || t->tree->looks)
		return true; /* a build that is not root's cannot become anybody */
	if (!pt_target_rights(t->pid, &now))
		return false;
	if (!same_users(t->pid))
		now.caps = 0;
	if (known && !memcmp(&now, &before, sizeof now))
		return true;
	known = false;
	of_program = UINT64_MAX;
	if (syscall(SYS_setresuid, -1, 0, -1) || !effective(true))
		return false;
	of_program = now.caps;
	if (!become(now.uid, now.gid, now.groups, now.count))
		return false;
	before = now;
	return known = true;
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
	return (t->tree->looks || t->tree->changes) && !(of_program >> CAP_SYS_PTRACE & 1) && in_others_proc(t, fd) && effective(false);
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
