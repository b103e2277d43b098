/* Messages of every kind; what comes of them is printed, and is the same with and without a supervisor. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define SAY(call) say(#call, (long)(call))

static volatile int pipes, ticks;
static void on_pipe(int n) { (void)n; pipes++; }
static void on_tick(int n) { (void)n; ticks++; }

static void say(const char *what, long r)
{
	printf("%s: %ld %s\n", what, r, r < 0 ? strerror(errno) : "");
}

static socklen_t name(struct sockaddr_un *a, const char *text)
{
	*a = (struct sockaddr_un){ .sun_family = AF_UNIX };
	size_t n = strlen(text + 1) + 1; /* the first byte may be a NUL */
	memcpy(a->sun_path, text, n);
	return (socklen_t)(sizeof(sa_family_t) + n);
}

static int bound(const char *text, int type)
{
	struct sockaddr_un a;
	socklen_t n = name(&a, text);
	int s = socket(AF_UNIX, type, 0);
	if (bind(s, (struct sockaddr *)&a, n))
		say("bind", -1);
	return s;
}

/* What came, from whom, with what beside it. */
static void hear(int s, int flags)
{
	char buf[64] = "";
	union { struct cmsghdr align; char bytes[256]; } control = { 0 };
	struct sockaddr_un from = { 0 };
	struct iovec part = { buf, sizeof buf - 1 };
	struct msghdr m = { .msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &part, .msg_iovlen = 1,
			    .msg_control = control.bytes, .msg_controllen = sizeof control.bytes };
	long n = recvmsg(s, &m, flags);
	printf("heard %ld \"%s\" from \"%s\"", n, buf, m.msg_namelen > 2 && from.sun_family == AF_UNIX ? from.sun_path : "");
	for (struct cmsghdr *c = n < 0 ? NULL : CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		struct ucred who;
		int fd;
		if (c->cmsg_type == SCM_CREDENTIALS) {
			memcpy(&who, CMSG_DATA(c), sizeof who);
			printf(" uid %d gid %d", who.uid == getuid(), who.gid == getgid());
		} else if (c->cmsg_type == SCM_RIGHTS) {
			char text[32] = "";
			memcpy(&fd, CMSG_DATA(c), sizeof fd);
			printf(" file %ld %s", (long)pread(fd, text, sizeof text - 1, 0), text);
			close(fd);
		}
	}
	printf("\n");
}

static long with_control(int s, int type, const void *data, size_t size)
{
	union { struct cmsghdr align; char bytes[64]; } control = { 0 };
	struct iovec parts[3] = { { "two ", 4 }, { "parts", 5 }, { NULL, 0 } };
	struct msghdr m = { .msg_iov = parts, .msg_iovlen = 3, .msg_control = control.bytes, .msg_controllen = CMSG_SPACE(size) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = type;
	c->cmsg_len = CMSG_LEN(size);
	memcpy(CMSG_DATA(c), data, size);
	return sendmsg(s, &m, 0);
}

static void datagrams(void)
{
	struct sockaddr_un to;
	socklen_t n = name(&to, "hears");
	int on = 1, hears = bound("hears", SOCK_DGRAM), sends = bound("sends", SOCK_DGRAM), abstract = bound("\0pt-messages", SOCK_DGRAM);
	struct ucred who = { getpid(), getuid(), getgid() }, other = { getpid(), getuid() + 1, getgid() };
	setsockopt(hears, SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
	SAY(sendto(sends, "plain", 5, 0, (struct sockaddr *)&to, n));
	hear(hears, 0);
	SAY(sendto(sends, "", 0, 0, (struct sockaddr *)&to, n));
	hear(hears, 0);
	SAY(sendto(sends, NULL, 5, 0, (struct sockaddr *)&to, n));
	SAY(sendto(sends, "x", 1 << 28, 0, (struct sockaddr *)&to, n) < 0);
	SAY(connect(sends, (struct sockaddr *)&to, n));
	int file = open("text", O_RDONLY);
	SAY(with_control(sends, SCM_RIGHTS, &file, sizeof file));
	hear(hears, 0);
	int none = 999;
	SAY(with_control(sends, SCM_RIGHTS, &none, sizeof none));
	SAY(with_control(sends, SCM_CREDENTIALS, &who, sizeof who));
	hear(hears, 0);
	if (getuid()) /* root may */
		SAY(with_control(sends, SCM_CREDENTIALS, &other, sizeof other));
	struct iovec part[2] = { { "first", 5 }, { "second!", 7 } };
	struct mmsghdr many[3] = { { .msg_hdr = { .msg_iov = part, .msg_iovlen = 1 } }, { .msg_hdr = { .msg_iov = part + 1, .msg_iovlen = 1 } },
				   { .msg_hdr = { .msg_name = &to, .msg_namelen = 1, .msg_iov = part, .msg_iovlen = 1 } } };
	SAY(sendmmsg(sends, many, 3, 0));
	printf("lengths %u %u\n", many[0].msg_len, many[1].msg_len);
	hear(hears, 0);
	hear(hears, 0);
	fcntl(sends, F_SETFL, O_NONBLOCK);
	struct msghdr m = { .msg_iov = part, .msg_iovlen = 1 };
	int sent = 0;
	while (sendmsg(sends, &m, 0) == 5)
		sent++;
	printf("queue %d\n", sent > 0);
	SAY(sendmsg(sends, &m, 0));
	n = name(&to, "\0pt-messages");
	SAY(sendto(bound("third", SOCK_DGRAM), "abstract", 8, 0, (struct sockaddr *)&to, n));
	hear(abstract, 0);
	name(&to, "nobody");
	SAY(sendto(bound("fourth", SOCK_DGRAM), "x", 1, 0, (struct sockaddr *)&to, sizeof to));
	SAY(sendto(0, "x", 1, 0, (struct sockaddr *)&to, sizeof to));
	SAY(sendto(999, "x", 1, 0, (struct sockaddr *)&to, sizeof to));
}

#define LONG (3 << 20)
static int pair[2];
static unsigned long sum, length;
static void *reads(void *unused)
{
	static unsigned char buf[5000];
	ssize_t n;
	sigset_t all;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	while ((n = read(pair[1], buf, sizeof buf)) > 0)
		for (ssize_t i = 0; i < n; i++)
			sum = sum * 31 + buf[i] + length++;
	return unused;
}

/* Nothing is lost and nothing comes twice, whatever signals come meanwhile. */
static void stream(int flags)
{
	static unsigned char text[LONG];
	struct iovec parts[2] = { { text, 1234567 }, { text + 1234567, LONG - 1234567 } };
	struct msghdr m = { .msg_iov = parts, .msg_iovlen = 2 };
	struct sigaction tick = { .sa_handler = on_tick, .sa_flags = flags };
	struct itimerval t = { { 0, 1000 }, { 0, 1000 } }, none = { 0 };
	pthread_t reader;
	unsigned long want = 0, tries = 0;
	for (size_t i = 0; i < LONG; i++) {
		text[i] = (unsigned char)(i * 2654435761u >> 13);
		want = want * 31 + text[i] + i;
	}
	sum = length = 0;
	socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
	pthread_create(&reader, NULL, reads, NULL);
	sigaction(SIGALRM, &tick, NULL);
	setitimer(ITIMER_REAL, &t, NULL);
	for (size_t done = 0; done < LONG && tries < 100000; tries++) {
		long n = sendmsg(pair[0], &m, 0);
		done += n > 0 ? (size_t)n : 0;
		size_t first = done < 1234567 ? 1234567 - done : 0;
		parts[0] = (struct iovec){ text + 1234567 - first, first };
		parts[1] = (struct iovec){ text + (first ? 1234567 : done), LONG - (first ? 1234567 : done) };
	}
	setitimer(ITIMER_REAL, &none, NULL);
	close(pair[0]);
	pthread_join(reader, NULL);
	close(pair[1]);
	printf("stream %lu %d\n", length, sum == want);
}

int main(void)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_un to;
	socklen_t size = sizeof in, n = name(&to, "\0pt-listens");
	setvbuf(stdout, NULL, _IONBF, 0);
	datagrams();
	stream(0);
	stream(SA_RESTART);
	int listens = bound("\0pt-listens", SOCK_STREAM), s = socket(AF_UNIX, SOCK_STREAM, 0);
	listen(listens, 1);
	SAY(connect(s, (struct sockaddr *)&to, n));
	close(accept(listens, NULL, NULL));
	close(listens);
	SAY(connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&to, n));
	signal(SIGPIPE, on_pipe);
	struct msghdr m = { .msg_iov = &(struct iovec){ "x", 1 }, .msg_iovlen = 1 };
	SAY(sendmsg(s, &m, 0));
	SAY(sendmsg(s, &m, MSG_NOSIGNAL));
	printf("SIGPIPE %d\n", pipes);
	int udp = socket(AF_INET, SOCK_DGRAM, 0), from = socket(AF_INET, SOCK_DGRAM, 0);
	bind(udp, (struct sockaddr *)&in, sizeof in);
	getsockname(udp, (struct sockaddr *)&in, &size);
	SAY(sendto(from, "udp", 3, 0, (struct sockaddr *)&in, sizeof in));
	hear(udp, 0);
	SAY(sendto(from, "udp", 3, 0, (struct sockaddr *)&in, 3));
	return 0;
}
