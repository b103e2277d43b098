/*
 * held CALL DIR SECRET: what a call gives by DIR/file, before and after DIR has become a link to SECRET of which this process
 * does not know: the number by which processes tell each other of such changes is put back in the session's own file.
 * With HELD_NAME it is the file that becomes a link; with HELD_MOVING names are said to be moving at that moment. Without a
 * session, what the kernel gives. Each line: "the file's text", or which of the two files was changed or seen, or errno.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <mntent.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <utime.h>
#include <wchar.h>

enum { GENERATION = 64, MOVERS = 72 };  /* where they lie in the event file: csrc/event_file.h */

static char path[2000], got[3000];
static int round_;

static const char *directory(void)
{
	static char name[2000];
	snprintf(name, sizeof name, "%s", path);
	*strrchr(name, '/') = 0;
	return name;
}

/* What only the hidden directory has is looked for; `seen`: a call has seen it. */
static const char *other(void)
{
	static char name[2010];
	snprintf(name, sizeof name, "%s/other", directory());
	return name;
}

static int shown(bool seen)
{
	return printf("%s\n", seen ? "secret" : "plain") < 0;
}

static int text_of(int fd)
{
	char text[100];
	ssize_t n = read(fd, text, sizeof text - 1);
	if (n < 0)
		return -1;
	text[n] = 0;
	printf("%s\n", text);
	close(fd);
	return 0;
}

static int stream(FILE *f)
{
	char text[100] = "";
	wchar_t wide[100];
	if (!f)
		return -1;
	if (fwide(f, 0) > 0 ? !fgetws(wide, 100, f) || wcstombs(text, wide, sizeof text) == (size_t)-1 : !fgets(text, sizeof text, f))
		return -1;
	printf("%s\n", text);
	return fclose(f);
}

static int by_fopen(void) { return stream(fopen(path, "r")); }
static int by_fopen_plus(void) { return stream(fopen(path, "r+")); }
static int by_ccs(void) { return stream(fopen(path, "r,ccs=UTF-8")); }
static int by_freopen(void) { return stream(freopen(path, "r", fopen("/dev/null", "r"))); }

static int by_setmntent(void) { return stream(setmntent(path, "r")); }

/* What is hidden is not emptied either, where it may be written: its first lines show it. */
static int by_fopen_w(void)
{
	FILE *f = fopen(path, "w");
	if (!f)
		return -1;
	struct stat st, there;
	char name[4100];
	snprintf(name, sizeof name, "%s/file", got);
	printf("%s\n", fstat(fileno(f), &st) || stat(name, &there) || st.st_ino != there.st_ino ? "plain" : "secret");
	return fclose(f);
}

static int new_name(void)
{
	snprintf(got, sizeof got, "%s.got%d", path, round_);
	char *slash = strstr(got, "/d/");
	slash[2] = '.';
	unlink(got);
	return 0;
}

static int by_link(void) { return new_name() || link(path, got) ? -1 : text_of(open(got, O_RDONLY)); }
static int by_linkat(void) { return new_name() || linkat(AT_FDCWD, path, AT_FDCWD, got, AT_SYMLINK_FOLLOW) ? -1 : text_of(open(got, O_RDONLY)); }

/* And back, so that it is there the next time. */
static int by_rename(void)
{
	if (new_name() || rename(path, got) || text_of(open(got, O_RDONLY)))
		return -1;
	return renameat(AT_FDCWD, got, AT_FDCWD, path);
}

static int by_connect(void)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	snprintf(to.sun_path, sizeof to.sun_path, "%s", path);
	if (!connect(fd, (struct sockaddr *)&to, sizeof to))
		return text_of(fd);
	int error = errno;
	close(fd);
	errno = error;
	return -1;
}

/* Of the directory itself: by what else lies in it. */
static int by_opendir(void)
{
	bool met = false;
	DIR *d = opendir(directory());
	if (!d)
		return -1;
	for (struct dirent *e; (e = readdir(d));)
		met = met || !strcmp(e->d_name, "other");
	shown(met);
	return closedir(d);
}

static int datagram(int with_sendmsg)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	struct iovec data = { (void *)"x", 1 };
	struct msghdr message = { .msg_name = &to, .msg_namelen = sizeof to, .msg_iov = &data, .msg_iovlen = 1 };
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	snprintf(to.sun_path, sizeof to.sun_path, "%s", path);
	ssize_t n = with_sendmsg ? sendmsg(fd, &message, 0) : sendto(fd, "x", 1, 0, (struct sockaddr *)&to, sizeof to);
	int error = errno;
	close(fd);
	errno = error;
	return n == 1 ? printf("sent\n") < 0 : -1;
}

static int by_sendto(void) { return datagram(0); }
static int by_sendmsg(void) { return datagram(1); }

/* Every change shows in the time of the last one. */
static int changed(int result)
{
	static struct timespec last;
	struct stat st;
	char name[4100];
	int error = errno;
	snprintf(name, sizeof name, "%s/file", got);
	if (stat(name, &st))
		exit(5);
	bool secret = last.tv_sec && (last.tv_sec != st.st_ctim.tv_sec || last.tv_nsec != st.st_ctim.tv_nsec);
	last = st.st_ctim;
	errno = error;
	return result && !secret ? -1 : shown(secret);
}

static const struct timespec times[2] = { { 5, 0 }, { 6, 0 } };
static const struct timeval old_times[2] = { { 5, 0 }, { 6, 0 } };

static int by_chmod(void) { return changed(chmod(path, 0604)); }
static int by_fchmodat(void) { return changed(fchmodat(AT_FDCWD, path, 0604, 0)); }
static int by_fchmodat_nofollow(void) { return changed(fchmodat(AT_FDCWD, path, 0604, AT_SYMLINK_NOFOLLOW)); }
static int by_chown(void) { return changed(chown(path, (uid_t)-1, (gid_t)-1)); }
static int by_lchown(void) { return changed(lchown(path, (uid_t)-1, (gid_t)-1)); }
static int by_fchownat(void) { return changed(fchownat(AT_FDCWD, path, (uid_t)-1, (gid_t)-1, 0)); }
static int by_fchownat_nofollow(void) { return changed(fchownat(AT_FDCWD, path, (uid_t)-1, (gid_t)-1, AT_SYMLINK_NOFOLLOW)); }
static int by_utime(void) { return changed(utime(path, &(struct utimbuf){ 5, 6 })); }
static int by_utimes(void) { return changed(utimes(path, old_times)); }
static int by_lutimes(void) { return changed(lutimes(path, old_times)); }
static int by_futimesat(void) { return changed(futimesat(AT_FDCWD, path, old_times)); }
static int by_utimensat(void) { return changed(utimensat(AT_FDCWD, path, times, 0)); }
static int by_utimensat_nofollow(void) { return changed(utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW)); }
static int by_setxattr(void) { return changed(setxattr(path, "user.t", "v", 1, 0)); }
static int by_lsetxattr(void) { return changed(lsetxattr(path, "user.t", "v", 1, 0)); }
static int by_removexattr(void) { return changed(round_ < 2 && setxattr(path, "user.h", "v", 1, 0) ? -1 : removexattr(path, "user.h")); }
static int by_lremovexattr(void) { return changed(round_ < 2 && setxattr(path, "user.h", "v", 1, 0) ? -1 : lremovexattr(path, "user.h")); }
static int by_truncate(void) { return changed(truncate(path, round_)); }
/* The directory in which it lies is in the kernel's hand; its name is what can be exchanged. */
static int by_chmod_near(void)
{
	return chdir(directory()) ? -1 : changed(chmod("file", 0604));
}

static int by_stat(void) { struct stat st; return shown(!stat(other(), &st)); }
static int by_lstat(void) { struct stat st; return shown(!lstat(other(), &st)); }
static int by_access(void) { return shown(!access(other(), R_OK)); }
static int by_readlink(void) { char to[9]; return shown(readlink(other(), to, sizeof to) >= 0 || errno == EINVAL); }
static int by_statfs(void) { struct statfs st; return shown(!statfs(other(), &st)); }
static int by_statvfs(void) { struct statvfs st; return shown(!statvfs(other(), &st)); }
static int by_pathconf(void) { return shown(pathconf(other(), _PC_NAME_MAX) > 0); }
static int by_getxattr(void) { char value[9]; return shown(getxattr(path, "user.h", value, sizeof value) > 0); }
static int by_lgetxattr(void) { char value[9]; return shown(lgetxattr(path, "user.h", value, sizeof value) > 0); }
static int by_listxattr(void) { char names[99]; return shown(listxattr(path, names, sizeof names) > 0); }
static int by_llistxattr(void) { char names[99]; return shown(llistxattr(path, names, sizeof names) > 0); }

static bool met;

static int visit(const char *name, const struct stat *st, int what, struct FTW *at)
{
	(void)st, (void)what;
	met = met || !strcmp(name + at->base, "other");
	return 0;
}

static int by_nftw(void)
{
	met = false;
	nftw(directory(), visit, 9, FTW_PHYS);
	nftw(directory(), visit, 9, 0);
	return shown(met);
}

static int by_scandir(void)
{
	struct dirent **list;
	int n = scandir(directory(), &list, NULL, NULL);
	met = false;
	for (int i = 0; i < n; i++)
		met = met || !strcmp(list[i]->d_name, "other");
	return shown(met);
}

static int by_glob(void)
{
	char pattern[2010];
	glob_t found;
	snprintf(pattern, sizeof pattern, "%s/o*", directory());
	return shown(!glob(pattern, 0, NULL, &found) && found.gl_pathc);
}

static const struct { const char *name; int (*call)(void); } calls[] = {
#define LOOKS(name) { #name, by_##name }
	LOOKS(stat), LOOKS(lstat), LOOKS(access), LOOKS(readlink), LOOKS(statfs), LOOKS(statvfs), LOOKS(pathconf), LOOKS(getxattr),
	LOOKS(lgetxattr), LOOKS(listxattr), LOOKS(llistxattr), LOOKS(nftw), LOOKS(scandir), LOOKS(glob),
#define CHANGES(name) { #name, by_##name }
	CHANGES(chmod), CHANGES(fchmodat), CHANGES(fchmodat_nofollow), CHANGES(chown), CHANGES(lchown), CHANGES(fchownat),
	CHANGES(fchownat_nofollow), CHANGES(utime), CHANGES(utimes), CHANGES(lutimes), CHANGES(futimesat), CHANGES(utimensat),
	CHANGES(utimensat_nofollow), CHANGES(setxattr), CHANGES(lsetxattr), CHANGES(removexattr), CHANGES(lremovexattr),
	CHANGES(truncate), CHANGES(chmod_near),
	{ "fopen", by_fopen }, { "fopen_plus", by_fopen_plus }, { "fopen_w", by_fopen_w }, { "ccs", by_ccs }, { "freopen", by_freopen }, { "setmntent", by_setmntent },
	{ "link", by_link }, { "linkat", by_linkat }, { "rename", by_rename }, { "opendir", by_opendir }, { "connect", by_connect }, { "sendto", by_sendto }, { "sendmsg", by_sendmsg },
};

/*
 * The directory becomes a link, and nobody is told. A child does it: what this process looked up meanwhile would take its
 * place among what it remembers, now and then that of the directory itself.
 */
static void exchange(const char *dir, const char *secret)
{
	char name[4100], target[4100];
	uint64_t word = 0;
	int fd = -1, status;
	struct stat st;
	bool file = getenv("HELD_NAME") != NULL;
	const char *what = file ? path : dir;
	snprintf(name, sizeof name, "%s.was", what);
	snprintf(target, sizeof target, "%s%s", secret, file ? "/file" : "");
	if (getenv("HELD_EVENTS") && (fd = open(getenv("HELD_EVENTS"), O_RDWR)) < 0)
		exit(3);
	(void)!stat(path, &st);        /* known anew, whatever the call itself has told */
	if (fd >= 0 && pread(fd, &word, sizeof word, GENERATION) != sizeof word)
		exit(3);
	pid_t child = fork();
	if (!child)
		_exit(rename(what, name) || symlink(target, what));
	if (child < 0 || waitpid(child, &status, 0) != child || status)
		exit(4);
	if (fd >= 0 && pwrite(fd, &word, sizeof word, GENERATION) != sizeof word)
		exit(3);
	if (fd >= 0 && getenv("HELD_MOVING") && pwrite(fd, &(uint64_t){ 1 }, sizeof word, MOVERS) != sizeof word)
		exit(3);
	if (fd >= 0 && close(fd))
		exit(3);
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IONBF, 0);
	if (argc != 4)
		return 2;
	snprintf(path, sizeof path, "%s/file", argv[2]);
	snprintf(got, sizeof got, "%s", argv[3]);
	for (unsigned i = 0; i < sizeof calls / sizeof *calls; i++) {
		if (strcmp(calls[i].name, argv[1]) != 0)
			continue;
		for (round_ = 0; round_ < 3; round_++) {
			if (round_ == 2)
				exchange(argv[2], argv[3]);
			if (calls[i].call())
				printf("%d\n", errno);
		}
		/* nothing was left behind: the next descriptor is the same as ever */
		int last = dup(0);
		printf("%s\n", last == 3 ? "none left" : "some left");
		return 0;
	}
	return 2;
}
