/*
 * What one process has of others. The fence keeps a program from looking into processes outside of its session. The
 * supervisor, which looks in the program's place, stands outside of that fence, and so has to keep to it by itself.
 */
#include <stdio.h>
#include <stdlib.h>

#include "procstat.h"
#include "supervisor_answer.h"
#include "tag_linux.h"

static bool is_outsider(const struct pt_task *t, pid_t other)
{
	pid_t process, parent;
	if (other == t->pid)
		return false;
	pt_target_ids(t->pid, &process, &parent);
	if (other == process)
		return false;
	uint64_t own = pt_process_tag((int32_t)t->pid);
	return pt_is_tag(own) ? pt_process_tag((int32_t)other) != own : !pt_target_descends(other, process, t->tree->since);
}

/* What the kernel tells of every process; all the rest, also what will be added, is for those that may trace it. */
static bool told_to_all(const char *name)
{
	static const char *const names[] = { "attr", "autogroup", "cgroup", "cmdline", "comm", "coredump_filter", "cpuset", "gid_map",
		"limits", "loginuid", "mountinfo", "mounts", "mountstats", "net", "oom_adj", "oom_score", "oom_score_adj", "projid_map",
		"sched", "schedstat", "sessionid", "setgroups", "stat", "statm", "status", "task", "timens_offsets", "uid_map", "wchan" };
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (starts(name, names[i]))
			return true;
	return false;
}

bool pt_is_others_place(const struct pt_task *t, const char *path)
{
	char *name;
	if (strncmp(path, "/proc/", 6) || path[6] < '0' || path[6] > '9' || (t->sup->flags & PT_IMG_AUDIT))
		return false;
	long pid = strtol(path + 6, &name, 10);
	if (!strncmp(name, "/task/", 6) && name[6] >= '0' && name[6] <= '9')
		(void)strtol(name + 6, &name, 10);
	return *name == '/' && !told_to_all(name + 1) && is_outsider(t, (pid_t)pid);
}

/* The process that a descriptor of ours stands for; 0: it is no such descriptor; -1: it is no more. */
static pid_t process_of(int pidfd)
{
	char name[64], text[512];
	snprintf(name, sizeof name, "/proc/self/fdinfo/%d", pidfd);
	const char *line = pt_proc_text(name, text, sizeof text) > 0 ? strstr(text, "\nPid:") : NULL;
	return line ? (pid_t)atoi(line + 5) : 0;
}

/*
 * A descriptor out of another process: one that is about to be supervised has in its hands what answers for it. Taken
 * here, from the process that was judged: the program's number may stand for another one the next moment.
 */
int pt_answer_take(struct pt_task *t)
{
	if (arg(t, 2))
		return EINVAL;
	int pidfd = pt_target_fd(t->pid, (int)arg(t, 0));
	if (pidfd < 0)
		return pidfd == -EPERM ? EACCES : EBADF;
	pid_t other = process_of(pidfd);
	int error = !other ? EBADF : other < 0 ? ESRCH : pt_answer_meddle(t, other) == GO_ON ? 0 : EPERM;
	long fd = error ? -1 : syscall(SYS_pidfd_getfd, pidfd, (int)arg(t, 1), 0);
	if (!error && fd < 0)
		error = errno;
	close(pidfd);
	if (fd >= 0) {
		error = pt_hand_over(t, (int)fd, O_CLOEXEC);
		close((int)fd);
	}
	return error;
}
