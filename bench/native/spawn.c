/* fork + exec + wait of one program, N times: what a process costs. usage: spawn N PROGRAM [ARG ...] */
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	if (argc < 3)
		return fprintf(stderr, "usage: spawn N PROGRAM [ARG ...]\n"), 2;
	for (long n = atol(argv[1]); n > 0; n--) {
		pid_t child = fork();
		int status;

		if (child == 0) {
			execv(argv[2], argv + 2);
			_exit(127);
		}
		if (child < 0 || waitpid(child, &status, 0) < 0 || status != 0)
			return 1;
	}
	return 0;
}
