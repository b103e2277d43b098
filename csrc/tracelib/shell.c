/* The shell that system and popen start, with the environment as it is: a program may have emptied it. */
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

#include "exec.h"

extern char **environ;

/* Looked at once: where the shell is of the other C library it wants the other library. */
bool pt_shell_is_other(void)
{
	static _Atomic int known;      /* 1: it is not, 2: it is */
	int is = atomic_load_explicit(&known, memory_order_relaxed);
	if (!is) {
		struct pt_program program;
		program.other = false;
		if (pt_other_library())
			pt_inspect("/bin/sh", &program);
		is = program.other ? 2 : 1;
		atomic_store_explicit(&known, is, memory_order_relaxed);
	}
	return is == 2;
}

bool pt_shell_environment(void)
{
	return pt_environment_holds(environ, pt_shell_is_other());
}

static void note_shell(uint16_t op)
{
	if (!pt_on() || !pt.log)
		return;
	struct pt_at at = { .dirfd = AT_FDCWD, .path = "/bin/sh", .access = PT_ACC_EXEC, .flags = PT_FOLLOW };
	pt_done(op, &at, pt_judge(op, &at));
}

/* ---- system, where the library has to be put back ---- */

struct shell {
	const char *command;
	pid_t pid;                     /* 0: not started */
	int status;
	sigset_t before;
};

/*
 * The signals that the caller does without meanwhile are the process's: the first to come ignores them, the last to go
 * gives them back. `waiting` counts; below 0 it is the process in which somebody is at it, so that a fork in the midst
 * of that leaves nothing closed.
 */
static _Atomic pid_t waiting;
static struct sigaction interrupt, quit;

static bool seize(pid_t now)
{
	return atomic_compare_exchange_strong(&waiting, &now, -sys_getpid());
}

static void ignore_signals(void)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	for (;;) {
		pid_t now = atomic_load(&waiting);
		if (now > 0) {
			if (atomic_compare_exchange_strong(&waiting, &now, now + 1))
				return;
		} else if (now == -sys_getpid()) {
			sched_yield();
		} else if (seize(now)) {
			sigaction(SIGINT, &ignore, &interrupt);
			sigaction(SIGQUIT, &ignore, &quit);
			atomic_store(&waiting, 1);
			return;
		}
	}
}

static void give_signals_back(void)
{
	for (;;) {
		pid_t now = atomic_load(&waiting);
		if (now > 1) {
			if (atomic_compare_exchange_strong(&waiting, &now, now - 1))
				return;
		} else if (now == 1 && seize(now)) {
			sigaction(SIGINT, &interrupt, NULL);
			sigaction(SIGQUIT, &quit, NULL);
			atomic_store(&waiting, 0);
			return;
		} else {
			sched_yield();
		}
	}
}

static void run_shell(void *what)
{
	struct shell *shell = what;
	char *argv[] = { (char *)(uintptr_t)"sh", (char *)(uintptr_t)"-c", (char *)(uintptr_t)shell->command, NULL };
	posix_spawnattr_t attr;
	sigset_t defaults;
	sigemptyset(&defaults);
	if (interrupt.sa_handler != SIG_IGN)
		sigaddset(&defaults, SIGINT);
	if (quit.sa_handler != SIG_IGN)
		sigaddset(&defaults, SIGQUIT);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &shell->before);
	posix_spawnattr_setsigdefault(&attr, &defaults);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
	int error = pt_spawn(PT_OP_system, &shell->pid, "/bin/sh", NULL, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	if (error) {
		shell->pid = 0;
		shell->status = 127 << 8;
		return;
	}
	while (waitpid(shell->pid, &shell->status, 0) < 0)
		if (errno != EINTR) {
			shell->status = -1;
			break;
		}
}

#ifdef __GLIBC__
/* The thread was cancelled: as glibc does, its shell ends with it. */
static void end_shell(void *what)
{
	struct shell *shell = what;
	int status;
	if (shell->pid > 0) {
		kill(shell->pid, SIGKILL);
		while (waitpid(shell->pid, &status, 0) < 0 && errno == EINTR)
			;
	}
	give_signals_back();
}
#endif

PT_EXPORT int PT_WRAP(system)(const char *command)
{
	typedef int real_t(const char *);
	if (!command || !pt_on() || (pt_shell_environment() && !pt_loader_led_astray(environ))) {
		if (command)
			note_shell(PT_OP_system);
		return PT_REAL(real_t, system)(command);
	}
	struct shell shell = { .command = command, .status = -1 };
	sigset_t child;
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	ignore_signals();
	sigprocmask(SIG_BLOCK, &child, &shell.before);
#ifdef __GLIBC__
	pt_ending(run_shell, end_shell, &shell);
#else
	run_shell(&shell);             /* musl's own leaves all as it is */
#endif
	int error = errno;
	give_signals_back();
	sigprocmask(SIG_SETMASK, &shell.before, NULL);
	errno = error;
	return shell.status;
}

PT_EXPORT FILE *PT_WRAP(popen)(const char *command, const char *mode)
{
	typedef FILE *real_t(const char *, const char *);
	real_t *real = PT_REAL(real_t, popen);
	note_shell(PT_OP_popen);
	if (pt_on() && pt_loader_led_astray(environ) && !pt_supervise_all()) {
		errno = EACCES;
		return NULL;
	}
	if (!pt_on() || pt_shell_environment())
		return real(command, mode);
	struct pt_slab *s = pt_slab_take(0);
	char **before = environ;
	if (s)
		environ = (char **)(uintptr_t)pt_environment(before, s, pt_shell_is_other());
	FILE *f = real(command, mode);
	environ = before;
	pt_slab_give(s);
	return f;
}
PT_ALIASES_popen
