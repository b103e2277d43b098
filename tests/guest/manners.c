/* Cases of guest.c that put each kind of call to one question: errno, stack, descriptors, cancellation. */
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"

static const char *in(char path[8192], const char *name)
{
	snprintf(path, 8192, "%s/%s", dir, name);
	return path;
}

/* A call that succeeds leaves errno alone: programs set it to 0 before, and look afterwards (readdir, strtol). */
#define KEEPS(x) do { errno = 77; if (!(x)) fail(#x); if (errno != 77) fail("errno changed by " #x); } while (0)

void case_errno_kept(void)
{
	char a[8192], b[8192], buf[4096];
	struct stat st;
	struct statvfs fs;
	DIR *d;
	FILE *f;
	pid_t pid;
	int fd, found = 0;
	in(a, "a");
	in(b, "b");
	KEEPS(stat(seen, &st) == 0 && lstat(seen, &st) == 0 && fstatat(AT_FDCWD, seen, &st, 0) == 0);
	KEEPS(access(seen, F_OK) == 0 && faccessat(AT_FDCWD, seen, R_OK, 0) == 0);
	KEEPS((fd = open(seen, O_RDONLY)) >= 0 && close(fd) == 0);
	KEEPS((fd = open(a, O_RDWR | O_CREAT | O_TRUNC, 0600)) >= 0);
	KEEPS(fchmod(fd, 0644) == 0 && ftruncate(fd, 1) == 0 && futimens(fd, NULL) == 0);
	KEEPS(dup2(fd, fd + 1) == fd + 1 && close(fd + 1) == 0 && close(fd) == 0);
	KEEPS(truncate(a, 2) == 0 && chmod(a, 0600) == 0 && utimensat(AT_FDCWD, a, NULL, 0) == 0);
	KEEPS(rename(a, b) == 0 && link(b, a) == 0 && unlink(a) == 0 && symlink(b, a) == 0);
	KEEPS(readlink(a, buf, sizeof buf) > 0 && stat(a, &st) == 0 && lstat(a, &st) == 0);
	KEEPS((fd = open(a, O_RDONLY)) >= 0 && close(fd) == 0);
	KEEPS(unlink(a) == 0 && unlinkat(AT_FDCWD, b, 0) == 0);
	KEEPS(mkdir(a, 0755) == 0 && chdir(a) == 0 && getcwd(buf, sizeof buf) && chdir("..") == 0 && rmdir(a) == 0);
	KEEPS((fd = open(dir, O_RDONLY | O_DIRECTORY)) >= 0 && fchdir(fd) == 0 && openat(fd, "seen", O_RDONLY) == fd + 1);
	KEEPS(close(fd + 1) == 0 && close(fd) == 0);
	KEEPS((d = opendir(dir)));
	errno = 77;
	while (readdir(d))             /* one is left out on the way */
		found++;
	CHECK(errno == 77 && found);
	KEEPS(closedir(d) == 0);
	KEEPS((f = fopen(seen, "r")) && fclose(f) == 0);
	KEEPS(statvfs(seen, &fs) == 0 && pathconf(dir, _PC_NAME_MAX) > 0 && mkfifo(a, 0600) == 0 && unlink(a) == 0);
	snprintf(buf, sizeof buf, "%.4000s/nXXXXXX", dir);
	KEEPS((fd = mkstemp(buf)) >= 0 && close(fd) == 0 && unlink(buf) == 0);
	char *const words[] = { (char *)"true", NULL };
	KEEPS(posix_spawn(&pid, "/bin/true", NULL, NULL, words, words + 1) == 0);
	reap(pid);
}

/* Each call with a path that is long, so that it goes the slow way, and with one that is hidden. */
static char longer[8192];
static char *const words[] = { (char *)"none", NULL };

static void by_stat(void)
{
	struct stat st;
	CHECK(stat(longer, &st) == 0);
	CHECK(lstat(hidden, &st) == -1 && fstatat(AT_FDCWD, longer, &st, 0) == 0);
}

static void by_open(void)
{
	int fd = open(longer, O_RDONLY);
	CHECK(fd >= 0 && close(fd) == 0);
	CHECK(open(hidden, O_RDONLY) == -1 && open(hidden, O_RDWR | O_CREAT, 0600) == -1);
	fd = open(longer, O_RDWR | O_CREAT, 0600);
	CHECK(fd >= 0 && close(fd) == 0);
}

static void by_names(void)
{
	char link[64];
	CHECK(access(longer, F_OK) == 0 && access(hidden, F_OK) == -1);
	CHECK(readlink(longer, link, sizeof link) == -1 && readlink(hidden, link, sizeof link) == -1);
	CHECK(mkdir(longer, 0700) == -1 && symlink("x", longer) == -1 && rename(hidden, longer) == -1);
	CHECK(unlink(hidden) == -1 && rmdir(longer) == -1 && chmod(longer, 0644) == 0 && truncate(longer, 0) == 0);
	CHECK(chdir(dir) == 0 && chdir(hidden) == -1);
}

static void by_exec(void)
{
	pid_t pid;
	CHECK(execv(hidden, words) == -1 && execve(longer, words, words + 1) == -1);
	CHECK(posix_spawn(&pid, hidden, NULL, NULL, words, words + 1) == ENOENT);
}

static void by_socket(void)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	snprintf(un.sun_path, sizeof un.sun_path, "%.90s/seen/none", dir);
	CHECK(connect(fd, (struct sockaddr *)&un, sizeof un) == -1);
	snprintf(un.sun_path, sizeof un.sun_path, "%.90s/hidden/x", dir);
	CHECK(connect(fd, (struct sockaddr *)&un, sizeof un) == -1);
	close(fd);
}

static void by_listing(void)
{
	DIR *d = opendir(dir);
	CHECK(d && readdir(d) && readdir(d) && closedir(d) == 0);
	CHECK(!opendir(hidden));
}

static void by_stream(void)
{
	FILE *f = fopen(longer, "r");
	CHECK(f && fclose(f) == 0);
	CHECK(!fopen(hidden, "w"));
}

static void by_temporary(void)
{
	static char name[4096];
	snprintf(name, sizeof name, "%.4000s/tXXXXXX", dir);
	int fd = mkstemp(name);
	CHECK(fd >= 0 && close(fd) == 0 && unlink(name) == 0);
}

static const struct way {
	const char *name;
	void (*call)(void);
} ways[] = {
	{ "stat", by_stat }, { "open", by_open }, { "names", by_names }, { "exec", by_exec },
	{ "socket", by_socket }, { "listing", by_listing }, { "stream", by_stream }, { "temporary", by_temporary },
};
#define WAYS (sizeof ways / sizeof *ways)

static void nothing(void)
{
}

static void *called(void *arg)
{
	((const struct way *)arg)->call();
	return NULL;
}

/* Bytes of a thread's stack that a call has written to. */
static size_t depth(const struct way *way)
{
	const size_t size = 256 << 10;
	unsigned char *stack = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_attr_t attr;
	pthread_t t;
	size_t i = 0;
	CHECK(stack != MAP_FAILED);
	memset(stack, 0x5a, size);
	pthread_attr_init(&attr);
	CHECK(pthread_attr_setstack(&attr, stack, size) == 0);
	CHECK(pthread_create(&t, &attr, called, (void *)(size_t)way) == 0 && pthread_join(t, NULL) == 0);
	while (i < size && stack[i] == 0x5a)
		i++;
	munmap(stack, size);
	return size - i;
}

static void make_longer(void)
{
	size_t n = (size_t)snprintf(longer, sizeof longer, "%.3000s", dir);
	while (n < 3000)
		n += (size_t)snprintf(longer + n, sizeof longer - n, "/seen/..");
	snprintf(longer + n, sizeof longer - n, "/seen/file");
}

/* A thread may have 16 KiB of stack in all (PTHREAD_STACK_MIN), and most of it is the program's. */
#define MAY_USE 5120u

void case_stack_use(void)
{
	const struct way empty = { "nothing", nothing };
	if (slow) {
		left_out("valgrind calls it a mistake to look at a stack that was used");
		return;
	}
	make_longer();
#ifdef __SANITIZE_ADDRESS__
	left_out("under ASan the depth is that of its own frames");
#endif
	for (size_t i = 0; i < WAYS; i++)
		ways[i].call();                /* functions are looked up at the first call */
	size_t base = depth(&empty);
	for (size_t i = 0; i < WAYS; i++) {
		size_t used = depth(&ways[i]) - base;
		if (getenv("GUEST_SHOW"))
			printf("%s: %zu bytes of stack\n", ways[i].name, used);
#ifndef __SANITIZE_ADDRESS__
		if (used > MAY_USE) {
			printf("%s: %zu bytes of stack\n", ways[i].name, used);
			fail("too much");
		}
#endif
	}
}

/* A descriptor that the library kept or left would take the number that the program is to get. */
void case_descriptors_of_calls(void)
{
	int first = dup(0);
	make_longer();
	for (size_t i = 0; i < WAYS; i++)
		for (int n = 0; n < 3; n++) {
			ways[i].call();
			int next = dup(0);
			if (next != first + 1) {
				printf("%s: %d after %d\n", ways[i].name, next, first);
				fail("a descriptor is left");
			}
			close(next);
		}
}

/* Calls at which a thread that has been cancelled has to end. */
static char made[8192];

static void c_open(void) { (void)!open(seen, O_RDONLY); }
static void c_open_slow(void) { (void)!open(longer, O_RDONLY); }
static void c_open_new(void) { (void)!open(made, O_RDWR | O_CREAT, 0600); }
static void c_openat(void) { (void)!openat(AT_FDCWD, seen, O_RDONLY); }
static void c_openat_new(void) { (void)!openat(AT_FDCWD, made, O_RDWR | O_CREAT, 0600); }
static void c_creat(void) { (void)!creat(made, 0600); }
static void c_close(void) { close(dup(0)); }

static void c_send(void)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	snprintf(un.sun_path, sizeof un.sun_path, "%.90s/seen/none", dir);
	(void)!sendto(socket(AF_UNIX, SOCK_DGRAM, 0), "x", 1, 0, (struct sockaddr *)&un, sizeof un);
}

static void c_connect(void)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	snprintf(un.sun_path, sizeof un.sun_path, "%.90s/seen/none", dir);
	(void)!connect(socket(AF_UNIX, SOCK_DGRAM, 0), (struct sockaddr *)&un, sizeof un);
}

static void *cancelled(void *arg)
{
	const struct way *way = arg;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	pthread_cancel(pthread_self());
	pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
	way->call();
	return arg;
}

void case_cancel_pending(void)
{
	static const struct way points[] = {
		{ "open", c_open }, { "open by a long path", c_open_slow }, { "open of a new file", c_open_new },
		{ "openat", c_openat }, { "openat of a new file", c_openat_new }, { "creat", c_creat },
		{ "close", c_close }, { "sendto", c_send }, { "connect", c_connect },
	};
	make_longer();
	in(made, "made");
	for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
		pthread_t t;
		void *result;
		CHECK(pthread_create(&t, NULL, cancelled, (void *)(size_t)&points[i]) == 0);
		CHECK(pthread_join(t, &result) == 0);
		if (result != PTHREAD_CANCELED) {
			printf("%s ", points[i].name);
			fail("is no cancellation point");
		}
	}
	look();
}

/* What a vfork child does with its descriptors and its directory, in memory that is its parent's, changes none of the parent's. */
#ifdef __GLIBC__
pid_t __vfork(void) __attribute__((returns_twice));
#define NAMES 2
#else
#define __vfork vfork
#define NAMES 1
#endif

static void exchange(int a, int b)
{
	struct stat other;
	if (dup2(b, a) != a || fstatat(a, "bin", &other, 0) || close(b) || open(dir, O_RDONLY | O_DIRECTORY) != b)
		_exit(9);
	if (fstatat(b, "seen/file", &other, 0) || chdir("/usr") || stat("bin", &other))
		_exit(8);
	_exit(0);
}

void case_vfork_numbers(void)
{
	struct stat st;
	int a = open(dir, O_RDONLY | O_DIRECTORY), b = open("/usr", O_RDONLY | O_DIRECTORY);
	CHECK(a >= 0 && b >= 0);
	for (volatile int i = 0; i < NAMES; i++) {
		CHECK(chdir("/") == 0 && chdir(dir) == 0);
		CHECK(fstatat(a, "hidden/file", &st, 0) == -1 && fstatat(b, "bin", &st, 0) == 0 && stat("seen/file", &st) == 0);
		pid_t pid;
		if (i) {
			pid = __vfork();
			if (pid == 0)
				exchange(a, b);
		} else {
			pid = vfork();
			if (pid == 0)
				exchange(a, b);
		}
		reap(pid);
		CHECK(fstatat(a, "seen/file", &st, 0) == 0);
		CHECK(fstatat(a, "hidden/file", &st, 0) == -1 && errno == ENOENT);
		CHECK(fstatat(b, "bin", &st, 0) == 0);
		CHECK(stat("seen/file", &st) == 0 && stat("hidden/file", &st) == -1 && errno == ENOENT);
	}
	look();
}

/* ---- threads that end while a program is started or waited for, or in what a wrapper calls ---- */

static void *in_system(void *arg)
{
	(void)!system(arg);
	return NULL;
}

static int has_child(void)
{
	siginfo_t info;
	return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

static void check_signals(void)
{
	struct sigaction was;
	CHECK(sigaction(SIGINT, NULL, &was) == 0 && was.sa_handler == SIG_DFL);
	CHECK(sigaction(SIGQUIT, NULL, &was) == 0 && was.sa_handler == SIG_DFL);
}

static void cancel_in_system(void)
{
	pthread_t t;
	void *result;
	char command[26000];
	in(made, "pid");
	unlink(made);
	snprintf(command, sizeof command, "echo $$ > '%s.new'; mv '%s.new' '%s'; exec sleep 100", made, made, made);
	CHECK(pthread_create(&t, NULL, in_system, command) == 0);
	while (access(made, F_OK))
		usleep(1000);
	CHECK(has_child() && pthread_cancel(t) == 0 && pthread_join(t, &result) == 0);
	CHECK(result == PTHREAD_CANCELED);
#ifdef __GLIBC__
	CHECK(!has_child());                 /* it was ended, and reaped */
#else
	char line[64];                 /* musl's system just goes */
	FILE *f = fopen(made, "r");
	CHECK(f && fgets(line, sizeof line, f) && fclose(f) == 0);
	CHECK(kill(atoi(line), SIGKILL) == 0 && waitpid(atoi(line), NULL, 0) == atoi(line));
	signal(SIGINT, SIG_DFL);
	signal(SIGQUIT, SIG_DFL);
#endif
	check_signals();
	unlink(made);
}

/* The signals are the process's: whoever comes back first leaves them to the other. */
static void systems_at_once(void)
{
#ifdef __GLIBC__
	pthread_t first, second;
	CHECK(pthread_create(&first, NULL, in_system, (void *)(size_t)"sleep 0.2") == 0);
	usleep(100000);
	CHECK(pthread_create(&second, NULL, in_system, (void *)(size_t)"sleep 0.2") == 0);
	CHECK(pthread_join(first, NULL) == 0 && pthread_join(second, NULL) == 0);
	check_signals();
#endif
}

/* A cancelled thread gets what it has started; it ends afterwards. */
__attribute__((no_sanitize("address"))) /* which stumbles over what a cancelled thread leaves on its stack */
static void *starting(void *arg)
{
	char *const argv[] = { (char *)"true", NULL };
	pid_t pid;
	FILE *f;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	pthread_cancel(pthread_self());
	pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
	int by_path = posix_spawn(&pid, "/bin/true", NULL, NULL, argv, environ);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	CHECK(by_path == 0);
	reap(pid);
	pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
	int by_name = posix_spawnp(&pid, "true", NULL, NULL, argv, environ);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	CHECK(by_name == 0);
	reap(pid);
	pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
	f = popen("exit 0", "r");
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	CHECK(f && pclose(f) == 0);
	*(int *)arg = 1;
	pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
	pthread_testcancel();
	return NULL;
}

void case_cancel_children(void)
{
	for (int emptied = 0; emptied < 2; emptied++) {        /* the library has to make the environment */
		pthread_t t;
		void *result;
		int done = 0;
		if (emptied)
			clearenv();
		cancel_in_system();
		systems_at_once();
		CHECK(pthread_create(&t, NULL, starting, &done) == 0 && pthread_join(t, &result) == 0);
		CHECK(done && result == PTHREAD_CANCELED);
		CHECK(!emptied || !getenv("LD_PRELOAD"));
	}
	look();
}

/* What the program gives to a wrapper to be called, and in which its thread ends. */
static int ends_itself(void)
{
	pthread_cancel(pthread_self());
	pthread_testcancel();
	return 0;
}

static int select_ends(const struct dirent *e) { (void)e; return ends_itself(); }
static int glob_ends(const char *path, int error) { (void)path; (void)error; return ends_itself(); }
static int visit_ends(const char *path, const struct stat *st, int what, struct FTW *f)
{
	(void)path; (void)st; (void)what; (void)f;
	return ends_itself();
}

static void e_scandir(void)
{
	struct dirent **list;
	(void)!scandir(dir, &list, select_ends, NULL);
}

static void e_glob(void)
{
	glob_t found;
	(void)!glob(in(made, "locked/*"), 0, glob_ends, &found);
}

static void e_nftw(void)
{
	(void)!nftw(dir, visit_ends, 4, FTW_PHYS);
}

void case_end_inside(void)
{
	static const struct way ends[] = {
		{ "scandir", e_scandir }, { "glob", e_glob }, { "nftw", e_nftw },
	};
	char name[8192];
	CHECK(symlink("locked", in(name, "locked")) == 0);   /* to itself: reading it is an error */
	for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
		int first = dup(0), next;
		close(first);
		for (int n = 0; n < rounds(100); n++) {
			pthread_t t;
			void *result;
			CHECK(pthread_create(&t, NULL, called, (void *)(size_t)&ends[i]) == 0 && pthread_join(t, &result) == 0);
#ifdef __GLIBC__
			int may_go_on = 0;
#else
			int may_go_on = ends[i].call == e_nftw;    /* musl's puts it off */
#endif
			if (result != PTHREAD_CANCELED && !may_go_on) {
				printf("%s ", ends[i].name);
				fail("did not end");
			}
		}
		next = dup(0);
		close(next);
#ifdef __GLIBC__               /* whose scandir closes what it has opened; its glob and nftw do not, and musl's none of them */
		if (i < 2 && next != first) {
			printf("%s: %d after %d\n", ends[i].name, next, first);
			fail("a descriptor is left");
		}
#endif
		look();
	}
}
