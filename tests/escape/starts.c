/*
 * A program that is another one when the kernel starts it. What lies hidden needs no file at all to tell its secret: it is
 * to be held before its first instruction. The path changes by a directory on it or by the memory that holds it; or the
 * kernel opens what nobody named: a script's interpreter, a program's loader.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include "attempt.h"

#define U (void)target
#define STARTS 120

static char *const words[] = { "x", NULL };
static char text[1024], good[1024], evil[1024];
static char *name = text; /* where the name of the program stands */

static long start(void) { return sys(SYS_execve, name, words, NULL); }
static long start_at(void) { return sys(SYS_execveat, AT_FDCWD, name, words, NULL, 0); }

static void *swap(void *unused)
{
	for (;;) {
		memcpy(name, evil, sizeof evil);
		__asm__ volatile("" ::: "memory"); /* somebody looks at it */
		memcpy(name, good, sizeof good);
		__asm__ volatile("" ::: "memory");
	}
	return unused;
}

/* In children: one for which another program was started than was judged is ended. */
static void in_children(void *(*with)(void *), long (*call)(void))
{
	pthread_t t;
	for (int i = 0; i < STARTS; i++) {
		pid_t pid = fork();
		if (!pid) {
			if (with)
				pthread_create(&t, NULL, with, NULL);
			call();
			_exit(1);
		}
		waitpid(pid, NULL, 0);
	}
}

/* Another process exchanges two names while the program is started by one of them. */
static int exchange(const char *one, const char *other, const char *tail, long (*call)(void))
{
	pid_t swapper = fork();
	if (!swapper) {
		for (int i = 0; i < 200000; i++)
			syscall(SYS_renameat2, AT_FDCWD, one, AT_FDCWD, other, 2 /* EXCHANGE */);
		_exit(0);
	}
	snprintf(text, sizeof text, "%s%s", one, tail);
	in_children(NULL, call);
	kill(swapper, SIGKILL);
	waitpid(swapper, NULL, 0);
	return ENOENT;
}

/* A directory that the build has made, and a link to the hidden one. */
static int exchange_directory(const char *program, long (*call)(void))
{
	char tail[64], one[512], at[600];
	snprintf(tail, sizeof tail, "/%s", program);
	snprintf(one, sizeof one, "%s", in("work/one"));
	mkdir(one, 0755);
	snprintf(at, sizeof at, "%s%s", one, tail);
	if (symlink("/bin/true", at) || symlink(in("hidden"), in("work/two")))
		return errno;
	return exchange(one, in("work/two"), tail, call);
}
static int r_directory(const char *target) { U; return exchange_directory("says", start); }
static int r_directory_at(const char *target) { U; return exchange_directory("says", start_at); }
static int r_directory_musl(const char *target) { U; return exchange_directory("says-musl", start); }

/* The interpreter of a script, exchanged with the script or with the place of the interpreter. */
static int r_script(const char *target)
{
	char line[600];
	U;
	snprintf(line, sizeof line, "#!%s\n", in("hidden/says"));
	put_program(in("work/one"), "#!/bin/true\n", 12);
	put_program(in("work/two"), line, strlen(line));
	return exchange(in("work/one"), in("work/two"), "", start);
}
static int r_interpreter(const char *target)
{
	char line[600];
	U;
	if (symlink("/bin/true", in("work/one")) || symlink(in("hidden/says"), in("work/two")))
		return errno;
	snprintf(line, sizeof line, "#!%s\n", in("work/one"));
	put_program(in("work/script"), line, strlen(line));
	pid_t swapper = fork();
	while (!swapper)
		syscall(SYS_renameat2, AT_FDCWD, in("work/one"), AT_FDCWD, in("work/two"), 2 /* EXCHANGE */);
	snprintf(text, sizeof text, "%s", in("work/script"));
	in_children(NULL, start);
	kill(swapper, SIGKILL);
	waitpid(swapper, NULL, 0);
	return ENOENT;
}

/* The name itself, in memory of the program's own, of two programs, or of several. */
static void names(void)
{
	snprintf(good, sizeof good, "/bin/true");
	snprintf(evil, sizeof evil, "%s", in("hidden/says"));
	memcpy(name, good, sizeof good);
}
static int r_name(const char *target)
{
	U;
	names();
	in_children(swap, start);
	return ENOENT;
}
static int of_two(int flags)
{
	static char stack[65536] __attribute__((aligned(16)));
	names();
	for (int i = 0; i < 20; i++) {
		pid_t swapper = clone((int (*)(void *))(void *)swap, stack + sizeof stack, flags | SIGCHLD, NULL);
		if (swapper < 0)
			return errno;
		for (int j = 0; j < STARTS / 20; j++) {
			/* a vfork's parent waits, and shares its memory */
			pid_t pid = flags & CLONE_VM ? vfork() : fork();
			if (!pid) {
				start();
				_exit(1);
			}
			waitpid(pid, NULL, 0);
		}
		kill(swapper, SIGKILL);
		waitpid(swapper, NULL, 0);
	}
	return ENOENT;
}
static int r_name_shared(const char *target)
{
	U;
	name = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return of_two(0);
}
static int r_name_file(const char *target) /* read anew as long as nothing was written to it here */
{
	static char both[4096];
	int f = open(in("work/name"), O_CREAT | O_TRUNC | O_RDWR, 0644);
	U;
	names();
	memcpy(both, good, sizeof good);
	(void)!write(f, both, sizeof both);
	name = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, f, 0);
	pid_t swapper = fork();
	while (!swapper) {
		(void)!pwrite(f, evil, 512, 0);
		(void)!pwrite(f, good, 512, 0);
	}
	in_children(NULL, start);
	kill(swapper, SIGKILL);
	waitpid(swapper, NULL, 0);
	return ENOENT;
}
static int r_name_vm(const char *target) { U; return of_two(CLONE_VM); }

/* Many threads of one process: each executes, or tries to, or changes the name. It has to end, and soon. */
static void *fails(void *which)
{
	char nowhere[600];
	snprintf(nowhere, sizeof nowhere, "%s", in(which ? "work/none" : "hidden/says"));
	for (;;)
		sys(SYS_execve, nowhere, words, NULL);
	return which;
}
static void *starts(void *which)
{
	usleep((useconds_t)(uintptr_t)which);
	for (;;)
		start();
	return which;
}
static long crowd(void)
{
	pthread_t t;
	static unsigned round;
	for (uintptr_t i = 0; i < 6; i++)
		while (pthread_create(&t, NULL, i & 1 ? starts : fails, (void *)(i & 2 ? i : 0)))
			; /* EAGAIN, as long as another one is about to execute */
	if (round++ & 1)
		pthread_exit(NULL);
	for (;;)
		start();
}
static int r_threads(const char *target)
{
	U;
	names();
	in_children(swap, crowd);
	return ENOENT;
}

/* What the kernel opens, and nobody has named: without any exchange. */
static long start_open(void)
{
	int f = memfd_create("x", 0);
	char line[600];
	snprintf(line, sizeof line, "#!%s\n", in("hidden/says"));
	(void)!write(f, line, strlen(line));
	return sys(SYS_execveat, f, "", words, NULL, AT_EMPTY_PATH);
}
/* `traced`: by a program of the build, so that nobody else can stop it. */
static int besides(long (*call)(void), int traced)
{
	pid_t pid = fork();
	if (!pid) {
		if (traced)
			ptrace(PTRACE_TRACEME, 0, 0, 0);
		call();
		_exit(1);
	}
	for (int status = 0; waitpid(pid, &status, 0) == pid && WIFSTOPPED(status);)
		ptrace(PTRACE_CONT, pid, 0, 0);
	return ENOENT;
}
static int r_script_open(const char *target) { U; return besides(start_open, 0); }
static int r_script_open_traced(const char *target) { U; return besides(start_open, 1); }
static long start_far(void)
{
	put_with_loader(in("work/program"), in("hidden/says"), 9000);
	snprintf(text, sizeof text, "%s", in("work/program"));
	return start();
}
static int r_loader_far(const char *target) { U; return besides(start_far, 0); }
static int r_loader_far_traced(const char *target) { U; return besides(start_far, 1); }
static int r_loader(const char *target)
{
	U;
	put_with_loader(in("work/one"), "/lib64/ld-linux-x86-64.so.2", 200);
	put_with_loader(in("work/two"), in("hidden/says"), 200);
	return exchange(in("work/one"), in("work/two"), "", start);
}

const struct attempt start_read_attempts[] = {
	{ "sys-race-start-directory", r_directory }, { "sys-race-start-directory-at", r_directory_at },
	{ "sys-race-start-directory-musl", r_directory_musl }, { "sys-race-start-script", r_script },
	{ "sys-race-start-interpreter", r_interpreter }, { "sys-race-start-loader", r_loader }, { "sys-race-start-name", r_name },
	{ "sys-race-start-name-shared", r_name_shared }, { "sys-race-start-name-file", r_name_file },
	{ "sys-race-start-name-vm", r_name_vm }, { "sys-race-start-threads", r_threads }, { "sys-start-script-open", r_script_open },
	{ "sys-start-loader-far", r_loader_far }, { "sys-start-script-open-traced", r_script_open_traced },
	{ "sys-start-loader-far-traced", r_loader_far_traced }, { NULL, NULL },
};
