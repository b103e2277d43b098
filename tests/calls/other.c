/*
 * Calls that tests/calls/main.c cannot make by an expression: other CASE DIR. DIR holds `seen` and `hidden`, each with a
 * `file`; `seen/link` leads to ../hidden/file and `seen/way` to ../hidden,
 * `seen/down` to ../hidden/sub. Prints "ok", or what went wrong.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/openat2.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <spawn.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "../../csrc/sysraw.h"

#define CHECK(x) do { if (!(x)) { printf("%d: %s: %s\n", __LINE__, #x, strerror(errno)); exit(1); } } while (0)

extern char **environ;
static const char *dir;
static char path[5000], other[5000];

static const char *in(char *buf, const char *name)
{
	snprintf(buf, sizeof path, "%s/%s", dir, name);
	return buf;
}

/* ---- sockets: by each of their names ---- */

/* names that not every C library has: the injected library has them all the same, where it has the call */
int __connect(int, const struct sockaddr *, socklen_t) __attribute__((weak));
int __sendmmsg(int, struct mmsghdr *, unsigned, int) __attribute__((weak));
int openat2(int, const char *, struct open_how *, size_t) __attribute__((weak));
#ifdef __GLIBC__
#define HAS(name) 1
#else
#define HAS(name) (name != NULL)
#endif

static struct sockaddr_un named(const char *name)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	snprintf(un.sun_path, sizeof un.sun_path, "%.80s/%s", dir, name);
	return un;
}

static void case_sockets(void)
{
	struct sockaddr_un seen = named("seen/sock"), hidden = named("hidden/sock"), there = named("hidden/there");
	struct sockaddr *to_seen = (void *)&seen, *to_hidden = (void *)&hidden, *to_there = (void *)&there;
	int from = socket(AF_UNIX, SOCK_DGRAM, 0), to = socket(AF_UNIX, SOCK_DGRAM, 0), heard = socket(AF_UNIX, SOCK_DGRAM, 0);
	char byte = 1;
	struct iovec part = { &byte, 1 };
	CHECK(bind(to, to_hidden, sizeof hidden) < 0 && errno == EACCES);
	CHECK(bind(to, to_seen, sizeof seen) == 0);
	struct sockaddr_un fixed = named("readonly/file");
	CHECK(bind(socket(AF_UNIX, SOCK_DGRAM, 0), (void *)&fixed, sizeof fixed) < 0 && errno == EADDRINUSE);
	/* one that is there and hears: hidden, where one may only write, and by a link */
	static const char *const unseen[] = { "writeonly/there", "seen/to-there", "hidden/there" };
	CHECK(pt_raw3(SYS_bind, heard, (long)to_there, sizeof there) == 0);
	CHECK(symlink("../hidden/there", in(path, "seen/to-there")) == 0);
	struct sockaddr_un kept = named("writeonly/there");
	CHECK(pt_raw3(SYS_bind, socket(AF_UNIX, SOCK_DGRAM, 0), (long)&kept, sizeof kept) == 0);
	struct msghdr message = { .msg_name = &there, .msg_namelen = sizeof there, .msg_iov = &part, .msg_iovlen = 1 };
	for (int i = 0; i < 3; i++) {
		there = named(unseen[i]);
		CHECK(connect(from, to_there, sizeof there) < 0 && errno == ENOENT);
		CHECK(!HAS(__connect) || (__connect(from, to_there, sizeof there) < 0 && errno == ENOENT));
		CHECK(sendto(from, &byte, 1, 0, to_there, sizeof there) < 0 && errno == ENOENT);
		CHECK(sendmsg(from, &message, 0) < 0 && errno == ENOENT);
	}
	struct mmsghdr two[2] = { { .msg_hdr = message }, { .msg_hdr = message } };
	CHECK(sendmmsg(from, two, 2, 0) < 0 && errno == ENOENT);
	CHECK(!HAS(__sendmmsg) || (__sendmmsg(from, two, 2, 0) < 0 && errno == ENOENT));
	two[0].msg_hdr.msg_name = &seen;
	CHECK(sendmmsg(from, two, 2, 0) == 1 && two[0].msg_len == 1);    /* as the kernel: those before the one that fails */
	two[1].msg_hdr.msg_name = &seen;
	CHECK(sendmmsg(from, two, 2, 0) == 2 && two[1].msg_len == 1);
	CHECK(connect(from, to_seen, sizeof seen) == 0);
	two[0].msg_hdr.msg_name = two[1].msg_hdr.msg_name = NULL;
	two[0].msg_hdr.msg_namelen = two[1].msg_hdr.msg_namelen = 0;
	CHECK(sendmmsg(from, two, 2, 0) == 2);
	for (int i = 0; i < 5; i++)
		CHECK(recv(to, &byte, 1, MSG_DONTWAIT) == 1);
	CHECK(recv(heard, &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN);
	CHECK(pt_raw3(SYS_unlinkat, AT_FDCWD, (long)there.sun_path, 0) == 0);
}

/* ---- programs ---- */

#ifdef __GLIBC__
int pidfd_spawn(int *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *, char *const[], char *const[])
	__attribute__((weak));
int pidfd_spawnp(int *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *, char *const[], char *const[])
	__attribute__((weak));

/* The process behind a descriptor has ended well. */
static int ended(int pidfd)
{
	siginfo_t info = { 0 };
	CHECK(waitid((idtype_t)3 /* P_PIDFD */, (id_t)pidfd, &info, WEXITED) == 0);
	close(pidfd);
	return info.si_code == CLD_EXITED && info.si_status == 0;
}

static void case_pidfd(void)
{
	char *argv[] = { (char *)"tool", (char *)"/dev/null", NULL };
	int fd = -1;
	CHECK(pidfd_spawn && pidfd_spawnp);
	CHECK(pidfd_spawn(&fd, in(path, "hidden/tool"), NULL, NULL, argv, environ) == ENOENT);
	CHECK(pidfd_spawnp(&fd, in(path, "hidden/found"), NULL, NULL, argv, environ) == ENOENT);
	CHECK(pidfd_spawn(&fd, in(path, "seen/tool"), NULL, NULL, argv, environ) == 0 && ended(fd));
	snprintf(path, sizeof path, "%s/hidden:%s/seen", dir, dir);
	setenv("PATH", path, 1);
	CHECK(pidfd_spawnp(&fd, "tool", NULL, NULL, argv, environ) == 0 && ended(fd));
	snprintf(path, sizeof path, "%s/hidden", dir);
	setenv("PATH", path, 1);
	CHECK(pidfd_spawnp(&fd, "tool", NULL, NULL, argv, environ) == ENOENT);
}
#endif

/* ---- names that the library makes up ---- */

static void case_tempnam(void)
{
	unsetenv("TMPDIR");
	char *name = tempnam(in(path, "seen"), "made");
	CHECK(name && strncmp(name, path, strlen(path)) == 0);
	free(name);
	for (int i = 0; i < 2; i++) {
		name = tempnam(in(path, i ? "seen/way" : "hidden"), "made");
		CHECK(name && strncmp(name, path, strlen(path)) != 0);
		free(name);
	}
}

/* ---- a name that was a file and becomes a link ---- */

static int by_rename(const char *name)
{
	return rename(name, in(other, "seen/away"));
}

static int by_renameat(const char *name)
{
	return renameat(AT_FDCWD, name, AT_FDCWD, in(other, "seen/away"));
}

static int by_renameat2(const char *name)
{
	return syscall(SYS_renameat2, AT_FDCWD, name, AT_FDCWD, in(other, "seen/away"), 0) ? -1 : 0;
}

static int by_unlinkat(const char *name)
{
	return unlinkat(AT_FDCWD, name, 0);
}

static int by_symlinkat(const char *target, const char *name)
{
	return symlinkat(target, AT_FDCWD, name);
}

/* A second name of a link that is there. */
static const char *link_to(const char *target)
{
	return in(other, strcmp(target, "../hidden") ? "seen/link" : "seen/way");
}

static int by_link(const char *target, const char *name)
{
	return link(link_to(target), name);
}

static int by_linkat(const char *target, const char *name)
{
	return linkat(AT_FDCWD, link_to(target), AT_FDCWD, name, 0);
}

/* Over what is there, or after it has gone. */
static int by_moving(const char *target, const char *name)
{
	return symlink(target, in(other, "seen/moved")) || rename(other, name);
}

static void case_becomes_a_link(void)
{
	static int (*const gone[])(const char *) = { unlink, remove, by_unlinkat, by_rename, by_renameat, by_renameat2, NULL };
	static int (*const made[])(const char *, const char *) = { symlink, by_symlinkat, by_link, by_linkat, by_moving };
	struct stat st;
	for (size_t g = 0; g < sizeof gone / sizeof *gone; g++)
		for (size_t m = gone[g] ? 0 : 4; m < sizeof made / sizeof *made; m++) {
			int fd = open(in(path, "seen/name"), O_CREAT | O_WRONLY, 0600);
			CHECK(fd >= 0 && close(fd) == 0);
			CHECK(stat(path, &st) == 0 && access(path, R_OK) == 0 && chmod(path, 0644) == 0);
			CHECK(!gone[g] || gone[g](path) == 0);
			CHECK(made[m]("../hidden/file", path) == 0);
			CHECK(stat(path, &st) < 0 && errno == ENOENT && access(path, R_OK) < 0 && chmod(path, 0600) < 0);
			CHECK(open(path, O_RDONLY) < 0 && errno == ENOENT);
			CHECK(unlink(path) == 0);
			/* the same with a directory */
			CHECK(mkdir(path, 0755) == 0 && access(in(other, "seen/name/."), F_OK) == 0 && access(in(other, "seen/name/x"), F_OK) < 0);
			CHECK(rmdir(path) == 0 && made[m]("../hidden", path) == 0);
			CHECK(access(in(other, "seen/name/file"), F_OK) < 0 && errno == ENOENT && unlink(path) == 0);
		}
	/* and back: what was a link that is gone is a directory */
	for (size_t g = 0; gone[g]; g++) {
		CHECK(symlink("../hidden", in(path, "seen/name")) == 0);
		CHECK(access(in(other, "seen/name/file"), F_OK) < 0 && errno == ENOENT);
		CHECK(gone[g](path) == 0 && mkdir(path, 0755) == 0);
		int fd = open(in(other, "seen/name/file"), O_CREAT | O_WRONLY, 0600);
		CHECK(fd >= 0 && close(fd) == 0 && access(other, F_OK) == 0);
		CHECK(pt_raw3(SYS_unlinkat, AT_FDCWD, (long)other, 0) == 0 && pt_raw3(SYS_unlinkat, AT_FDCWD, (long)path, AT_REMOVEDIR) == 0);
	}
}

/* ---- programs and directories by descriptor: one that came past the library, as an inherited one does ---- */

static int past(const char *name, int flags)
{
	return (int)pt_raw4(SYS_openat, AT_FDCWD, in(path, name), flags, 0);
}

static void case_descriptors(void)
{
	char *argv[] = { (char *)"tool", (char *)"/dev/null", NULL };
	CHECK(fexecve(past("hidden/tool", O_RDONLY), argv, environ) < 0 && errno == ENOENT);
	DIR *d = fdopendir(past(".", O_RDONLY | O_DIRECTORY));
	struct dirent *e;
	int seen = 0;
	CHECK(d != NULL);
	while ((e = readdir(d))) {
		CHECK(strcmp(e->d_name, "hidden") != 0);
		seen |= strcmp(e->d_name, "seen") == 0;
	}
	CHECK(seen && closedir(d) == 0);
#ifdef __GLIBC__
	struct dirent one, *got;
	struct dirent64 one64, *got64;
	for (int pass = 0; pass < 2; pass++) {
		CHECK((d = opendir(dir)) != NULL);
		while (pass ? readdir64_r(d, &one64, &got64) == 0 && got64 : readdir_r(d, &one, &got) == 0 && got)
			CHECK(strcmp(pass ? one64.d_name : one.d_name, "hidden") != 0);
		closedir(d);
	}
	char buf[8192];
	off64_t at = 0;
	ssize_t n, fd = open(dir, O_RDONLY | O_DIRECTORY);
	while ((n = getdirentries64((int)fd, buf, sizeof buf, &at)) > 0)
		for (ssize_t i = 0; i < n; i += ((struct dirent64 *)(void *)(buf + i))->d_reclen)
			CHECK(strcmp(((struct dirent64 *)(void *)(buf + i))->d_name, "hidden") != 0);
	char *roots[] = { (char *)(uintptr_t)dir, NULL };
	/* by the names of either size of files */
	FTSENT *entry;
	for (int pass = 0; pass < 2; pass++) {
		FTS *f = pass ? (FTS *)fts64_open(roots, FTS_PHYSICAL, NULL) : fts_open(roots, FTS_PHYSICAL, NULL);
		CHECK(f != NULL && (pass ? (FTSENT *)fts64_read((void *)f) : fts_read(f)));
		entry = pass ? (FTSENT *)fts64_children((void *)f, 0) : fts_children(f, 0);
		CHECK(entry != NULL);
		for (; entry; entry = entry->fts_link)
			CHECK(strcmp(entry->fts_name, "hidden") != 0);
		CHECK((pass ? fts64_close((void *)f) : fts_close(f)) == 0);
	}
	FTS *f = (FTS *)fts64_open(roots, FTS_PHYSICAL, NULL);
	CHECK(f != NULL);
	while ((entry = (FTSENT *)fts64_read((void *)f)))
		CHECK(strcmp(entry->fts_name, "hidden") != 0);
	CHECK(fts64_close((void *)f) == 0);
#else
	char buf[8192];
	int n, fd = open(dir, O_RDONLY | O_DIRECTORY);
	while ((n = getdents(fd, (struct dirent *)(void *)buf, sizeof buf)) > 0)
		for (int i = 0; i < n; i += ((struct dirent *)(void *)(buf + i))->d_reclen)
			CHECK(strcmp(((struct dirent *)(void *)(buf + i))->d_name, "hidden") != 0);
	CHECK(n == 0);
#endif
}

/* In musl 1.2.6, and always in ours. */
ssize_t posix_getdents(int, void *, size_t, int) __attribute__((weak));

static void case_entries(void)
{
	char buf[8192];
	ssize_t n, seen = 0;
	int fd = open(dir, O_RDONLY | O_DIRECTORY);
	CHECK(posix_getdents && posix_getdents(fd, buf, sizeof buf, 1) < 0 && errno == EOPNOTSUPP);
	while ((n = posix_getdents(fd, buf, sizeof buf, 0)) > 0)
		for (ssize_t i = 0; i < n; i += ((struct dirent *)(void *)(buf + i))->d_reclen) {
			CHECK(strcmp(((struct dirent *)(void *)(buf + i))->d_name, "hidden") != 0);
			seen += strcmp(((struct dirent *)(void *)(buf + i))->d_name, "seen") == 0;
		}
	CHECK(n == 0 && seen == 1);
}

/* ---- where one stands ---- */

static void case_standing(void)
{
	/* what is known of one working directory is not believed of the next */
	CHECK(chdir("/usr") == 0 && access("bin", F_OK) == 0);
	CHECK(fchdir(past(".", O_RDONLY | O_DIRECTORY)) == 0);
	CHECK(access("hidden/file", F_OK) < 0 && errno == ENOENT && access("seen/file", F_OK) == 0);
	/* another root is none that the policy speaks of */
	CHECK(chroot(in(path, "hidden")) < 0 && errno == ENOENT);
	CHECK(chroot(in(path, "seen/way")) < 0 && errno == ENOENT);
	CHECK(chroot(in(path, "seen")) < 0 && errno == EPERM);
}

/* Started in DIR/hidden, by somebody who may. */
static void case_hidden_place(void)
{
	struct stat st;
	CHECK(stat(".", &st) < 0 && errno == ENOENT);
	CHECK(fstatat(AT_FDCWD, "", &st, AT_EMPTY_PATH) < 0 && errno == ENOENT);
	CHECK(stat(in(path, "seen"), &st) == 0);
}

/* Started in DIR: as long as nobody has changed it, what is known of the working directory is a forked child's, too. */
static void case_daemon(void)
{
	int answer[2];
	char byte = 0;
	CHECK(access("seen/file", F_OK) == 0 && access("hidden/file", F_OK) < 0);
	CHECK(pipe(answer) == 0);
	pid_t pid = fork();
	if (pid == 0) {
		if (daemon(0, 1) < 0)
			_exit(1);
		byte = access(in(path, "hidden/file") + 1, F_OK) < 0 && errno == ENOENT && access(in(path, "seen/file") + 1, F_OK) == 0;
		_exit(write(answer[1], &byte, 1) != 1);
	}
	CHECK(close(answer[1]) == 0 && read(answer[0], &byte, 1) == 1 && byte == 1 && waitpid(pid, NULL, 0) == pid);
}

/* ---- what a child does before it is a program ---- */

/* In newer C libraries (glibc 2.41) under this name, and always in ours. */
int posix_spawn_file_actions_addchdir(posix_spawn_file_actions_t *, const char *) __attribute__((weak));
int posix_spawn_file_actions_addfchdir(posix_spawn_file_actions_t *, int) __attribute__((weak));

static int spawned(posix_spawn_file_actions_t *actions)
{
	char *argv[] = { (char *)"cat", (char *)"/dev/null", NULL };
	pid_t pid;
	int status, error = posix_spawn(&pid, "/bin/cat", actions, NULL, argv, environ);
	if (error)
		return error;
	CHECK(waitpid(pid, &status, 0) == pid);
	return WEXITSTATUS(status) == 127 ? ENOENT : 0;
}

static void case_file_actions(void)
{
	posix_spawn_file_actions_t actions;
	static const char *const places[] = { "readonly", "seen", "hidden", "seen/way" };
	for (int i = 0; i < 4; i++) {
		CHECK(posix_spawn_file_actions_init(&actions) == 0);
		snprintf(path, sizeof path, "%s/%s/file", dir, places[i]);
		int error = posix_spawn_file_actions_addopen(&actions, 5, path, O_RDONLY, 0);
		CHECK((error ? error : spawned(&actions)) == (i > 1 ? ENOENT : 0));
		posix_spawn_file_actions_destroy(&actions);
		CHECK(posix_spawn_file_actions_init(&actions) == 0);
		error = posix_spawn_file_actions_addchdir_np(&actions, in(path, places[i]));
		CHECK((error ? error : spawned(&actions)) == (i > 1 ? ENOENT : 0));
		posix_spawn_file_actions_destroy(&actions);
		CHECK(posix_spawn_file_actions_init(&actions) == 0 && posix_spawn_file_actions_addchdir);
		error = posix_spawn_file_actions_addchdir(&actions, in(path, places[i]));
		CHECK((error ? error : spawned(&actions)) == (i > 1 ? ENOENT : 0));
		posix_spawn_file_actions_destroy(&actions);
	}
	int seen = open(in(path, "seen"), O_RDONLY | O_DIRECTORY);
	CHECK(posix_spawn_file_actions_init(&actions) == 0 && posix_spawn_file_actions_addfchdir);
	CHECK(seen >= 0 && posix_spawn_file_actions_addfchdir_np(&actions, seen) == 0);
	CHECK(posix_spawn_file_actions_addfchdir(&actions, seen) == 0 && spawned(&actions) == 0);
	posix_spawn_file_actions_destroy(&actions);
	CHECK(close(seen) == 0);
}

/* ---- where one is, under a redirect: the name by which one went there. DIR/redirected leads to DIR/seen ---- */

#ifdef __GLIBC__
char *__getcwd_chk(char *, size_t, size_t);
char *__getwd_chk(char *, size_t);

static void case_where(void)
{
	static char buf[8192];
	CHECK(chdir(in(path, "redirected")) == 0);
	CHECK(strcmp(getcwd(buf, 4096), path) == 0);
	CHECK(strcmp(__getcwd_chk(buf, 4096, sizeof buf), path) == 0);
	CHECK(strcmp(getwd(buf), path) == 0);
	CHECK(strcmp(__getwd_chk(buf, sizeof buf), path) == 0);
	unsetenv("PWD");
	CHECK(strcmp(get_current_dir_name(), path) == 0);
	CHECK(strcmp(getcwd(NULL, 0), path) == 0);
}
#endif

/* ---- mounts ---- */

static void case_mount(void)
{
	/* whatever goes wrong is gone with the process */
	if (unshare(CLONE_NEWNS) == 0)
		CHECK(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	CHECK(mount(in(path, "hidden"), in(other, "seen"), NULL, MS_BIND, NULL) < 0 && errno == ENOENT);
	CHECK(mount(in(path, "hidden"), in(other, "seen"), NULL, MS_MOVE, NULL) < 0 && errno == ENOENT);
	CHECK(mount(in(path, "seen/way"), in(other, "seen"), NULL, MS_BIND, NULL) < 0 && errno == ENOENT);
	CHECK(mount("none", in(other, "hidden"), "tmpfs", 0, NULL) < 0 && errno == ENOENT);
	/* the first word is no path there */
	CHECK(mount(in(path, "hidden"), in(other, "seen"), "nosuchtype", 0, NULL) < 0 && errno == EPERM);
}

#define OPEN_TREE 428
#define MOVE_MOUNT 429
#define FSOPEN 430
#ifdef __GLIBC__
#define REFUSED EPERM
#else
#define REFUSED ENOSYS          /* musl has no function behind these */
#endif

/* What gives another name to what lies above something hidden, by functions and by their numbers. */
static void case_name_above(void)
{
	long from = (long)dir, to;
	CHECK(unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	to = (long)in(other, "seen");
	CHECK(mount(dir, other, NULL, MS_BIND, NULL) < 0 && errno == EPERM);
	CHECK(mount(dir, other, NULL, MS_MGC_VAL | MS_BIND, NULL) < 0 && errno == EPERM);
	CHECK(mount(dir, other, NULL, MS_BIND | MS_PRIVATE, NULL) < 0 && errno == EPERM);
	CHECK(mount(dir, other, NULL, MS_MOVE, NULL) < 0 && errno == EPERM);
	CHECK(mount("none", other, "tmpfs", 0, NULL) < 0 && errno == EPERM);
	CHECK(mount("none", other, "tmpfs", MS_MGC_VAL, NULL) < 0 && errno == EPERM);
	CHECK(syscall(SYS_mount, from, to, 0, MS_BIND, 0) < 0 && errno == EPERM);
	CHECK(syscall(SYS_pivot_root, to, to) < 0 && errno == EPERM);
	CHECK(syscall(MOVE_MOUNT, AT_FDCWD, from, AT_FDCWD, to, 0) < 0 && errno == REFUSED);
	CHECK(syscall(OPEN_TREE, AT_FDCWD, from, 1) < 0 && errno == REFUSED);
	CHECK(syscall(FSOPEN, (long)"tmpfs", 0) < 0 && errno == REFUSED);
	/* nothing gets another name by these */
#ifdef __GLIBC__
	int tree = (int)syscall(OPEN_TREE, AT_FDCWD, from, 0);
	CHECK(tree >= 0 && close(tree) == 0);
#endif
	CHECK(pt_raw5(SYS_mount, (long)"none", to, (long)"tmpfs", 0, 0) == 0);
	CHECK(mount(NULL, other, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) == 0 && umount(other) == 0);
}

static void case_name_above_audited(void)
{
	CHECK(unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	CHECK(mount(dir, in(other, "seen"), NULL, MS_BIND, NULL) == 0 && access(in(path, "seen/hidden/file"), F_OK) == 0);
}

/* ---- a tree that is put together: by a descriptor that came past the library ---- */

#ifdef __GLIBC__
static void case_fsconfig(void)
{
	enum { SET_PATH = 3, SET_PATH_EMPTY };
	int context = (int)pt_raw2(SYS_fsopen, (long)"tmpfs", 0);
	CHECK(context >= 0);
	for (int empty = 0; empty < 2; empty++) {
		int seen = past(empty ? "seen" : ".", O_PATH), hidden = past(empty ? "hidden" : ".", O_PATH);
		/* which no file system knows by that name */
		CHECK(fsconfig(context, SET_PATH + empty, "nosuch", empty ? "" : "seen", seen) < 0 && errno == EINVAL);
		CHECK(fsconfig(context, SET_PATH + empty, "nosuch", empty ? "" : "hidden", hidden) < 0 && errno == ENOENT);
	}
}
#endif

/* ---- a script ---- */

static void case_script(void)
{
	char *argv[] = { (char *)"script", NULL };
	char first[600];
	int fd = open(in(path, "seen/script"), O_CREAT | O_WRONLY, 0755);
	snprintf(first, sizeof first, "#!%.500s/seen/found\n", dir);
	CHECK(symlink("../hidden/tool", in(other, "seen/found")) == 0);
	CHECK(fd >= 0 && write(fd, first, strlen(first)) > 0 && close(fd) == 0);
	CHECK(execve(path, argv, environ) < 0 && errno == ENOENT);
}

/* ---- openat2 as a function: in no C library yet that we have seen, and in ours ---- */

static void case_openat2(void)
{
	struct open_how how = { .flags = O_RDONLY };
	CHECK(openat2 != NULL && chdir("/") == 0);
	int at = open(dir, O_RDONLY | O_DIRECTORY);
	CHECK(openat2(AT_FDCWD, in(path, "hidden/file"), &how, sizeof how) < 0 && errno == ENOENT);
	CHECK(openat2(at, "hidden/file", &how, sizeof how) < 0 && errno == ENOENT);
	CHECK(openat2(at, "seen/link", &how, sizeof how) < 0 && errno == ENOENT);
	CHECK(openat2(at, "seen/file", &how, sizeof how) >= 0);
	how = (struct open_how){ .flags = O_WRONLY | O_CREAT, .mode = 0644 };
	CHECK(openat2(at, "hidden/new", &how, sizeof how) < 0 && errno == EACCES);
	/* what the kernel refuses unseen is as it says, wherever the path leads */
	CHECK(openat2(at, "hidden/file", &how, sizeof how - 1) < 0 && errno == EINVAL);
	CHECK(openat2(at, "readonly/file", NULL, sizeof how) < 0 && errno == EFAULT);
}

/* ---- a kernel that does not tell what is a link ---- */

static void no_readlink(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
#ifdef SYS_readlink
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_readlink, 1, 0),
#endif
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_readlinkat, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EIO),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof code / sizeof *code, code };
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

static int refused(const char *name)
{
	struct stat st;
	char buf[64];
	in(path, name);
	/* reads, and what acts on the name with the C library's own function */
	return open(path, O_RDONLY) < 0 && errno == EIO && stat(path, &st) < 0 && errno == EIO && access(path, F_OK) < 0 && errno == EIO &&
		chmod(path, 0600) < 0 && errno == EIO && truncate(path, 0) < 0 && errno == EIO && getxattr(path, "user.x", buf, 9) < 0 && errno == EIO;
}

/* The directory is known: only whether the last name is a link cannot be seen. */
static void case_unseen_link(void)
{
	CHECK(access(in(path, "seen/file"), F_OK) == 0);
	no_readlink();
	CHECK(refused("seen/link"));
}

/* The last name is to be new, and is not looked at: only whether the one before it is a link cannot be seen. */
static void case_unseen_way(void)
{
	CHECK(access(in(path, "seen/file"), F_OK) == 0);
	no_readlink();
	CHECK(mkdir(in(path, "seen/way/new"), 0755) < 0 && errno == EIO);
	CHECK(mkdir(in(path, "seen/way/new"), 0755) < 0 && errno == EIO);     /* nor is it remembered as no link */
	CHECK(mkdir(in(path, "seen/down/../new"), 0755) < 0);    /* the kernel's ".." is not in seen */
	CHECK(refused("seen/way/file"));
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} cases[] = {
#define CASE(n) { #n, case_##n }
		CASE(sockets), CASE(standing), CASE(entries), CASE(tempnam), CASE(mount), CASE(openat2), CASE(becomes_a_link), CASE(descriptors), CASE(file_actions),
		CASE(unseen_link), CASE(unseen_way), CASE(daemon), CASE(hidden_place), CASE(script), CASE(name_above), CASE(name_above_audited),
#ifdef __GLIBC__
		CASE(pidfd), CASE(where), CASE(fsconfig),
#endif
	};
	if (argc != 3)
		return 2;
	dir = argv[2];
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		if (strcmp(cases[i].name, argv[1]) == 0) {
			cases[i].run();
			puts("ok");
			return 0;
		}
	return 2;
}
