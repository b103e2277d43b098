/*
 * flip CALL OURS THEIRS [threads|cwd|dirs]: a descriptor is of one file and of the other, in turn, while CALL is made by its name in
 * /proc: by that of another process, or of this one with another thread. "cwd", "dirs": another process is in, or has open, the
 * one file's directory and the other's; both have the same name. Tells whether it ever came to THEIRS.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define NUMBER 100
static int ours, theirs, file;
static struct stat was;

static void go_about(void)
{
	for (;;)
		(void)!fchdir(theirs), (void)!fchdir(ours);
}

static void *flip(void *nothing)
{
	for (;;) {
		dup2(theirs, NUMBER);
		dup2(ours, NUMBER);
	}
	return nothing;
}

/* The name of a file; what is left is its directory. */
static char *above(char *file)
{
	char *name = strrchr(file, '/');
	*name = 0;
	return name + 1;
}

static int came_to_theirs(const char *call, const char *path, const char *fresh)
{
	struct stat st = { 0 };
	if (!strcmp(call, "open")) {
		int fd = open(path, O_RDONLY);
		if (fd >= 0 && (fstat(fd, &st) || close(fd)))
			exit(3);
	} else if (!strcmp(call, "link")) {
		if (!linkat(AT_FDCWD, path, AT_FDCWD, fresh, AT_SYMLINK_FOLLOW) && (stat(fresh, &st) || unlink(fresh)))
			exit(3);
	} else if (!chmod(path, 0640)) {
		if (fstat(file, &st))
			exit(3);
		return st.st_mode != was.st_mode;
	}
	return st.st_ino == was.st_ino;
}

int main(int argc, char **argv)
{
	char path[64], fresh[4100];
	pthread_t thread;
	if (argc < 4)
		return 2;
	int mode = strcmp(argv[1], "chmod") ? O_WRONLY : O_RDONLY, count = 0;
	ours = open(argv[2], mode);
	theirs = open(argv[3], mode);
	if (ours < 0 || theirs < 0 || fstat(theirs, &was) || dup2(ours, NUMBER) != NUMBER)
		return 2;
	snprintf(fresh, sizeof fresh, "%s.fresh", argv[2]);
	pid_t child = 0;
	file = theirs;
	if (argc > 4 && strcmp(argv[4], "threads")) {
		char *name = above(argv[2]);
		above(argv[3]);
		ours = open(argv[2], O_RDONLY | O_DIRECTORY);
		theirs = open(argv[3], O_PATH | O_DIRECTORY);
		if (ours < 0 || theirs < 0 || dup2(ours, NUMBER) != NUMBER)
			return 2;
		child = fork();
		if (!child) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (!strcmp(argv[4], "cwd"))
				go_about();
			flip(NULL);
		}
		snprintf(path, sizeof path, strcmp(argv[4], "cwd") ? "/proc/%d/fd/100/%s" : "/proc/%d/cwd/%s", (int)child, name);
	} else if (argc > 4) {
		snprintf(path, sizeof path, "/proc/self/fd/%d", NUMBER);
		if (pthread_create(&thread, NULL, flip, NULL))
			return 2;
	} else {
		child = fork();
		if (!child) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			flip(NULL);
		}
		snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)child, NUMBER);
	}
	/* what is opened to be kept is kept over an exec, where nothing else was said */
	int kept = -1;
	while (kept < 0)
		kept = open(path, O_PATH);
	if (fcntl(kept, F_GETFD))
		return 4;
	for (int tries = 0; tries < 20000 && !count; tries++)
		count = came_to_theirs(argv[1], path, fresh);
	if (child)
		kill(child, SIGKILL);
	printf("%s\n", count ? "theirs" : "ours");
	return 0;
}
