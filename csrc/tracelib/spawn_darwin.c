/* posix_spawn on macOS, where it can also be an exec (POSIX_SPAWN_SETEXEC). */
#include "exec.h"

typedef int spawn_t(pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *, char *const[], char *const[]);

PT_EXPORT int PT_WRAP(posix_spawn)(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
				   const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
	struct pt_exec x;
	pid_t child = 0;
	short flags = 0;
	if (attr && posix_spawnattr_getflags(attr, &flags) != 0)
		flags = 0;
	bool replaces = flags & POSIX_SPAWN_SETEXEC;
	int error = pt_exec_prepare(PT_OP_posix_spawn, &x, AT_FDCWD, path, envp, 0, !replaces);
	if (!error)
		error = PT_REAL(spawn_t, posix_spawn)(&child, x.path, actions, attr, pt_exec_words(&x, x.script, argv), x.envp);
	if (!error && !replaces) {
		if (pid)
			*pid = child;
		if (x.announced)
			pt_exec_event(PT_OP_posix_spawn, child, x.path, strlen(x.path), NULL, 0);
	}
	x.announced = x.announced && replaces;
	pt_exec_failed(PT_OP_posix_spawn, &x, error);
	return error;
}

/* The kernel opens it, past every wrapper. A refused one becomes the empty name, whose ENOENT the spawn then reports. */
PT_EXPORT int PT_WRAP(posix_spawn_file_actions_addopen)(posix_spawn_file_actions_t *actions, int fd, const char *path, int flags,
							mode_t mode)
{
	typedef int real_t(posix_spawn_file_actions_t *, int, const char *, int, mode_t);
	struct pt_at at = { .dirfd = AT_FDCWD, .path = path, .flags = flags & (O_NOFOLLOW | O_SYMLINK) ? 0 : PT_FOLLOW };
	at.access = flags & O_CREAT ? PT_ACC_CREATE : (flags & O_ACCMODE) == O_RDONLY ? PT_ACC_READ : PT_ACC_WRITE;
	if (flags & O_CREAT)
		at.flags |= PT_MAY_CREATE;
	int error = pt_judge(PT_OP_posix_spawn_file_actions_addopen, &at);
	int r = PT_REAL(real_t, posix_spawn_file_actions_addopen)(actions, fd, error ? "" : at.path, flags, mode);
	pt_done(PT_OP_posix_spawn_file_actions_addopen, &at, error);
	return r;
}
