/*
 * Manners towards the host, one case by name: guest CASE DIR. DIR holds `seen/file` and `hidden/file` (hidden by the
 * policy). Prints "ok" and exits 0, or says what went wrong; what it leaves out, and why, it says before. CASE "all" makes
 * each in a child of its own and says "CASE: ok": for hosts that are slow to start. GUEST_SLOW in the environment: fewer
 * rounds, and nothing that valgrind does not know.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../../csrc/sysraw.h"
#include "guest.h"

#ifdef __GLIBC__               /* names that no header has any more */
int __close(int);
int __dup2(int, int);
int __fcntl(int, int, ...);
int __clone(int (*)(void *), void *, int, void *, ...);
FILE *_IO_popen(const char *, const char *);
#endif

int slow;
char seen[4096], hidden[4096], dir[4096];

int rounds(int n)
{
	return slow ? n / 20 + 1 : n;
}

void fail(const char *what)
{
	printf("%s: errno %d (%s)\n", what, errno, strerror(errno));
	fflush(stdout);
	_exit(1);
}

void left_out(const char *what)
{
	printf("left out: %s\n", what);
	fflush(stdout);
}

void look(void)
{
	struct stat st;
	errno = 0;
	CHECK(stat(seen, &st) == 0);
	CHECK(errno == 0);
	CHECK(stat(hidden, &st) == -1 && errno == ENOENT);
	CHECK(access(hidden, F_OK) == -1 && errno == ENOENT);
	CHECK(open(hidden, O_RDONLY) == -1 && errno == ENOENT);
	int fd = open(seen, O_RDONLY);
	CHECK(fd >= 0);
	close(fd);
}

void reap(pid_t pid)
{
	int status;
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static char *const cat_hidden[] = { (char *)"sh", (char *)"-c", (char *)"! test -e \"$0\"", hidden, NULL };

/* Of all the memory that is mapped. */
static long pages(void)
{
	long n = 0;
	FILE *f = fopen("/proc/self/statm", "r");
	CHECK(f && fscanf(f, "%ld", &n) == 1 && fclose(f) == 0);
	return n;
}

static void case_vfork(void)
{
	look();                                /* maps what tells of a finding */
	long mapped = slow ? 0 : pages();      /* valgrind's own grows */
	for (volatile int i = 0; i < rounds(200); i++) {      /* more than there are slabs: none may stay with the exec'ed child */
		pid_t pid = vfork();
		if (pid == 0) {          /* without an environment: the library has to make one */
			execve("/bin/true", (char *[]){ (char *)"true", NULL }, (char *[]){ NULL });
			_exit(127);
		}
		reap(pid);
	}
	pid_t pid = vfork();
	if (pid == 0) {
		if (chdir("/") < 0)          /* the child's own, though memory is shared */
			_exit(9);
		execv("/bin/sh", cat_hidden);
		_exit(127);
	}
	reap(pid);
	struct stat st;
	CHECK(chdir(dir) == 0);
	pid = vfork();
	if (pid == 0) {
		if (chdir("/") < 0 || access("etc", F_OK) < 0)
			_exit(9);
		_exit(0);
	}
	reap(pid);
	CHECK(stat("seen/file", &st) == 0);
	CHECK(stat("hidden/file", &st) == -1 && errno == ENOENT);
	look();
	if (mapped)
		CHECK(pages() - mapped < 1024);
}

static void *looking(void *arg)
{
	for (int i = 0; i < rounds(300); i++)
		look();
	return arg;
}

static void case_threads(void)
{
	pthread_t t[8];
	for (int i = 0; i < 8; i++)
		CHECK(pthread_create(&t[i], NULL, looking, NULL) == 0);
	for (int i = 0; i < rounds(20); i++) {
		pid_t pid = fork();
		if (pid == 0) {
			look();
			_exit(0);
		}
		reap(pid);
	}
	for (int i = 0; i < 8; i++)
		pthread_join(t[i], NULL);
}

static void case_small_stack(void)
{
	pthread_attr_t attr;
	pthread_t t;
	pthread_attr_init(&attr);
	CHECK(pthread_attr_setstacksize(&attr, 64 << 10) == 0);
	CHECK(pthread_create(&t, &attr, looking, NULL) == 0);
	pthread_join(t, NULL);
}

static volatile sig_atomic_t handled;

static void on_signal(int sig)
{
	int kept = errno;
	struct stat st;
	(void)sig;
	if (stat(hidden, &st) != -1 || errno != ENOENT || stat(seen, &st) != 0)
		_exit(2);
	handled++;
	errno = kept;
}

static void case_signals(void)
{
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	sigaction(SIGALRM, &sa, NULL);
	timer_t timer;
	struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM };
	struct itimerspec every = { { 0, slow ? 20000000 : 200000 }, { 0, slow ? 20000000 : 200000 } };
	CHECK(timer_create(CLOCK_MONOTONIC, &ev, &timer) == 0);
	timer_settime(timer, 0, &every, NULL);
	for (int i = 0; i < rounds(3000) || handled < rounds(50); i++)
		look();
	timer_delete(timer);
}

static sigjmp_buf back;

static void jump(int sig)
{
	(void)sig;
	siglongjmp(back, 1);
}

static void case_longjmp(void)
{
	char fifo[5000];
	snprintf(fifo, sizeof fifo, "%s/fifo", dir);
	CHECK(mkfifo(fifo, 0600) == 0);
	struct sigaction sa = { .sa_handler = jump };
	sigaction(SIGALRM, &sa, NULL);
	for (volatile int i = 0; i < rounds(100); i++) {
		if (sigsetjmp(back, 1) == 0) {
			ualarm(slow ? 200000 : 1000, 0);
			int fd = open(fifo, O_WRONLY | O_CREAT, 0600); /* blocks until the handler jumps out of it */
			(void)fd;
			fail("open of the fifo came back");
		}
	}
	unlink(fifo);
	look();
}

static void *opening(void *arg)
{
	int fd = open(arg, O_RDONLY);
	(void)fd;
	return NULL;
}

static void case_cancel(void)
{
	char fifo[5000];
	snprintf(fifo, sizeof fifo, "%s/fifo2", dir);
	CHECK(mkfifo(fifo, 0600) == 0);
	pthread_t t;
	void *result;
	CHECK(pthread_create(&t, NULL, opening, fifo) == 0);
	usleep(slow ? 500000 : 20000);
	pthread_cancel(t);
	pthread_join(t, &result);
	CHECK(result == PTHREAD_CANCELED);
	unlink(fifo);
	look();
}

static void case_close_all(void)
{
	int dirfd = open(dir, O_RDONLY | O_DIRECTORY);
	struct stat st;
	CHECK(fstatat(dirfd, "hidden/file", &st, 0) == -1 && errno == ENOENT);
#ifdef __GLIBC__
	closefrom(3);
#else
	CHECK(syscall(SYS_close_range, 3, ~0u, 0) == 0);       /* musl has neither as a function */
#endif
	look();
	int other = open("/usr", O_RDONLY);  /* takes the number over */
	CHECK(other == dirfd);
	CHECK(fstatat(other, "bin", &st, 0) == 0);
	close(other);
	for (int fd = 0; fd < 1024; fd++)
		if (fd != 1)
			close(fd);
	look();
	dirfd = open(dir, O_RDONLY | O_DIRECTORY);
	CHECK(fstatat(dirfd, "hidden/file", &st, 0) == -1 && errno == ENOENT);
	CHECK(syscall(SYS_close_range, 0, 0, 0) == 0 && syscall(SYS_close_range, 2, ~0u, 0) == 0);
	CHECK(open("/usr", O_RDONLY) == dirfd && fstatat(dirfd, "bin", &st, 0) == 0);
#ifdef __GLIBC__
	CHECK(close_range(0, 0, 0) == 0 && close_range(2, ~0u, 0) == 0);
	CHECK(open(dir, O_RDONLY | O_DIRECTORY) == dirfd && fstatat(dirfd, "hidden/file", &st, 0) == -1 && errno == ENOENT);
#endif
	look();
}

static void case_dup(void)
{
	struct stat st;
	char sub[5000];
	snprintf(sub, sizeof sub, "%s/hidden", dir);
	int a = open(dir, O_RDONLY | O_DIRECTORY), b = open("/usr", O_RDONLY | O_DIRECTORY);
	CHECK(fstatat(b, "bin", &st, 0) == 0);
	CHECK(dup2(a, b) == b);
	CHECK(fstatat(b, "hidden/file", &st, 0) == -1 && errno == ENOENT);
	CHECK(openat(b, "hidden/file", O_RDONLY) == -1 && errno == ENOENT);
	CHECK(openat(b, "seen/file", O_RDONLY) >= 0);
}

static void run(char *const *argv, char *const *envp)
{
	pid_t pid = fork();
	if (pid == 0) {
		execve(argv[0], argv, envp);
		_exit(127);
	}
	reap(pid);
}

static void case_environments(void)
{
	char *sh[] = { (char *)"/bin/sh", (char *)"-c", (char *)"! test -e \"$0\"", hidden, NULL };
	char *own[] = { (char *)"A=1", (char *)"LD_PRELOAD=", NULL }, *none[] = { NULL };
	run(sh, none);
	run(sh, own);
	pid_t pid = fork();
	if (pid == 0) {
		execve(sh[0], sh, NULL);
		_exit(127);
	}
	reap(pid);
	pid = fork();
	if (pid == 0) {
		execle("/bin/sh", "sh", "-c", "! test -e \"$0\"", hidden, (char *)NULL, none);
		_exit(127);
	}
	reap(pid);
	CHECK(posix_spawn(&pid, "/bin/sh", NULL, NULL, sh, none) == 0);
	reap(pid);
	CHECK(posix_spawnp(&pid, "sh", NULL, NULL, sh, none) == 0);
	reap(pid);
	clearenv();
	char command[5000], line[64] = "";
	snprintf(command, sizeof command, "! test -e '%s'", hidden);
	CHECK(system(command) == 0);
	struct sigaction was;
	sigset_t blocked;
	CHECK(sigaction(SIGINT, NULL, &was) == 0 && was.sa_handler == SIG_DFL);
	CHECK(sigaction(SIGQUIT, NULL, &was) == 0 && was.sa_handler == SIG_DFL);
	CHECK(sigprocmask(SIG_BLOCK, NULL, &blocked) == 0 && !sigismember(&blocked, SIGCHLD));
	snprintf(command, sizeof command, "test -e '%s' || echo no", hidden);
	FILE *p = popen(command, "r");
	CHECK(p && fgets(line, sizeof line, p) && strcmp(line, "no\n") == 0);
	CHECK(pclose(p) == 0);
#ifdef __GLIBC__
	p = _IO_popen(command, "r");
	CHECK(p && fgets(line, sizeof line, p) && strcmp(line, "no\n") == 0);
	CHECK(pclose(p) == 0);
#endif
	CHECK(getenv("LD_PRELOAD") == NULL);
}

static void case_bad_pointers(void)
{
	const char *volatile null = NULL;
	struct stat st;
	if (slow) {
		left_out("valgrind reports a bad pointer, whoever hands it on");
		return;
	}
	CHECK(open(null, O_RDONLY) == -1 && errno == EFAULT);
	CHECK(stat(null, &st) == -1 && errno == EFAULT);
	CHECK(unlink((const char *)-1L) == -1 && errno == EFAULT);
	CHECK(mkdir(null, 0700) == -1 && errno == EFAULT);
	/* what debuggers fill freed memory with, and a slip behind NULL */
	CHECK(rmdir((const char *)0x6b6b6b6b6b6b6b6bL) == -1 && errno == EFAULT);
	CHECK(open((const char *)0x5a5a5a5a5a5a5a5aL, O_RDONLY) == -1 && errno == EFAULT);
	CHECK(access((const char *)24L, F_OK) == -1 && errno == EFAULT);
	CHECK(open("", O_RDONLY) == -1 && errno == ENOENT);
	CHECK(fstatat(-5, "x", &st, 0) == -1 && errno == EBADF);
	char longer[6000];
	memset(longer, 'a', sizeof longer);
	longer[0] = '/';
	longer[sizeof longer - 1] = 0;
	CHECK(stat(longer, &st) == -1 && errno == ENAMETOOLONG);
	CHECK(mkdir("/usr", 0700) == -1 && errno == EEXIST);
	CHECK(open("/usr/bin/env/x", O_RDONLY) == -1 && errno == ENOTDIR);
}

static void case_links(void)
{
	char a[5000], target[5000];
	struct stat st;
	snprintf(a, sizeof a, "%s/link", dir);
	snprintf(target, sizeof target, "%s/seen", dir);
	CHECK(symlink(hidden, a) == 0);
	CHECK(lstat(a, &st) == 0);
	CHECK(stat(a, &st) == -1 && errno == ENOENT);
	CHECK(access(a, F_OK) == -1 && errno == ENOENT);
	CHECK(open(a, O_RDONLY) == -1 && errno == ENOENT);
	CHECK(unlink(a) == 0);
	/* the same name as a way to another directory: what was cached about it must not live on */
	char file[5100];
	snprintf(file, sizeof file, "%s/link/file", dir);
	CHECK(symlink(target, a) == 0);
	CHECK(stat(file, &st) == 0);
	CHECK(unlink(a) == 0);
	snprintf(target, sizeof target, "%s/hidden", dir);
	CHECK(symlink(target, a) == 0);
	CHECK(stat(file, &st) == -1 && errno == ENOENT);
	CHECK(unlink(a) == 0);
	CHECK(mkdir(a, 0755) == 0);
	int fd = open(file, O_WRONLY | O_CREAT, 0644);
	CHECK(fd >= 0);
	close(fd);
	CHECK(stat(file, &st) == 0);
	snprintf(file, sizeof file, "%s/seen/../hidden/file", dir);
	CHECK(stat(file, &st) == -1 && errno == ENOENT);
	snprintf(file, sizeof file, "%s/seen/.././seen//file", dir);
	CHECK(stat(file, &st) == 0);
}

static void case_listing(void)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	int seen_it = 0;
	CHECK(d);
	while ((e = readdir(d))) {
		CHECK(strcmp(e->d_name, "hidden") != 0);
		seen_it |= strcmp(e->d_name, "seen") == 0;
	}
	CHECK(seen_it);
	closedir(d);
	struct dirent **list;
	int n = scandir(dir, &list, NULL, alphasort);
	CHECK(n >= 3);
	for (int i = 0; i < n; i++)
		CHECK(strcmp(list[i]->d_name, "hidden") != 0);
}

static void list(DIR *d)
{
	struct dirent *e;
	int seen_it = 0;
	CHECK(d);
	while ((e = readdir(d))) {
		CHECK(strcmp(e->d_name, "hidden") != 0);
		seen_it |= strcmp(e->d_name, "seen") == 0;
	}
	CHECK(seen_it);
	closedir(d);
}

/* Where the library remembers nothing of a descriptor: in a child, beside a sharer, beyond the numbers that it knows. */
static void case_listing_elsewhere(void)
{
	pid_t pid = fork();
	if (pid == 0) {
		list(opendir(dir));
		_exit(0);
	}
	reap(pid);
	pid = vfork();
	if (pid == 0) {
		list(opendir(dir));
		_exit(0);
	}
	reap(pid);
	struct rlimit limit;
	CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	if (slow) {
		left_out("valgrind keeps the numbers of descriptors as they were when it started");
	} else {
		CHECK(limit.rlim_max > 1200);
		limit.rlim_cur = 1200;
		CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
		int fd = open(dir, O_RDONLY | O_DIRECTORY), far = fcntl(fd, F_DUPFD, 1100);
		CHECK(far >= 1100);
		list(fdopendir(far));
	}
	pid = fork();
	if (pid == 0) {
		list(opendir(dir));
		_exit(0);
	}
	reap(pid);
}

static void case_removed_cwd(void)
{
	char gone[5000];
	struct stat st;
	snprintf(gone, sizeof gone, "%s/gone", dir);
	CHECK(mkdir(gone, 0755) == 0 && chdir(gone) == 0 && rmdir(gone) == 0);
	CHECK(stat("x", &st) == -1 && errno == ENOENT);
	CHECK(stat("../hidden/file", &st) == -1 && errno == ENOENT);
	CHECK(chdir("/") == 0);
	look();
}

static void case_no_descriptors(void)
{
	int first = dup(0);
	CHECK(first == 3);          /* 0, 1 and 2 are all that it was started with */
	look();
	int second = dup(0);
	CHECK(second == first + 1);
}

/* Processes that the C library knows nothing of. */
static int own, usr;

static int cloned(void *arg)
{
	struct stat st;
	look();
	/* its descriptors and its directory are its own, though memory is not */
	if (dup2(usr, own) != own || fstatat(own, "bin", &st, 0) || chdir("/usr") || stat("bin", &st))
		return 9;
	*(int *)arg = 1;
	return 0;
}

static void look_at_own(void)
{
	struct stat st;
	CHECK(fstatat(own, "seen/file", &st, 0) == 0 && stat("seen/file", &st) == 0);
	CHECK(fstatat(own, "hidden/file", &st, 0) == -1 && errno == ENOENT);
	CHECK(stat("hidden/file", &st) == -1 && errno == ENOENT);
}

static void case_clone(void)
{
	for (int i = 0; i < rounds(20); i++) {
		long pid = pt_raw5(SYS_clone, SIGCHLD, 0, 0, 0, 0);
		if (pid == 0) {
			look();
			_exit(0);
		}
		CHECK(pid > 0);
		reap((pid_t)pid);
	}
	if (slow) {
		left_out("valgrind knows no process that shares memory and is no thread");
		return;
	}
	own = open(dir, O_RDONLY | O_DIRECTORY);
	usr = open("/usr", O_RDONLY | O_DIRECTORY);
	CHECK(own >= 0 && usr >= 0 && chdir(dir) == 0);
	look_at_own();
	for (int i = 0; i < 20; i++) {        /* the same memory, 64 KiB of stack, no thread of the library's */
		int done = 0;
		char *stack = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
#ifdef __GLIBC__
		pid_t pid = (i & 1 ? __clone : clone)(cloned, stack + 65536, CLONE_VM | SIGCHLD, &done);
#else
		pid_t pid = clone(cloned, stack + 65536, CLONE_VM | SIGCHLD, &done);
#endif
		CHECK(pid > 0);
		reap(pid);
		CHECK(done);
		munmap(stack, 65536);
		look_at_own();
	}
	/* memory of its own, but the same descriptors */
	struct stat st;
	CHECK(fstatat(usr, "bin", &st, 0) == 0);
	long pid = syscall(SYS_clone, SIGCHLD | CLONE_FILES, 0, 0, 0, 0);
	if (pid == 0)
		_exit(dup2(own, usr) != usr);
	reap((pid_t)pid);
	CHECK(fstatat(usr, "seen/file", &st, 0) == 0);
	CHECK(fstatat(usr, "hidden/file", &st, 0) == -1 && errno == ENOENT);
	look();
}

static void on_small_stack(int sig)
{
	int kept = errno;
	(void)sig;
	look();
	handled++;
	errno = kept;
}

static void case_signal_stack(void)
{
	static char room[65536];
	size_t frame = getauxval(51 /* AT_MINSIGSTKSZ: it depends on the processor's registers */);
	size_t size = (frame ? frame : 4096) + 8192;
	CHECK(size < sizeof room);
	stack_t stack = { .ss_sp = room + sizeof room - size, .ss_size = size };
	memset(room, 0x5a, sizeof room);
	CHECK(sigaltstack(&stack, NULL) == 0);
	struct sigaction sa = { .sa_handler = on_small_stack, .sa_flags = SA_ONSTACK };
	sigaction(SIGUSR1, &sa, NULL);
	for (int i = 0; i < 10; i++)
		raise(SIGUSR1);
	CHECK(handled == 10);
	for (size_t i = 0; i < sizeof room - size; i++)
		CHECK(room[i] == 0x5a);
}

/* A handler that leaves by a jump while a wrapper holds what it has: more often than there is to hold. */
static void case_jump_out_of_many(void)
{
	struct sigaction sa = { .sa_handler = jump };
	sigaction(SIGALRM, &sa, NULL);
	for (volatile int i = 0; i < rounds(400); i++)
		if (sigsetjmp(back, 1) == 0) {
			ualarm((useconds_t)(slow ? 20000 : 100 + i % 97), 0);
			for (;;) {
				struct stat st;
				char path[4200];
				snprintf(path, sizeof path, "%s/../seen/./file", hidden);
				(void)stat(path, &st);
				(void)access(hidden, F_OK);
			}
		}
	look();
}

static int by_dup(int fd, int number) { return dup(fd) == number; }
static int by_fcntl(int fd, int number) { return fcntl(fd, F_DUPFD, number) == number; }
static int by_fcntl_cloexec(int fd, int number) { return fcntl(fd, F_DUPFD_CLOEXEC, number) == number; }
static int by_dup2(int fd, int number) { return dup2(fd, number) == number; }
static int by_dup3(int fd, int number) { return dup3(fd, number, 0) == number; }
#ifdef __GLIBC__
static int by_fcntl64(int fd, int number) { return fcntl64(fd, F_DUPFD, number) == number; }
static int by_reserved_fcntl(int fd, int number) { return __fcntl(fd, F_DUPFD, number) == number; }
static int by_reserved_dup2(int fd, int number) { return __dup2(fd, number) == number; }
#endif

/* Numbers of descriptors that change hands behind the library's back. */
static void case_numbers(void)
{
	static int (*const given[])(int, int) = {
		by_dup, by_fcntl, by_fcntl_cloexec, by_dup2, by_dup3,
#ifdef __GLIBC__
		by_fcntl64, by_reserved_fcntl, by_reserved_dup2,
#endif
	};
	struct stat st;
	char sub[5000];
	snprintf(sub, sizeof sub, "%.4000s/hidden", dir);
	for (int i = 0; i < 50; i++) {
		int a = open(dir, O_RDONLY | O_DIRECTORY);
		CHECK(a >= 0 && fstatat(a, "seen/file", &st, 0) == 0);
		CHECK(fstatat(a, "hidden/file", &st, 0) == -1 && errno == ENOENT);
		CHECK(pt_raw1(SYS_close, a) == 0);
		int b = open("/usr", O_RDONLY | O_DIRECTORY);
		CHECK(b == a);
		CHECK(fstatat(b, "bin", &st, 0) == 0);
		CHECK(pt_raw3(SYS_dup3, b, b + 1, 0) == b + 1);
		CHECK(fstatat(b + 1, "bin", &st, 0) == 0);
		int d = open(dir, O_RDONLY | O_DIRECTORY);
		CHECK(dup2(d, b + 1) == b + 1);
		CHECK(fstatat(b + 1, "hidden/file", &st, 0) == -1 && errno == ENOENT);
		CHECK(fstatat(b + 1, "seen/file", &st, 0) == 0);
		for (int fd = a; fd <= d; fd++)
			close(fd);
	}
	/* numbers that are closed in each way, and then given by the kernel to something else */
	for (int way = 0; way < 8; way++) {
		DIR *stream = opendir("/usr");
		int number = stream ? dirfd(stream) : -1;
		CHECK(number >= 0 && fstatat(number, "bin", &st, 0) == 0);
		switch (way) {
		case 0: CHECK(closedir(stream) == 0); break;
		case 1: CHECK(close(number) == 0); break;
		case 2: CHECK(syscall(SYS_close, number) == 0); break;
		case 3: CHECK(syscall(SYS_close_range, number, number, 0) == 0); break;
		case 4: CHECK(fclose(fdopen(number, "r")) == 0); break;
#ifdef __GLIBC__
		case 5: CHECK(close_range((unsigned)number, (unsigned)number, 0) == 0); break;
		case 6: CHECK(__close(number) == 0); break;
		default: closefrom(number);
#else
		default: CHECK(close(number) == 0);            /* musl has no other */
#endif
		}
		CHECK(pt_raw4(SYS_openat, AT_FDCWD, dir, O_RDONLY | O_DIRECTORY, 0) == number);
		CHECK(fstatat(number, "hidden/file", &st, 0) == -1 && errno == ENOENT);
		CHECK(pt_raw1(SYS_close, number) == 0);
	}
	/* more of them than are remembered at a time */
	int many[200];
	for (int i = 0; i < 200; i++)
		CHECK((many[i] = open(i % 3 ? dir : "/usr", O_RDONLY | O_DIRECTORY)) >= 0);
	for (int i = 0; i < 400; i++) {
		int fd = many[i % 200];
		if (i % 200 % 3)
			CHECK(fstatat(fd, "hidden/file", &st, 0) == -1 && errno == ENOENT && fstatat(fd, "seen/file", &st, 0) == 0);
		else
			CHECK(fstatat(fd, "bin", &st, 0) == 0);
		if (i >= 200)
			close(fd);
	}
	/* numbers that nobody saw closed, and that are then given to another directory in each way */
	for (size_t way = 0; way < sizeof given / sizeof *given; way++) {
		int number = open("/usr", O_RDONLY | O_DIRECTORY), other = open(dir, O_RDONLY | O_DIRECTORY);
		CHECK(fstatat(number, "bin", &st, 0) == 0 && fstatat(other, "seen/file", &st, 0) == 0);
		CHECK(pt_raw1(SYS_close, number) == 0);
		CHECK(given[way](other, number));
		CHECK(fstatat(number, "hidden/file", &st, 0) == -1 && errno == ENOENT);
		CHECK(fstatat(number, "seen/file", &st, 0) == 0);
		close(other);
		close(number);
	}
}

static const struct {
	const char *name;
	void (*run)(void);
} cases[] = {
#define CASE(n) { #n, case_##n }
	CASE(vfork), CASE(threads), CASE(small_stack), CASE(signals), CASE(longjmp), CASE(cancel), CASE(close_all), CASE(dup),
	CASE(environments), CASE(bad_pointers), CASE(links), CASE(listing), CASE(listing_elsewhere), CASE(removed_cwd), CASE(no_descriptors), CASE(clone),
	CASE(signal_stack), CASE(jump_out_of_many), CASE(numbers),
	CASE(errno_kept), CASE(stack_use), CASE(descriptors_of_calls), CASE(cancel_pending), CASE(vfork_numbers),
	CASE(cancel_children), CASE(end_inside),
};

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	snprintf(dir, sizeof dir, "%s", argv[2]);
	snprintf(seen, sizeof seen, "%.4000s/seen/file", dir);
	snprintf(hidden, sizeof hidden, "%.4000s/hidden/file", dir);
	slow = getenv("GUEST_SLOW") != NULL;
	int all = strcmp(argv[1], "all") == 0, failed = 0;
	for (size_t i = 0; all && i < sizeof cases / sizeof *cases; i++) {
		int status;
		fflush(stdout);
		pid_t pid = fork();
		if (pid == 0) {
			cases[i].run();
			_exit(0);
		}
		CHECK(waitpid(pid, &status, 0) == pid);
		printf(status ? "%s: status %d\n" : "%s: ok\n", cases[i].name, status);
		failed |= status != 0;
	}
	if (all)
		return failed;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		if (strcmp(cases[i].name, argv[1]) == 0) {
			cases[i].run();
			printf("ok\n");
			return 0;
		}
	return 2;
}
