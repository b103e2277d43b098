/* posix_spawn on macOS, where it can also be an exec (POSIX_SPAWN_SETEXEC). */
#include "exec.h"

typedef int spawn_t(pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *, char *const[], char *const[]);

/* What posix_spawn_file_actions_t points to: <sys/spawn_internal.h> of the kernel, which both sides of its system call are built with. */
struct action {
	int type, fd;
	union {
		struct {
			int flags;
			mode_t mode;
			char path[PATH_MAX];
		} open;
		int second;
		char dir[PATH_MAX];
	};
};
struct actions {
	int room, count;
	struct action list[];
};
enum { CHDIR = 5, FCHDIR = 6 };

/*
 * Where a relative name begins once these actions are done: `at` gets descriptor and path by which it is found from here,
 * the path in a slab that the caller gives back (NULL: it is the name itself). 0 or errno.
 */
static int stand(const posix_spawn_file_actions_t *given, const char *name, struct pt_at *at, struct pt_slab **slab)
{
	const struct actions *actions = given ? (const struct actions *)*given : NULL;
	size_t len = 0, n;
	*slab = NULL;
	at->dirfd = AT_FDCWD;
	at->path = name;
	if (!actions || !pt_on() || pt_bad_pointer(name) || name[0] == '/' || !name[0])
		return 0;
	for (int i = 0; i < actions->count; i++) {
		const struct action *a = &actions->list[i];
		if (a->type == FCHDIR) {
			at->dirfd = a->fd;
			len = 0;
		} else if (a->type == CHDIR) {
			n = strnlen(a->dir, sizeof a->dir);
			if (!*slab && !(*slab = pt_slab_take(PT_PATH_CAP)))
				return ENOMEM;
			if (a->dir[0] == '/')
				len = 0;
			if (len + n + 2 > (*slab)->cap)
				return ENAMETOOLONG;
			memcpy((*slab)->extra + len, a->dir, n);
			len += n;
			(*slab)->extra[len++] = '/';
		}
	}
	if (!len)
		return 0;
	n = strlen(name);
	if (len + n + 1 > (*slab)->cap)
		return ENAMETOOLONG;
	memcpy((*slab)->extra + len, name, n + 1);
	at->path = (*slab)->extra;
	return 0;
}

PT_EXPORT int PT_WRAP(posix_spawn)(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
				   const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
	struct pt_exec x;
	struct pt_at from;
	struct pt_slab *slab;
	pid_t child = 0;
	short flags = 0;
	if (attr && posix_spawnattr_getflags(attr, &flags) != 0)
		flags = 0;
	bool replaces = flags & POSIX_SPAWN_SETEXEC;
	int error = stand(actions, path, &from, &slab);
	if (error) {
		pt_slab_give(slab);
		return error;
	}
	error = pt_exec_prepare(PT_OP_posix_spawn, &x, from.dirfd, from.path, argv, envp, 0, !replaces);
	if (!error)          /* the child goes there first: it is told the name as the program gave it */
		error = PT_REAL(spawn_t, posix_spawn)(&child, x.file == from.path ? path : x.file, actions, attr, x.argv, x.envp);
	if (!error && !replaces) {
		if (pid)
			*pid = child;
		if (x.announced)
			pt_exec_event(PT_OP_posix_spawn, child, x.path, strlen(x.path), NULL, x.rule, 0);
	}
	x.announced = x.announced && replaces;
	pt_exec_failed(PT_OP_posix_spawn, &x, error);
	pt_slab_give(slab);
	return error;
}

/* The system call below it, whose block of arguments begins with the attributes and these with their flags. */
int PT_WRAP(__posix_spawn)(pid_t *pid, const char *path, const void *args, char *const argv[], char *const envp[]);
PT_EXPORT int PT_WRAP(__posix_spawn)(pid_t *pid, const char *path, const void *args, char *const argv[], char *const envp[])
{
	typedef int real_t(pid_t *, const char *, const void *, char *const[], char *const[]);
	const struct {
		size_t size;
		const short *attributes;
		size_t actions_size;
		const struct actions *actions;
	} *block = args;
	struct pt_exec x;
	struct pt_at from;
	struct pt_slab *slab;
	bool replaces = block && block->attributes && *block->attributes & POSIX_SPAWN_SETEXEC;
	posix_spawn_file_actions_t actions = block ? (posix_spawn_file_actions_t)(uintptr_t)block->actions : NULL;
	int error = stand(&actions, path, &from, &slab), r = -1;
	if (error) {
		pt_slab_give(slab);
		errno = error;
		return -1;
	}
	error = pt_exec_prepare(PT_OP___posix_spawn, &x, from.dirfd, from.path, argv, envp, 0, !replaces);
	if (!error) {
		r = PT_REAL(real_t, __posix_spawn)(pid, x.file == from.path ? path : x.file, args, x.argv, x.envp);
		if (r)
			error = r < 0 ? errno : r;
	}
	if (!error && !replaces && x.announced && pid)
		pt_exec_event(PT_OP___posix_spawn, *pid, x.path, strlen(x.path), NULL, x.rule, 0);
	x.announced = x.announced && replaces;
	pt_exec_failed(PT_OP___posix_spawn, &x, error);
	pt_slab_give(slab);
	if (error)
		errno = error;
	return r;
}

/*
 * The kernel opens it, past every wrapper, from where the actions before have led. A refused one becomes the empty name,
 * whose ENOENT the spawn then reports.
 */
PT_EXPORT int PT_WRAP(posix_spawn_file_actions_addopen)(posix_spawn_file_actions_t *actions, int fd, const char *path, int flags,
							mode_t mode)
{
	typedef int real_t(posix_spawn_file_actions_t *, int, const char *, int, mode_t);
	struct pt_slab *slab;
	struct pt_at at = { 0 };
	int error = stand(actions, path, &at, &slab);
	pt_intend_open(&at, flags);
	if (!error)
		error = pt_judge(PT_OP_posix_spawn_file_actions_addopen, &at);
	bool moved = at.slab && at.path == at.slab->physical;
	int r = PT_REAL(real_t, posix_spawn_file_actions_addopen)(actions, fd, error ? "" : moved ? at.path : path, flags, mode);
	pt_done(PT_OP_posix_spawn_file_actions_addopen, &at, error ? error : r);
	pt_slab_give(slab);
	return r;
}

/* Where the child is to stand. A hidden place becomes the empty name, as above. */
PT_EXPORT int PT_WRAP(posix_spawn_file_actions_addchdir_np)(posix_spawn_file_actions_t *actions, const char *path)
{
	typedef int real_t(posix_spawn_file_actions_t *, const char *);
	struct pt_slab *slab;
	struct pt_at at = { .access = PT_ACC_STAT, .flags = PT_FOLLOW };
	int error = stand(actions, path, &at, &slab);
	if (!error)
		error = pt_judge(PT_OP_posix_spawn_file_actions_addchdir_np, &at);
	bool moved = at.slab && at.path == at.slab->physical;
	int r = PT_REAL(real_t, posix_spawn_file_actions_addchdir_np)(actions, error ? "" : moved ? at.path : path);
	pt_done(PT_OP_posix_spawn_file_actions_addchdir_np, &at, error ? error : r);
	pt_slab_give(slab);
	return r;
}
