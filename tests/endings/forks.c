/* Programs that somebody has a hard time to end. Whatever happens, they end by themselves after some seconds. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SECONDS 20

static time_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

static volatile long *beat; /* in a file: counted on while anybody of us lives */

static void *work(void *p)
{
	(void)p;
	for (time_t end = now() + SECONDS; now() < end; ++*beat)
		usleep(1000);
	_exit(0);
}

/* argv: a file of 8 bytes; words that say how (chain, setsid, deaf, thread); how many microseconds a generation lives. */
int main(int argc, char **argv)
{
	int chain = 0, session = 0;
	useconds_t life = 300;
	beat = mmap(NULL, sizeof *beat, PROT_READ | PROT_WRITE, MAP_SHARED, open(argv[1], O_RDWR | O_CLOEXEC), 0);
	for (int fd = 3; fd < 64; fd++) /* as daemons do: whoever waits for the end of a pipe shall not wait for us */
		close(fd);
	for (int i = 2; i < argc; i++) {
		if (!strcmp(argv[i], "chain"))
			chain = 1;
		else if (!strcmp(argv[i], "setsid"))
			session = 1;
		else if (!strcmp(argv[i], "deaf"))
			signal(SIGTERM, SIG_IGN);
		else if (!strcmp(argv[i], "thread")) {
			pthread_t thread;
			pthread_create(&thread, NULL, work, NULL);
			syscall(SYS_exit, 0); /* of this thread alone */
		} else
			life = (useconds_t)atoi(argv[i]);
	}
	for (time_t end = now() + SECONDS; chain && now() < end; ++*beat) {
		if (fork())
			_exit(0);
		if (session)
			setsid();
		usleep(life);
	}
	return 0;
}
