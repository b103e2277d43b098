/* What a newer C library has (2.39): for a machine whose own is older. To be loaded after the injected library. */
#include <errno.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <unistd.h>

int pidfd_spawn(int *pidfd, const char *path, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attr,
		char *const argv[], char *const envp[])
{
	pid_t pid;
	int error = posix_spawn(&pid, path, actions, attr, argv, envp);
	if (!error)
		*pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	return error;
}

int pidfd_spawnp(int *pidfd, const char *path, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attr,
		 char *const argv[], char *const envp[])
{
	return pidfd_spawn(pidfd, path, actions, attr, argv, envp);
}
