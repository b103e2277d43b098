/* Programs beside this one. */
#include "exec.h"

extern char **environ;
typedef int spawn_t(pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *, char *const[], char *const[]);

/* Between the spawn and the program stands the launcher: the child has no code of ours in which it could ask itself. */
static int supervised(pid_t *child, const struct pt_exec *x, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attr,
		      char *const argv[])
{
	size_t n = pt_exec_count(argv);
	const char *words[n + 8];
	const char *const head[] = { pt_launcher(), "--session", pt_session_dir(), "--supervise", "--exec", x->path, "--" };
	memcpy(words, head, sizeof head);
	for (size_t i = 0; i <= n; i++)
		words[i + 7] = argv[i];
	return PT_REAL(spawn_t, posix_spawn)(child, pt_launcher(), actions, attr, (char *const *)(uintptr_t)words, x->envp);
}

/* Some child of this process goes elsewhere before it is a program: there a relative name is another file than here. */
static _Atomic bool moving;

static int prepare(uint16_t op, struct pt_exec *x, const char *path, const posix_spawn_file_actions_t *actions, char *const argv[],
		   char *const envp[])
{
	bool elsewhere = actions && atomic_load_explicit(&moving, memory_order_relaxed) && !pt_bad_pointer(path) && path[0] != '/';
	if (!elsewhere || !pt_on() || !pt_has_supervisor())
		return pt_exec_prepare(op, x, AT_FDCWD, path, argv, envp, 0, true);
	/* not to be looked at from here: the supervisor does it, there */
	*x = (struct pt_exec){ .path = path, .file = path, .dirfd = AT_FDCWD, .argv = argv, .envp = envp, .supervise = true };
	return 0;
}

int pt_spawn(uint16_t op, pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attr,
	     char *const argv[], char *const envp[])
{
	struct pt_exec x;
	pid_t child = 0;
	int error = prepare(op, &x, path, actions, argv, envp);
	pt_exec_ready(&x);
	if (!error && x.supervise)
		error = supervised(&child, &x, actions, attr, argv);
	else if (!error)
		error = PT_REAL(spawn_t, posix_spawn)(&child, x.file, actions, attr, x.argv, x.envp);
	if (!error) {
		if (pid)
			*pid = child;
		if (x.announced)
			pt_exec_event(op, child, x.path, strlen(x.path), NULL, x.rule, 0);
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
	return pt_spawn(PT_OP_posix_spawn, pid, path, actions, attr, argv, envp);
}

PT_EXPORT int PT_WRAP(posix_spawnp)(pid_t *restrict pid, const char *restrict file, const posix_spawn_file_actions_t *restrict actions,
			   const posix_spawnattr_t *restrict attr, char *const argv[restrict], char *const envp[restrict])
{
	if (strchr(file, '/') || !pt_on())
		return pt_spawn(PT_OP_posix_spawnp, pid, file, actions, attr, argv, envp);
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
			: pt_spawn(how.op, how.pid, s->extra, how.actions, how.attr, how.argv, how.envp);
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
	int error = prepare(op, &x, path, actions, argv, envp);
	pt_exec_ready(&x);
	if (!error && x.supervise) {
		pid_t child;
		error = supervised(&child, &x, actions, attr, argv);
		int fd = error ? 0 : (int)PT_SYS2(SYS_pidfd_open, child, 0);
		if (fd < 0)
			error = -fd;
		else if (!error)
			*pidfd = fd;
	} else if (!error) {
		error = real(pidfd, x.file, actions, attr, x.argv, x.envp);
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
 * becomes the empty name, whose ENOENT the spawn then reports. The child opens it much later, inside the C library and
 * with no code of ours: where its path can mean something else by then, this process goes to the supervisor, and so do
 * its children, whose open is judged as it happens. What is opened so is /dev/null, mostly, or a file in a
 * directory that nobody can exchange; of those only the last name might become a link, which open(2) can be told not to follow.
 */
PT_EXPORT int PT_WRAP(posix_spawn_file_actions_addopen)(posix_spawn_file_actions_t *restrict actions, int fd, const char *restrict path,
					       int flags, mode_t mode)
{
	typedef int real_t(posix_spawn_file_actions_t *, int, const char *, int, mode_t);
	struct pt_at at = { .dirfd = AT_FDCWD, .path = path };
	pt_intend_open(&at, flags);
	int error = pt_judge(PT_OP_posix_spawn_file_actions_addopen, &at);
#ifndef __APPLE__
	if (!error && !pt_lasting(&at, &flags) && !pt_supervise_all())
		error = ENOENT;
#endif
	int r = PT_REAL(real_t, posix_spawn_file_actions_addopen)(actions, fd, error ? "" : at.path, flags, mode);
	pt_done(PT_OP_posix_spawn_file_actions_addopen, &at, error);
	return r;
}

/* Where the child is to stand. A hidden place becomes the empty name, as above. */
PT_EXPORT int PT_WRAP(posix_spawn_file_actions_addchdir_np)(posix_spawn_file_actions_t *restrict actions, const char *restrict path)
{
	typedef int real_t(posix_spawn_file_actions_t *, const char *);
	struct pt_at at = { .dirfd = AT_FDCWD, .path = path, .access = PT_ACC_STAT, .flags = PT_FOLLOW };
	atomic_store_explicit(&moving, true, memory_order_relaxed);
	int error = pt_judge(PT_OP_posix_spawn_file_actions_addchdir_np, &at);
	int r = PT_REAL(real_t, posix_spawn_file_actions_addchdir_np)(actions, error ? "" : at.path);
	pt_done(PT_OP_posix_spawn_file_actions_addchdir_np, &at, error);
	return r;
}
PT_ALIASES_posix_spawn_file_actions_addchdir_np

PT_EXPORT int PT_WRAP(posix_spawn_file_actions_addfchdir_np)(posix_spawn_file_actions_t *actions, int fd)
{
	typedef int real_t(posix_spawn_file_actions_t *, int);
	atomic_store_explicit(&moving, true, memory_order_relaxed);
	return PT_REAL(real_t, posix_spawn_file_actions_addfchdir_np)(actions, fd);
}
PT_ALIASES_posix_spawn_file_actions_addfchdir_np
