/*
 * changes DIR [threads]: each call that changes what lies at a path, of each kind of path below DIR, which is empty at first.
 * A line for each: the call, the path, 0 or the errno, and what has come of what could have been changed.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <utime.h>

static int number, dir, round_;
static const char *path;
static struct timespec times[2];
static struct timeval old_times[2];
#define OWNER (uid_t)-1, (gid_t)-1

static int by_chmod(void) { return chmod(path, 0600 + (mode_t)round_ % 8); }
static int by_fchmodat(void) { return fchmodat(dir, path, 0600 + (mode_t)round_ % 8, 0); }
static int by_fchmodat_nofollow(void) { return fchmodat(dir, path, 0600 + (mode_t)round_ % 8, AT_SYMLINK_NOFOLLOW); }
static int by_chown(void) { return chown(path, geteuid(), getegid()); }
static int by_lchown(void) { return lchown(path, geteuid(), getegid()); }
static int by_fchownat(void) { return fchownat(dir, path, OWNER, AT_SYMLINK_NOFOLLOW); }
static int by_utime(void) { return utime(path, &(struct utimbuf){ round_, round_ }); }
static int by_utimes(void) { return utimes(path, old_times); }
static int by_lutimes(void) { return lutimes(path, old_times); }
static int by_futimesat(void) { return futimesat(dir, path, old_times); }
static int by_utimensat(void) { return utimensat(dir, path, times, 0); }
static int by_utimensat_nofollow(void) { return utimensat(dir, path, times, AT_SYMLINK_NOFOLLOW); }
static int by_setxattr(void) { return setxattr(path, "user.t", "v", (size_t)round_ % 2, 0); }
static int by_lsetxattr(void) { return lsetxattr(path, "user.u", "v", (size_t)round_ % 2, XATTR_REPLACE); }
static int by_removexattr(void) { return removexattr(path, "user.t"); }
static int by_lremovexattr(void) { return lremovexattr(path, "user.t"); }
static int by_truncate(void) { return truncate(path, round_); }

#define CALL(name) { #name, by_##name }
static const struct { const char *name; int (*call)(void); } calls[] = {
	CALL(chmod), CALL(fchmodat), CALL(fchmodat_nofollow), CALL(chown), CALL(lchown), CALL(fchownat), CALL(utime), CALL(utimes),
	CALL(lutimes), CALL(futimesat), CALL(utimensat), CALL(utimensat_nofollow), CALL(setxattr),
	CALL(lsetxattr), CALL(removexattr), CALL(lremovexattr), CALL(truncate),
};

static void show(const char *name)
{
	struct stat st;
	if (lstat(name, &st))
		printf(" -");
	else
		printf(" %o,%ld,%ld,%ld", st.st_mode, st.st_mtim.tv_sec < 1000000 ? (long)st.st_mtim.tv_sec : -1, S_ISREG(st.st_mode) ? (long)st.st_size : -1,
		       (long)listxattr(name, NULL, 0));
}

static void *wait_for_ever(void *nothing)
{
	pause();
	return nothing;
}

int main(int argc, char **argv)
{
	static char whole[5000], there[5000], far[700], name[] = "/proc/self/fd/00000000000";
	static const char *paths[] = { "file", "./file", "d/file", "d/../file", "d//file", "d/", "d/.", "d/..", ".", "d", "file/", "file/x", "none",
		"none/", "none/x", "to-file", "to-file/", "to-d", "to-d/", "to-d/file", "to-none", "loop", "loop/x", "shut", "fifo",
		"closed/file", "closed", "", whole, there, far, name, NULL, "/proc/self/cwd/d/file", "/proc/self/fd/9999", "/dev/fd/9999/x" };
	pthread_t thread;
	if (argc < 2 || chdir(argv[1]))
		return 2;
	if (argc > 2 && pthread_create(&thread, NULL, wait_for_ever, NULL))
		return 2;
	if (mkdir("d", 0755) || mkdir("closed", 0755) || mkfifo("fifo", 0600) || symlink("file", "to-file") || symlink("d", "to-d") ||
	    symlink("nowhere", "to-none") || symlink("loop", "loop"))
		return 3;
	for (const char **f = (const char *[]){ "file", "d/file", "shut", "closed/file", NULL }; *f; f++)
		if ((number = open(*f, O_CREAT | O_RDWR, strcmp(*f, "shut") ? 0644 : 0)) < 0)
			return 3;
	if (chmod("closed", 0))
		return 3;
	snprintf(whole, sizeof whole, "%s/d/file", argv[1]);
	snprintf(there, sizeof there, "%s/to-d/../file", argv[1]);
	memset(far, 'x', 300);
	snprintf(name, sizeof name, "/proc/self/fd/%d", dup(number));
	for (dir = AT_FDCWD;; dir = open(".", O_RDONLY | O_DIRECTORY)) {
		for (unsigned c = 0; c < sizeof calls / sizeof *calls; c++)
			for (unsigned p = 0; p < sizeof paths / sizeof *paths; p++, round_++) {
				path = paths[p];
				times[0].tv_sec = times[1].tv_sec = old_times[0].tv_sec = old_times[1].tv_sec = round_;
				int error = calls[c].call() ? errno : 0;
				printf("%s %.9s %d", calls[c].name, path ? path : "NULL", error);
				for (const char **f = (const char *[]){ ".", "file", "d", "d/file", "to-file", "to-d", "to-none", "shut", "fifo", "closed", "closed/file", NULL }; *f; f++)
					show(*f);
				printf("\n");
				(void)chmod(".", 0755), (void)chmod("d", 0755);
			}
		if (dir != AT_FDCWD)
			break;
	}
	printf("%s\n", dup(0) == dir + 1 ? "none left" : "some left");
	return 0;
}
