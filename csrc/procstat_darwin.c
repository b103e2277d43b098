/* procstat.h on macOS: proc_pidinfo of <libproc.h>, and what sysctl(3) tells of a process' first words (KERN_PROCARGS2). */
#include "procstat.h"

#include <errno.h>
#include <libproc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/proc.h>
#include <sys/sysctl.h>
#include <unistd.h>

static bool told(int32_t pid, struct proc_bsdinfo *info)
{
	/* 1: also of one that has ended and is waited for */
	return proc_pidinfo(pid, PROC_PIDTBSDINFO, 1, info, sizeof *info) == (int)sizeof *info;
}

bool pt_process_look(int32_t pid, struct pt_process *out)
{
	struct proc_bsdinfo info;
	if (!told(pid, &info))
		return false;
	pid_t session = getsid(pid);
	bool ended = info.pbi_status == SZOMB;
	*out = (struct pt_process){
		.pid = pid,
		.ppid = (int32_t)info.pbi_ppid,
		.group = (int32_t)info.pbi_pgid,
		.session = session < 0 ? 0 : session,
		.terminal = info.e_tdev == UINT32_MAX ? 0 : info.e_tdev,
		.threads = 1,
		.started = info.pbi_start_tvsec * 1000000 + info.pbi_start_tvusec,
		.memory = !ended,
		.env_end = !ended,
		.state = ended ? 'Z' : info.pbi_status == SSTOP ? 'T' : 'R',
	};
	snprintf(out->name, sizeof out->name, "%s", info.pbi_name[0] ? info.pbi_name : info.pbi_comm);
	return true;
}

int64_t pt_process_user(int32_t pid)
{
	struct proc_bsdinfo info;
	return told(pid, &info) ? (int64_t)info.pbi_uid : -1;
}

size_t pt_process_all(int32_t *pids, size_t room)
{
	int n = proc_listallpids(pids, (int)(room * sizeof *pids));
	return n < 0 ? 0 : (size_t)n;
}

ssize_t pt_process_exe(int32_t pid, char *path, size_t room)
{
	int n = proc_pidpath(pid, path, (uint32_t)(room < PROC_PIDPATHINFO_MAXSIZE ? room : PROC_PIDPATHINFO_MAXSIZE));
	return n > 0 ? n : -errno;
}

ssize_t pt_process_environment(int32_t pid, char *text, size_t room)
{
	int most[] = { CTL_KERN, KERN_ARGMAX }, words[] = { CTL_KERN, KERN_PROCARGS2, pid }, size = 0;
	size_t n = sizeof size;
	if (sysctl(most, 2, &size, &n, NULL, 0) < 0 || size <= 0)
		return -EIO;
	n = (size_t)size;
	char *block = malloc(n);
	ssize_t got = -ENOMEM;
	if (block && sysctl(words, 3, block, &n, NULL, 0) == 0) {
		size_t at = pt_words_environment(block, n);
		n = n - at < room ? n - at : room;
		memcpy(text, block + at, n);
		got = (ssize_t)n;
	} else if (block) {
		got = -errno;
	}
	free(block);
	return got;
}
