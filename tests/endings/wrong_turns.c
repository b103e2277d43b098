/*
 * What programs of other sandboxes stumbled over. argv: what to do, then a path. Prints one word for each attempt: the
 * errno, 0 where it went well; "alive" at its end says that nothing has ended it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

static const char *path;

static int reads(void)
{
	int fd = open(path, O_RDONLY);
	if (fd < 0)
		return errno;
	close(fd);
	return 0;
}

static void *thread(void *p)
{
	printf("%d ", reads());
	return p;
}

static void in_child(void)
{
	int status;
	fflush(stdout);
	pid_t pid = fork();
	if (!pid)
		_exit(reads());
	waitpid(pid, &status, 0);
	printf("%d ", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

static void *thread_and_child(void *p)
{
	in_child();
	return p;
}

static void run(void *(*what)(void *))
{
	pthread_t t;
	if (pthread_create(&t, NULL, what, NULL) == 0)
		pthread_join(t, NULL);
}

#define TRY(call) printf("%d ", (call) < 0 ? errno : 0)

int main(int argc, char **argv)
{
	path = argv[argc - 1];
	if (!strcmp(argv[1], "children")) { /* a thread, a child, a thread of a child's parent, a child of a thread */
		run(thread);
		in_child();
		run(thread);
		run(thread_and_child);
	} else { /* metadata by descriptor: of a file that may be read and not changed */
		int fd = open(path, O_RDONLY);
		struct timespec times[2] = { { .tv_sec = 1 }, { .tv_sec = 1 } };
		TRY(fchmod(fd, 0777));
		TRY(fchown(fd, getuid(), getgid()));
		TRY(futimens(fd, times));
		TRY(fsetxattr(fd, "user.x", "y", 1, 0));
		TRY(fremovexattr(fd, "user.x"));
		TRY(fchmodat(AT_FDCWD, path, 0777, 0));
	}
	puts("alive");
	return 0;
}
