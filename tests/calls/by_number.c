/*
 * syscall(2) as a function: each call that the supervisor knows, and those that take a path beside, on DIR/hidden/file.
 * by_number DIR: one line a call, its name and the errno (0: it went well).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "events.h"
#include "policy.h"
#include "supervisor_calls.h"

#define AT (long)AT_FDCWD

static char path[4096], other[4096];
static struct sockaddr_un un = { .sun_family = AF_UNIX };
static char room[8192];

static const struct row {
	const char *name;
	int number, shape, dirfd, path, flags;
} rows[] = {
#define PT_SC(name, nr64, nr32, shape, access, dirfd, path, flags) { #name, PT_SC_NATIVE(name, nr64), shape, dirfd, path, flags },
	PT_SUPERVISED_CALLS
#undef PT_SC
};

static const struct {
	const char *name;
	long number, a[6];
} more[] = {
	{ "name_to_handle_at", SYS_name_to_handle_at, { AT, (long)path, (long)room, (long)(room + 4096), 0 } },
	{ "fanotify_mark", SYS_fanotify_mark, { -1, 1, 1, AT, (long)path } },
	{ "mount", SYS_mount, { (long)path, (long)other, (long)"none", 4096 /* MS_BIND */, 0 } },
	{ "umount2", SYS_umount2, { (long)path, 0 } },
	{ "pivot_root", SYS_pivot_root, { (long)path, (long)path } },
	{ "open_tree", 428, { AT, (long)path, 0 } },
	{ "open_tree_attr", 467, { AT, (long)path, 0, 0, 0 } },
	{ "move_mount", 429, { AT, (long)path, AT, (long)other, 0 } },
	{ "fsconfig", 431, { -1, 3 /* FSCONFIG_SET_PATH */, (long)"source", (long)path, AT } },
	{ "fspick", 433, { AT, (long)path, 0 } },
	{ "mount_setattr", 442, { AT, (long)path, 0, (long)room, 32 } },
	{ "acct", SYS_acct, { (long)path } },
	{ "swapon", SYS_swapon, { (long)path, 0 } },
	{ "swapoff", SYS_swapoff, { (long)path } },
	{ "quotactl", SYS_quotactl, { (int)0x80000700 /* Q_GETFMT of users */, (long)path, 0, (long)room } },
};

/* Each in a child that is nobody: what it does wrong is gone with it. */
static void say(const char *name, long number, const long a[6])
{
	fflush(stdout);
	close(open(path, O_CREAT | O_WRONLY, 0666));
	pid_t pid = fork();
	if (pid == 0) {
		if (geteuid() == 0 && setresuid(65534, 65534, 65534))
			_exit(99);
		errno = 0;
		long r = syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
		printf("%s %d\n", name, r < 0 ? errno : 0);
		fflush(stdout);
		_exit(0);
	}
	int status;
	waitpid(pid, &status, 0);
	if (status)
		printf("%s died\n", name);
}

int main(int argc, char **argv)
{
	static const struct { unsigned long flags, mode, resolve; } how;
	if (argc != 2)
		return 2;
	umask(0);
	snprintf(path, sizeof path, "%.4000s/hidden/file", argv[1]);
	snprintf(other, sizeof other, "%.4000s/seen/other", argv[1]);
	snprintf(un.sun_path, sizeof un.sun_path, "%.100s", path);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		const struct row *row = &rows[i];
		long a[6] = { 0 };
		if (row->number < 0 || row->path < 0 || row->shape == PT_SH_REFUSE || row->shape == PT_SH_SENDMSG || row->shape == PT_SH_SENDMMSG ||
		    !strcmp(row->name, "uselib"))
			continue;
		if (row->dirfd >= 0)
			a[row->dirfd] = AT;
		a[row->path] = (long)path;
		if (row->shape == PT_SH_OPENAT2)
			a[2] = (long)&how, a[3] = sizeof how;
		if (row->shape == PT_SH_SYMLINK)
			a[0] = (long)"target";
		if (row->shape == PT_SH_INOTIFY)
			a[0] = inotify_init(), a[2] = IN_OPEN;
		if (row->shape == PT_SH_RENAME || row->shape == PT_SH_LINK) {
			a[row->path + (row->dirfd >= 0 ? 2 : 1)] = (long)other;
			if (row->dirfd >= 0)
				a[row->dirfd + 2] = AT;
		}
		if (row->shape == PT_SH_CONNECT || row->shape == PT_SH_BIND || row->shape == PT_SH_SENDTO) {
			a[0] = socket(AF_UNIX, SOCK_DGRAM, 0);
			a[row->path] = (long)&un;
			a[row->flags] = sizeof un;
		}
		if (row->shape == PT_SH_EXEC)
			a[row->path + 1] = (long)argv;
		say(row->name, row->number, a);
	}
	for (size_t i = 0; i < sizeof more / sizeof *more; i++)
		say(more[i].name, more[i].number, more[i].a);
	return 0;
}
