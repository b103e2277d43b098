/*
 * fork + exec + wait of one program: what a process costs. usage: spawn PROGRAM [ARG ...]
 *
 * It does so as often as the number says that it reads from its input, tells the nanoseconds that all of them took, and
 * waits for the next number. So a few can be timed under one tool, then under another, while each stays as it is.
 */
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

int main(int argc, char **argv)
{
	long n;

	if (argc < 2)
		return fprintf(stderr, "usage: spawn PROGRAM [ARG ...]\n"), 2;
	while (scanf("%ld", &n) == 1) {
		long long from = now();

		for (; n > 0; n--) {
			pid_t child = fork();
			int status;

			if (child == 0) {
				execv(argv[1], argv + 1);
				_exit(127);
			}
			if (child < 0 || waitpid(child, &status, 0) < 0 || status != 0)
				return 1;
		}
		printf("%lld\n", now() - from);
		fflush(stdout);
	}
	return 0;
}
