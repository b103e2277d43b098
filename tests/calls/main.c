/*
 * Makes calls by name: each line of standard input is NAME MODE P Q, each line of output NAME and 0 or the errno with
 * which it failed. MODE "-": the paths as they are; "at": relative to a descriptor of the directory that holds the paths'
 * own directory, or to that as the working directory where the call takes no descriptor; "flag": with the flag that says
 * whether the last link is followed; "empty": no path but a descriptor of P, with AT_EMPTY_PATH; "null": the same with NULL. Every call is made in a child of its own, so that an exec can succeed and a crash shows (as 1000
 * plus the signal).
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <ftw.h>
#include <glob.h>
#include <libintl.h>
#include <mntent.h>
#include <nl_types.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mount.h>
#include <sys/quota.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/swap.h>
#include <sys/time.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <utime.h>
#include <utmp.h>
#include <utmpx.h>

extern char **environ;
static char first[4096], Q[4096], T[4096 + 8], *P = first;
static int DP = AT_FDCWD, DQ = AT_FDCWD, F;
static char *A[] = { (char *)"true", NULL };
/* one shape for every kind of buffer that a call may want */
static _Alignas(64) char buffer[8192];
#define S ((void *)buffer)

/* names that the headers do not declare */
int pivot_root(const char *, const char *);
int __open(const char *, int, ...);
int __open64(const char *, int, ...);
FILE *_IO_fopen(const char *, const char *);
FILE *__setmntent(const char *, const char *);
int __statfs(const char *, struct statfs *);
int __open_2(const char *, int);
int __open64_2(const char *, int);
int __openat_2(int, const char *, int);
int __openat64_2(int, const char *, int);
int __xstat(int, const char *, void *);
int __xstat64(int, const char *, void *);
int __lxstat(int, const char *, void *);
int __lxstat64(int, const char *, void *);
int __fxstatat(int, int, const char *, void *, int);
int __fxstatat64(int, int, const char *, void *, int);
int __xmknod(int, const char *, mode_t, dev_t *);
int __xmknodat(int, int, const char *, mode_t, dev_t *);
ssize_t __readlink_chk(const char *, char *, size_t, size_t);
ssize_t __readlinkat_chk(int, const char *, char *, size_t, size_t);
char *__realpath_chk(const char *, char *, size_t);

static int visit_old(const char *path, const struct stat *st, int what)
{
	(void)path, (void)st, (void)what;
	return 0;
}

static int visit_new(const char *path, const struct stat *st, int what, struct FTW *at)
{
	(void)path, (void)st, (void)what, (void)at;
	return 0;
}

/* What a walk says of its root. */
static void *first_of(FTS *fts)
{
	FTSENT *e = fts ? fts_read(fts) : NULL;
	if (!e || e->fts_info != FTS_NS)
		return e;
	errno = e->fts_errno;
	return NULL;
}

struct call {
	const char *name;
	int (*make)(void);
	int at, flag; /* takes a descriptor; follows or does not follow the last link with it */
};

#include "calls_tests.inc"

/* A descriptor of the directory two steps above, and the rest of the path. */
static int split(char *path)
{
	char *cut = strrchr(path, '/');
	while (*--cut != '/')
		;
	*cut = 0;
	int fd = open(path, O_RDONLY | O_DIRECTORY);
	memmove(path, cut + 1, strlen(cut + 1) + 1);
	return fd;
}

/* By what is remembered of a directory the calls after the first are decided in another way. */
static void look_beside(const char *path)
{
	char beside[4200];
	snprintf(beside, sizeof beside, "%s~", path);
	for (int i = 0; i < 2; i++)
		(void)!access(beside, F_OK);
}

static int set_up(const struct call *c, const char *mode)
{
	if (strcmp(mode, "known") == 0 || strcmp(mode, "met") == 0 || strcmp(mode, "changed") == 0) {
		look_beside(P);
		look_beside(Q);
		for (int i = 0; i < 2 && mode[0] != 'k'; i++)        /* that it is no link, too */
			(void)!(mode[0] == 'm' ? access(P, F_OK) : chmod(P, 0755));
		return 0;
	}
	if (strcmp(mode, "flag") == 0) {
		F = c->flag;
	} else if (strcmp(mode, "empty") == 0) {
		DP = open(P, O_PATH | O_NOFOLLOW);
		F = c->flag == FSPICK_SYMLINK_NOFOLLOW ? FSPICK_EMPTY_PATH : AT_EMPTY_PATH;
		*P = 0;
		return DP;
	} else if (strcmp(mode, "null") == 0) {
		DP = open(P, O_RDONLY);
		P = NULL;
		return DP;
	} else if (strcmp(mode, "at") == 0) {
		int p = split(P), q = split(Q);
		if (p < 0 || q < 0)
			return -1;
		if (!c->at)
			return fchdir(p);
		DP = p;
		DQ = q;
	}
	return 0;
}

int main(void)
{
	char line[9000], name[128], mode[16];
	while (fgets(line, sizeof line, stdin)) {
		if (sscanf(line, "%127s %15s %4095s %4095s", name, mode, first, Q) != 4)
			return 2;
		const struct call *c = NULL;
		for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
			if (strcmp(calls[i].name, name) == 0)
				c = &calls[i];
		if (!c)
			return 2;
		int back[2], error = 0;
		if (pipe2(back, O_CLOEXEC) < 0)
			return 2;
		pid_t pid = fork();
		if (pid == 0) {
			if (set_up(c, mode) < 0)
				_exit(4);
			if (P)
				snprintf(T, sizeof T, "%sXXXXXX", P);
			errno = 0;
			int r = c->make();
			error = r < 0 ? errno : 0;
			if (r < 0 && !error)
				error = 999;
			if (write(back[1], &error, sizeof error) != (ssize_t)sizeof error)
				_exit(3);
			_exit(0);
		}
		close(back[1]);
		int status;
		if (read(back[0], &error, sizeof error) < 0 || waitpid(pid, &status, 0) != pid)
			return 2;
		close(back[0]);
		if (WIFSIGNALED(status))
			error = 1000 + WTERMSIG(status);
		else if (WEXITSTATUS(status) == 4)
			return 4;
		printf("%s %d\n", name, error);
	}
	return 0;
}
