/*
 * What one call costs: micro CALL COUNT [PATH] prints nanoseconds a call, of processor time and of wall time. The latter is
 * for what makes other processes work. Used with and without the library.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Processor time of this process and its children: a busy machine stretches wall time. */
static double now(void)
{
	struct timespec ts;
	struct rusage children;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	getrusage(RUSAGE_CHILDREN, &children);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec +
		(double)(children.ru_utime.tv_sec + children.ru_stime.tv_sec) * 1e9 +
		(double)(children.ru_utime.tv_usec + children.ru_stime.tv_usec) * 1e3;
}

static double wall(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	/* Where the arguments lie, and so how a path is aligned, depends on the environment; the figures must not. */
	static _Alignas(64) char path[4096];
	const char *call = argv[1];
	snprintf(path, sizeof path, "%s", argc > 3 ? argv[3] : "/usr/include/stdio.h");
	long count = atol(argv[2]);
	struct stat st;
	volatile int sink = 0;
	double from = 0, wall_from = 0;
	for (long i = -1; i < count; i++) {
		if (i == 0)
			from = now(), wall_from = wall();      /* the first round is the warm-up */
		if (strcmp(call, "stat") == 0) {
			sink += stat(path, &st);
		} else if (strcmp(call, "lstat") == 0) {
			sink += lstat(path, &st);
		} else if (strcmp(call, "access") == 0) {
			sink += access(path, R_OK);
		} else if (strcmp(call, "open") == 0) {
			int fd = open(path, O_RDONLY);
			if (fd >= 0)
				close(fd);
		} else if (strcmp(call, "fopen") == 0) {
			FILE *f = fopen(path, "r");
			if (f)
				fclose(f);
		} else if (strcmp(call, "readdir") == 0) {
			DIR *d = opendir(path);
			while (d && readdir(d))
				sink++;
			if (d)
				closedir(d);
		} else if (strcmp(call, "exec") == 0) {
			pid_t pid = fork();
			if (pid == 0) {
				execl(path, "true", (char *)NULL);
				_exit(127);
			}
			waitpid(pid, NULL, 0);
		} else {
			return 2;
		}
	}
	printf("%.1f %.1f\n", (now() - from) / (double)count, (wall() - wall_from) / (double)count);
	return 0;
}
