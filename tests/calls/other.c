/*
 * Calls that tests/calls/main.c cannot make by an expression: other CASE DIR. DIR holds `seen` and `hidden`, each with a
 * `file`; `seen/link` leads to ../hidden/file and `seen/way` to ../hidden,
 * `seen/down` to ../hidden/sub. Prints "ok", or what went wrong.
 */
#include <errno.h>
#include <fcntl.h>
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
ssize_t __sendmsg(int, const struct msghdr *, int) __attribute__((weak));
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
	struct sockaddr_un seen = named("seen/sock"), hidden = named("hidden/sock");
	struct sockaddr *to_seen = (void *)&seen, *to_hidden = (void *)&hidden;
	int from = socket(AF_UNIX, SOCK_DGRAM, 0), to = socket(AF_UNIX, SOCK_DGRAM, 0);
	char byte = 1;
	struct iovec part = { &byte, 1 };
	CHECK(bind(to, to_hidden, sizeof hidden) < 0 && errno == EACCES);
	CHECK(bind(to, to_seen, sizeof seen) == 0);
	CHECK(connect(from, to_hidden, sizeof hidden) < 0 && errno == ENOENT);
	CHECK(!HAS(__connect) || (__connect(from, to_hidden, sizeof hidden) < 0 && errno == ENOENT));
	hidden = named("hidden/message");        /* one finding a path */
	struct msghdr message = { .msg_name = &hidden, .msg_namelen = sizeof hidden, .msg_iov = &part, .msg_iovlen = 1 };
	CHECK(sendmsg(from, &message, 0) < 0 && errno == ENOENT);
	CHECK(!HAS(__sendmsg) || (__sendmsg(from, &message, 0) < 0 && errno == ENOENT));
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
	name = tempnam(in(path, "hidden"), "made");
	CHECK(name && strncmp(name, path, strlen(path)) != 0);
	free(name);
}

/* ---- mounts ---- */

static void case_mount(void)
{
	/* whatever goes wrong is gone with the process */
	if (unshare(CLONE_NEWNS) == 0)
		CHECK(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	CHECK(mount(in(path, "hidden"), in(other, "seen"), NULL, MS_BIND, NULL) < 0 && errno == ENOENT);
	CHECK(mount(in(path, "hidden"), in(other, "seen"), NULL, MS_MOVE, NULL) < 0 && errno == ENOENT);
	CHECK(mount("none", in(other, "hidden"), "tmpfs", 0, NULL) < 0 && errno == ENOENT);
	/* the first word is no path there */
	CHECK(mount(in(path, "hidden"), in(other, "seen"), "nosuchtype", 0, NULL) < 0 && (errno == ENODEV || errno == EPERM));
}

/* ---- openat2 as a function: in no C library yet that we have seen, and in ours ---- */

static void case_openat2(void)
{
	struct open_how how = { .flags = O_RDONLY };
	CHECK(openat2 != NULL);
	int at = open(dir, O_RDONLY | O_DIRECTORY);
	CHECK(openat2(AT_FDCWD, in(path, "hidden/file"), &how, sizeof how) < 0 && errno == ENOENT);
	CHECK(openat2(at, "hidden/file", &how, sizeof how) < 0 && errno == ENOENT);
	CHECK(openat2(at, "seen/link", &how, sizeof how) < 0 && errno == ENOENT);
	CHECK(openat2(at, "seen/file", &how, sizeof how) >= 0);
	how = (struct open_how){ .flags = O_WRONLY | O_CREAT, .mode = 0644 };
	CHECK(openat2(at, "hidden/new", &how, sizeof how) < 0 && errno == EACCES);
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
		CASE(sockets), CASE(tempnam), CASE(mount), CASE(openat2), CASE(unseen_link), CASE(unseen_way),
#ifdef __GLIBC__
		CASE(pidfd),
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
