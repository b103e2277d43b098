/* Programs beside this one: posix_spawn, system, popen. */
#include <signal.h>
#include <sys/wait.h>

#include "exec.h"

extern char **environ;
typedef int spawn_t(pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *, char *const[], char *const[]);

/* Between the spawn and the program stands the launcher: the child has no code of ours in which it could ask itself. */
static int supervised(pid_t *child, const struct pt_exec *x, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attr,
		      char *const argv[])
{
	size_t n = 0;
	while (argv[n])
		n++;
	const char *words[n + 8];
	const char *const head[] = { pt_launcher(), "--session", pt_session_dir(), "--supervise", "--exec", x->path, "--" };
	memcpy(words, head, sizeof head);
	for (size_t i = 0; i <= n; i++)
		words[i + 7] = argv[i];
	return PT_REAL(spawn_t, posix_spawn)(child, pt_launcher(), actions, attr, (char *const *)(uintptr_t)words, x->envp);
}

static int spawn(uint16_t op, pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attr,
		 char *const argv[], char *const envp[])
{
	struct pt_exec x;
	pid_t child = 0;
	int error = pt_exec_prepare(op, &x, AT_FDCWD, path, envp, 0, true);
	if (!error && x.supervise)
		error = supervised(&child, &x, actions, attr, argv);
	else if (!error)
		error = PT_REAL(spawn_t, posix_spawn)(&child, x.path, actions, attr, argv, x.envp);
	if (!error) {
		if (pid)
			*pid = child;
		if (x.announced)
			pt_exec_event(op, child, x.path, strlen(x.path), NULL, 0);
	}
	x.announced = false;
	pt_exec_failed(op, &x, error);
	return error;
}

/* One program by its bare name: what the child is started with. */
struct search {
	uint16_t op;
	pid_t *pid;
	int *pidfd;                    /* NULL: by number */
	const posix_spawn_file_actions_t *actions;
	const posix_spawnattr_t *attr;
	char *const *argv, *const *envp;
};
static int along_path(const char *file, struct search how);
static int spawn_pidfd(uint16_t op, int *pidfd, const char *path, const posix_spawn_file_actions_t *actions,
		       const posix_spawnattr_t *attr, char *const argv[], char *const envp[]);

PT_EXPORT int PT_WRAP(posix_spawn)(pid_t *restrict pid, const char *restrict path, const posix_spawn_file_actions_t *restrict actions,
			  const posix_spawnattr_t *restrict attr, char *const argv[restrict], char *const envp[restrict])
{
	return spawn(PT_OP_posix_spawn, pid, path, actions, attr, argv, envp);
}

PT_EXPORT int PT_WRAP(posix_spawnp)(pid_t *restrict pid, const char *restrict file, const posix_spawn_file_actions_t *restrict actions,
			   const posix_spawnattr_t *restrict attr, char *const argv[restrict], char *const envp[restrict])
{
	if (strchr(file, '/') || !pt_on())
		return spawn(PT_OP_posix_spawnp, pid, file, actions, attr, argv, envp);
	return along_path(file, (struct search){ PT_OP_posix_spawnp, pid, NULL, actions, attr, argv, envp });
}

static int along_path(const char *file, struct search how)
{
	if (!*file)
		return ENOENT;
	const char *path = getenv("PATH");
	if (!path)
		path = "/bin:/usr/bin";
	struct pt_slab *s = pt_slab_take(pt_exec_room(path, file));
	if (!s)
		return ENOMEM;
	int error = ENOENT;
	bool denied = false;
	while (pt_exec_candidate(&path, file, s->extra, s->cap)) {
		error = how.pidfd ? spawn_pidfd(how.op, how.pidfd, s->extra, how.actions, how.attr, how.argv, how.envp)
			: spawn(how.op, how.pid, s->extra, how.actions, how.attr, how.argv, how.envp);
		if (error == EACCES)
			denied = true;
		else if (error != ENOENT && error != ESTALE && error != ENOTDIR && error != ENODEV && error != ETIMEDOUT)
			break;
	}
	pt_slab_give(s);
	return error && denied ? EACCES : error;
}

/* With a descriptor of the child in place of its number. */
typedef int pidfd_spawn_t(int *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *, char *const[], char *const[]);

static int spawn_pidfd(uint16_t op, int *pidfd, const char *path, const posix_spawn_file_actions_t *actions,
		       const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
	pidfd_spawn_t *real = PT_REAL(pidfd_spawn_t, pidfd_spawn);
	struct pt_exec x;
	if (!real)
		return ENOSYS;
	int error = pt_exec_prepare(op, &x, AT_FDCWD, path, envp, 0, true);
	if (!error && x.supervise) {
		pid_t child;
		error = supervised(&child, &x, actions, attr, argv);
		int fd = error ? 0 : (int)PT_SYS2(SYS_pidfd_open, child, 0);
		if (fd < 0)
			error = -fd;
		else if (!error)
			*pidfd = fd;
	} else if (!error) {
		error = real(pidfd, x.path, actions, attr, argv, x.envp);
	}
	x.announced = false;           /* by number it announces itself */
	pt_exec_failed(op, &x, error);
	return error;
}

int pidfd_spawn(int *restrict pidfd, const char *restrict path, const posix_spawn_file_actions_t *restrict actions,
		const posix_spawnattr_t *restrict attr, char *const argv[restrict], char *const envp[restrict]);
PT_EXPORT int pidfd_spawn(int *restrict pidfd, const char *restrict path, const posix_spawn_file_actions_t *restrict actions,
			  const posix_spawnattr_t *restrict attr, char *const argv[restrict], char *const envp[restrict])
{
	return spawn_pidfd(PT_OP_pidfd_spawn, pidfd, path, actions, attr, argv, envp);
}

int pidfd_spawnp(int *restrict pidfd, const char *restrict file, const posix_spawn_file_actions_t *restrict actions,
		 const posix_spawnattr_t *restrict attr, char *const argv[restrict], char *const envp[restrict]);
PT_EXPORT int pidfd_spawnp(int *restrict pidfd, const char *restrict file, const posix_spawn_file_actions_t *restrict actions,
			   const posix_spawnattr_t *restrict attr, char *const argv[restrict], char *const envp[restrict])
{
	if (strchr(file, '/') || !pt_on())
		return spawn_pidfd(PT_OP_pidfd_spawnp, pidfd, file, actions, attr, argv, envp);
	return along_path(file, (struct search){ PT_OP_pidfd_spawnp, NULL, pidfd, actions, attr, argv, envp });
}

/*
 * The file that the child is to open. It is judged now, against this process's working directory; a refused one
 * becomes the empty name, whose ENOENT the spawn then reports.
 */
PT_EXPORT int PT_WRAP(posix_spawn_file_actions_addopen)(posix_spawn_file_actions_t *restrict actions, int fd, const char *restrict path,
					       int flags, mode_t mode)
{
	typedef int real_t(posix_spawn_file_actions_t *, int, const char *, int, mode_t);
	struct pt_at at = { .dirfd = AT_FDCWD, .path = path, .flags = flags & O_NOFOLLOW ? 0 : PT_FOLLOW };
	at.access = flags & O_CREAT ? PT_ACC_CREATE : (flags & O_ACCMODE) == O_RDONLY ? PT_ACC_READ : PT_ACC_WRITE;
	if (flags & O_CREAT)
		at.flags |= PT_MAY_CREATE;
	int error = pt_judge(PT_OP_posix_spawn_file_actions_addopen, &at);
	int r = PT_REAL(real_t, posix_spawn_file_actions_addopen)(actions, fd, error ? "" : at.path, flags, mode);
	pt_done(PT_OP_posix_spawn_file_actions_addopen, &at, error);
	return r;
}

/* Where the child is to stand. A hidden place becomes the empty name, as above. */
PT_EXPORT int PT_WRAP(posix_spawn_file_actions_addchdir_np)(posix_spawn_file_actions_t *restrict actions, const char *restrict path)
{
	typedef int real_t(posix_spawn_file_actions_t *, const char *);
	struct pt_at at = { .dirfd = AT_FDCWD, .path = path, .access = PT_ACC_STAT, .flags = PT_FOLLOW };
	int error = pt_judge(PT_OP_posix_spawn_file_actions_addchdir_np, &at);
	int r = PT_REAL(real_t, posix_spawn_file_actions_addchdir_np)(actions, error ? "" : at.path);
	pt_done(PT_OP_posix_spawn_file_actions_addchdir_np, &at, error);
	return r;
}
PT_ALIASES_posix_spawn_file_actions_addchdir_np

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

/* system and popen start /bin/sh with the environment as it is; a program may have emptied it. */
static void note_shell(uint16_t op)
{
	if (!pt_on() || !pt.log)
		return;
	struct pt_at at = { .dirfd = AT_FDCWD, .path = "/bin/sh", .access = PT_ACC_EXEC, .flags = PT_FOLLOW };
	pt_done(op, &at, pt_judge(op, &at));
}

PT_EXPORT int PT_WRAP(system)(const char *command)
{
	typedef int real_t(const char *);
	if (!command || !pt_on() || (pt_shell_environment() && !pt_loader_led_astray(environ))) {
		if (command)
			note_shell(PT_OP_system);
		return PT_REAL(real_t, system)(command);
	}
	struct sigaction ignore = { .sa_handler = SIG_IGN }, interrupt, quit;
	sigset_t child, before, defaults;
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigemptyset(&defaults);
	sigaction(SIGINT, &ignore, &interrupt);
	sigaction(SIGQUIT, &ignore, &quit);
	sigprocmask(SIG_BLOCK, &child, &before);
	if (interrupt.sa_handler != SIG_IGN)
		sigaddset(&defaults, SIGINT);
	if (quit.sa_handler != SIG_IGN)
		sigaddset(&defaults, SIGQUIT);
	posix_spawnattr_t attr;
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &before);
	posix_spawnattr_setsigdefault(&attr, &defaults);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
	char *argv[] = { (char *)(uintptr_t)"sh", (char *)(uintptr_t)"-c", (char *)(uintptr_t)command, NULL };
	pid_t pid;
	int status = -1, error = spawn(PT_OP_system, &pid, "/bin/sh", NULL, &attr, argv, environ);
	if (error)
		status = 127 << 8;
	else
		while (waitpid(pid, &status, 0) < 0)
			if (errno != EINTR) {
				status = -1;
				break;
			}
	posix_spawnattr_destroy(&attr);
	sigaction(SIGINT, &interrupt, NULL);
	sigaction(SIGQUIT, &quit, NULL);
	sigprocmask(SIG_SETMASK, &before, NULL);
	return status;
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
