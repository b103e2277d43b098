/*
 * Calls that the supervisor makes in a program's place, one line each: whether it went well, the errno, what is there
 * afterwards. The test runs it with and without the supervisor: not a word may differ.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

static void state(const char *path)
{
	struct stat s;
	if (path && lstat(path, &s) == 0)
		printf("    %s %o nlink %ld size %ld owner %d:%d\n", path, s.st_mode, (long)s.st_nlink, S_ISDIR(s.st_mode) ? 0 : (long)s.st_size,
		       (int)s.st_uid, (int)s.st_gid);
}
#define SAY(call, path) do { errno = 0; long r = (long)(call); int e = errno; printf("%s: %d %d\n", #call, r >= 0, r < 0 ? e : 0); state(path); } while (0)

static int touch(const char *path)
{
	return close(open(path, O_CREAT | O_WRONLY, 0666));
}

static void directories(void)
{
	umask(027);
	SAY(mkdir("d", 0777), "d");
	SAY(mkdir("d", 0777), "d");
	SAY(mkdir("d/", 0777), "d");
	SAY(mkdir("slash/", 02777), "slash");
	SAY(mkdir("slash//./", 0777), "slash");
	SAY(mkdir(".", 0777), NULL);
	SAY(mkdir("..", 0777), NULL);
	SAY(mkdir("d/..", 0777), NULL);
	SAY(mkdir("/", 0777), NULL);
	SAY(mkdir("", 0777), NULL);
	SAY(mkdir((const char *)8, 0777), NULL);
	SAY(mkdir("none/d", 0777), NULL);
	touch("f");
	SAY(mkdir("f/d", 0777), NULL);
	symlink("nowhere", "dangling");
	symlink("d", "to-d");
	symlink("loop", "loop");
	SAY(mkdir("dangling", 0777), "dangling");
	SAY(mkdir("dangling/", 0777), "dangling");
	SAY(mkdir("to-d/e", 01777), "d/e");
	SAY(mkdir("loop/e", 0777), NULL);
	SAY(mkdirat(open("d", O_RDONLY), "g", 0700), "d/g");
	SAY(mkdirat(open("f", O_RDONLY), "g", 0700), NULL);
	SAY(mkdirat(999, "g", 0700), NULL);
	chmod("d", 02750);
	SAY(mkdir("d/inherits", 0777), "d/inherits");
	char name[300];
	memset(name, 'n', sizeof name);
	name[255] = 0;
	SAY(mkdir(name, 0700), NULL);
	SAY(rmdir(name), NULL);
	name[255] = 'n';
	name[256] = 0;
	SAY(mkdir(name, 0700), NULL);
	SAY(rmdir("d"), NULL);
	SAY(rmdir("d/e"), "d/e");
	SAY(rmdir("d/g/"), "d/g");
	SAY(rmdir("."), NULL);
	SAY(rmdir("./"), NULL);
	SAY(rmdir("d/.."), NULL);
	SAY(rmdir("to-d"), NULL);
	SAY(rmdir("to-d/"), NULL);
	SAY(rmdir("f"), "f");
	mkdir("unsearchable", 0700);
	chmod("unsearchable", 0600);
	SAY(mkdir("unsearchable/x", 0700), NULL);
	chmod("unsearchable", 0500);
	SAY(mkdir("unsearchable/x", 0700), NULL);
	SAY(symlink("x", "unsearchable/x"), NULL);
	chmod("unsearchable", 0300);
	SAY(mkdir("unsearchable/x", 0700), "unsearchable/x");
	SAY(open("unsearchable/y", O_CREAT | O_WRONLY, 0600), "unsearchable/y");
	umask(0);
	SAY(mkdir("acl/made", 0777), "acl/made");
	SAY(open("acl/file", O_CREAT | O_WRONLY, 0666), "acl/file");
	umask(077);
	SAY(mkdir("acl/made2", 0777), "acl/made2");
	SAY(open("acl/file2", O_CREAT | O_WRONLY, 0666), "acl/file2");
	SAY(mkdir("roots/x", 0777), NULL);
	SAY(unlink("sticky/roots"), NULL);
	SAY(rename("sticky/roots", "sticky/mine"), NULL);
	SAY(rename("f", "sticky/roots"), NULL);
	SAY(link("sticky/roots", "mine"), NULL);
	SAY(open("sticky/roots", O_RDWR), NULL);
	SAY(open("sticky/roots", O_RDONLY), NULL);
	SAY(truncate("sticky/roots", 0), NULL);
	SAY(touch("sticky/own"), "sticky/own");
	SAY(unlink("sticky/own"), "sticky/own");
}

static void nodes(void)
{
	umask(022);
	SAY(mknod("n1", 0666, 0), "n1");
	SAY(mknod("n2", S_IFREG | 0600, 0), "n2");
	SAY(mknod("n3", S_IFIFO | 0666, 0), "n3");
	SAY(mknod("n4", S_IFSOCK | 0666, 0), "n4");
	SAY(mknod("n5", S_IFDIR | 0666, 0), "n5");
	SAY(mknod("n6", S_IFCHR | 0666, 0x103), "n6");
	SAY(mknod("n7", S_IFBLK | 0666, 0x103), "n7");
	SAY(mknod("n1", 0666, 0), "n1");
	SAY(mknod("n8/", 0666, 0), "n8");
	SAY(mknod("n1/", 0666, 0), "n1");
	SAY(mkfifo("dangling", 0600), NULL);
	SAY(symlink("text", "s1"), "s1");
	SAY(symlink("", "s2"), "s2");
	SAY(symlink("text", "s1"), "s1");
	SAY(symlink("text", "s3/"), NULL);
	SAY(symlink("text", ""), NULL);
	SAY(symlink((const char *)8, "s4"), NULL);
	SAY(symlink("text", "."), NULL);
	SAY(symlinkat("other", open("d", O_RDONLY | O_DIRECTORY), "s"), "d/s");
	char text[5000];
	memset(text, 't', sizeof text);
	text[4095] = 0;
	SAY(symlink(text, "s5"), "s5");
	text[4095] = 't';
	text[4096] = 0;
	SAY(symlink(text, "s6"), "s6");
	SAY(unlink("s1"), "s1");
	SAY(unlink("s1"), NULL);
	SAY(unlink("to-d/"), NULL);
	SAY(unlink("d"), NULL);
	SAY(unlink("d/"), NULL);
	SAY(unlink("d/.."), NULL);
	SAY(unlink("."), NULL);
	SAY(unlink("n1/"), NULL);
	SAY(unlink("n1/x"), NULL);
	SAY(unlink("n1"), "n1");
	SAY(unlink(""), NULL);
	SAY(unlinkat(AT_FDCWD, "n2", 1), "n2");
	SAY(unlinkat(AT_FDCWD, "n2", AT_REMOVEDIR), "n2");
	SAY(unlinkat(AT_FDCWD, "slash", AT_REMOVEDIR), "slash");
	SAY(unlink("/proc/self/exe"), NULL);
	SAY(mkdir("/proc/self/x", 0700), NULL);
	SAY(unlink("/proc/self/cwd/n2"), "n2");
}

static void moves(void)
{
	touch("a");
	mkdir("m", 0755);
	SAY(rename("a", "b"), "b");
	SAY(rename("a", "b"), "b");
	SAY(rename("b", "m"), "b");
	SAY(rename("m", "b"), "m");
	SAY(rename("b", "m/b"), "m/b");
	SAY(rename("m", "m/inside"), "m");
	SAY(rename("m/b/", "b"), NULL);
	SAY(rename("m/b", "b/"), NULL);
	SAY(rename("m/", "moved/"), "moved");
	SAY(rename(".", "x"), NULL);
	SAY(rename("moved", "moved/.."), NULL);
	SAY(rename("", "x"), NULL);
	SAY(rename("moved", ""), NULL);
	SAY(rename("moved/b", "dangling"), "dangling");
	SAY(rename("dangling", "b"), "b");
	SAY(rename("b", "none/b"), NULL);
	touch("c");
	SAY(syscall(SYS_renameat2, AT_FDCWD, "b", AT_FDCWD, "c", 1), "b");
	SAY(syscall(SYS_renameat2, AT_FDCWD, "b", AT_FDCWD, "moved", 2), "b");
	SAY(syscall(SYS_renameat2, AT_FDCWD, "b", AT_FDCWD, "none", 2), NULL);
	SAY(syscall(SYS_renameat2, AT_FDCWD, "c", AT_FDCWD, "e", 4), "e");
	SAY(syscall(SYS_renameat2, AT_FDCWD, "b", AT_FDCWD, "c", 3), NULL);
	SAY(syscall(SYS_renameat2, AT_FDCWD, "b", AT_FDCWD, "c", 99), NULL);
	SAY(renameat(open("b", O_RDONLY | O_DIRECTORY), "none", AT_FDCWD, "x"), NULL);
	SAY(renameat(AT_FDCWD, "c", open("b", O_RDONLY | O_DIRECTORY), "in"), "b/in");
	SAY(renameat(999, "c", AT_FDCWD, "x"), NULL);
	SAY(link("b/in", "l1"), "l1");
	SAY(link("b/in", "l1"), "l1");
	SAY(link("b", "l2"), NULL);
	SAY(link(".", "l2"), NULL);
	SAY(link("none", "l2"), NULL);
	SAY(link("l1", "none/l2"), NULL);
	SAY(link("l1", "l2/"), NULL);
	SAY(link("l1/", "l2"), NULL);
	SAY(link("l1", "."), NULL);
	symlink("l1", "sl");
	SAY(link("sl", "l3"), "l3");
	SAY(linkat(AT_FDCWD, "sl", AT_FDCWD, "l4", AT_SYMLINK_FOLLOW), "l4");
	SAY(linkat(AT_FDCWD, "sl", AT_FDCWD, "l5", 1), "l5");
	SAY(linkat(AT_FDCWD, "loop", AT_FDCWD, "l5", AT_SYMLINK_FOLLOW), "l5");
	SAY(linkat(AT_FDCWD, "", AT_FDCWD, "l5", AT_EMPTY_PATH), "l5");
	SAY(linkat(999, "", AT_FDCWD, "l5", AT_EMPTY_PATH), "l5");
	SAY(link("roots/hers", "l6"), NULL);
	SAY(link("/proc/self/exe", "l7"), NULL);
}

static void files(void)
{
	char text[64], buf[64];
	int fd, other;
	umask(026);
	SAY(open("o1", O_CREAT | O_RDWR, 06777), "o1");
	SAY(open("o1", O_CREAT | O_EXCL | O_RDWR, 0666), "o1");
	SAY(creat("o2", 0666), "o2");
	SAY(open("o2/", O_WRONLY), NULL);
	SAY(open("o3/", O_CREAT | O_WRONLY, 0600), NULL);
	SAY(open("d", O_WRONLY), NULL);
	SAY(open("d", O_RDONLY | O_CREAT, 0600), NULL);
	SAY(open("dangling", O_CREAT | O_EXCL | O_WRONLY, 0600), NULL);
	symlink("by-link", "sl2");
	SAY(open("sl2", O_CREAT | O_WRONLY | O_NOFOLLOW, 0600), "by-link");
	SAY(open("sl2", O_CREAT | O_WRONLY, 0600), "by-link");
	SAY(fd = open("o1", O_WRONLY | O_APPEND), NULL);
	SAY(write(fd, "12345", 5), "o1");
	SAY(fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK), NULL);
	printf("%x %d\n", fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK), fcntl(fd, F_GETFD));
	SAY(fd = open("o1", O_RDWR | O_CLOEXEC), NULL);
	printf("%x %d\n", fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK), fcntl(fd, F_GETFD));
	SAY(open("o1", O_WRONLY | O_TRUNC), "o1");
	SAY(truncate("o1", 10), "o1");
	SAY(truncate("o1", -1), "o1");
	SAY(truncate("o1/", 1), "o1");
	SAY(truncate("none", 1), NULL);
	SAY(truncate("d", 1), NULL);
	SAY(truncate("n3", 1), NULL);
	SAY(truncate("sl2", 3), "by-link");
	SAY(truncate("/dev/null", 1), NULL);
	SAY(truncate((const char *)8, 1), NULL);
	chmod("o1", 0400);
	SAY(truncate("o1", 1), "o1");
	SAY(open("o1", O_RDWR), "o1");
	SAY(fd = open(".", O_TMPFILE | O_RDWR, 0666), NULL);
	SAY(write(fd, "nameless", 8), NULL);
	snprintf(text, sizeof text, "/proc/self/fd/%d", fd);
	SAY(linkat(AT_FDCWD, text, AT_FDCWD, "named", AT_SYMLINK_FOLLOW), "named");
	SAY(fd = open(".", O_TMPFILE | O_WRONLY | O_EXCL, 0666), NULL);
	snprintf(text, sizeof text, "/proc/self/fd/%d", fd);
	SAY(linkat(AT_FDCWD, text, AT_FDCWD, "named2", AT_SYMLINK_FOLLOW), "named2");
	SAY(open("o1", O_TMPFILE | O_WRONLY, 0666), NULL);
	SAY(open(".", O_TMPFILE | O_RDONLY, 0666), NULL);
	SAY(open("none", O_TMPFILE | O_WRONLY, 0666), NULL);
	SAY(open("/dev/tty", O_RDWR), NULL);
	SAY(open("/dev/null", O_RDWR), NULL);
	SAY(other = open("/dev/ptmx", O_RDWR | O_NOCTTY), NULL);
	SAY(open("/proc/self/oom_score_adj", O_WRONLY), NULL);
	SAY(write(open("/proc/self/comm", O_WRONLY), "renamed", 7), NULL);
	SAY(read(open("/proc/self/comm", O_RDONLY), buf, 8) == 8 && !memcmp(buf, "renamed\n", 8) ? 0 : -1, NULL);
	mkfifo("fifo", 0600);
	SAY(open("fifo", O_WRONLY | O_NONBLOCK), NULL);
	SAY(open("fifo", O_RDWR | O_NONBLOCK), NULL);
	signal(SIGXFSZ, SIG_IGN);
	struct rlimit limit = { 1000, RLIM_INFINITY };
	setrlimit(RLIMIT_FSIZE, &limit);
	touch("limited");
	SAY(truncate("limited", 999), "limited");
	SAY(truncate("limited", 1001), "limited");
	SAY(write(open("limited", O_WRONLY | O_APPEND), "12", 2), "limited");
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_FSIZE, &limit);
	struct statfs s;
	SAY(statfs(".", &s), NULL);
	printf("%lx %ld %ld\n", (long)s.f_type, (long)s.f_bsize, (long)s.f_namelen);
	SAY(statfs("none", &s), NULL);
	int fds[1024], n = 0;
	struct rlimit few;
	getrlimit(RLIMIT_NOFILE, &few);
	limit = few;
	few.rlim_cur = 100;
	setrlimit(RLIMIT_NOFILE, &few);
	while (n < 100 && (fds[n] = open("o2", O_WRONLY)) >= 0)
		n++;
	printf("at most: %d\n", errno);
	while (n)
		close(fds[--n]);
	setrlimit(RLIMIT_NOFILE, &limit);
}

static struct sockaddr_un named(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	strcpy(a.sun_path, path);
	return a;
}

static int joined(int type, const char *path)
{
	struct sockaddr_un a = named(path);
	return connect(socket(AF_UNIX, type, 0), (struct sockaddr *)&a, sizeof a);
}

static void *takes(void *socket)
{
	struct pollfd p = { *(int *)socket, POLLIN, 0 };
	usleep(200000);
	while (poll(&p, 1, 300) == 1)
		accept(p.fd, NULL, NULL);
	return NULL;
}

static void sockets(void)
{
	struct sockaddr_un a = named("stream"), d = named("datagrams");
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(1) };
	struct ucred peer;
	socklen_t size = sizeof peer, length = sizeof in;
	int s = socket(AF_UNIX, SOCK_STREAM, 0), t = socket(AF_UNIX, SOCK_DGRAM, 0), c = socket(AF_UNIX, SOCK_STREAM, 0), n;
	char buf[16];
	pthread_t thread;
	SAY(bind(s, (struct sockaddr *)&a, sizeof a), "stream");
	SAY(bind(t, (struct sockaddr *)&d, sizeof d), "datagrams");
	SAY(bind(c, (struct sockaddr *)&d, sizeof d), NULL);
	SAY(joined(SOCK_STREAM, "stream"), NULL);
	listen(s, 1);
	SAY(connect(c, (struct sockaddr *)&a, sizeof a), NULL);
	SAY(connect(c, (struct sockaddr *)&a, sizeof a), NULL);
	SAY(getsockopt(c, SOL_SOCKET, SO_PEERCRED, &peer, &size), NULL);
	printf("%d\n", peer.pid == getpid());
	n = accept(s, NULL, NULL);
	getsockopt(n, SOL_SOCKET, SO_PEERCRED, &peer, &size);
	printf("%d %d\n", (int)peer.uid, (int)peer.gid);
	SAY(joined(SOCK_STREAM | SOCK_NONBLOCK, "stream"), NULL);
	SAY(joined(SOCK_STREAM | SOCK_NONBLOCK, "stream"), NULL);
	SAY(joined(SOCK_STREAM | SOCK_NONBLOCK, "stream"), NULL);
	pthread_create(&thread, NULL, takes, &s);
	SAY(joined(SOCK_STREAM, "stream"), NULL); /* waits for a place in the queue */
	pthread_join(thread, NULL);
	SAY(joined(SOCK_DGRAM, "stream"), NULL);
	SAY(joined(SOCK_STREAM, "o2"), NULL);
	SAY(joined(SOCK_STREAM, "none"), NULL);
	SAY(joined(SOCK_STREAM, "d"), NULL);
	symlink("datagrams", "by-name");
	SAY(joined(SOCK_DGRAM, "by-name"), NULL);
	chmod("datagrams", 0400);
	SAY(joined(SOCK_DGRAM, "datagrams"), NULL);
	chmod("datagrams", 0600);
	c = socket(AF_UNIX, SOCK_DGRAM, 0);
	SAY(sendto(c, "by sendto", 9, 0, (struct sockaddr *)&d, sizeof d), NULL);
	SAY(read(t, buf, sizeof buf) == 9 ? 0 : -1, NULL);
	SAY(connect(c, (struct sockaddr *)&d, sizeof d), NULL);
	SAY(send(c, "by send", 7, 0), NULL);
	SAY(read(t, buf, sizeof buf) == 7 ? 0 : -1, NULL);
	a.sun_family = AF_UNSPEC;
	SAY(connect(c, (struct sockaddr *)&a, sizeof a), NULL);
	SAY(send(c, "by send", 7, 0), NULL);
	SAY(connect(c, (struct sockaddr *)&in, sizeof in), NULL);
	SAY(connect(c, NULL, 0), NULL);
	SAY(connect(c, (struct sockaddr *)8, sizeof a), NULL);
	SAY(connect(c, (struct sockaddr *)&d, 2), NULL);
	SAY(connect(c, (struct sockaddr *)&d, 1000), NULL);
	SAY(connect(c, (struct sockaddr *)&d, -1), NULL);
	SAY(connect(999, (struct sockaddr *)&d, sizeof d), NULL);
	SAY(connect(open("/dev/null", O_RDONLY), (struct sockaddr *)&d, sizeof d), NULL);
	memcpy(d.sun_path, "\0porttrace-none", 15);
	SAY(connect(c, (struct sockaddr *)&d, 17), NULL);
	SAY(connect(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&in, sizeof in), NULL);
	s = socket(AF_INET, SOCK_STREAM, 0);
	in.sin_port = 0;
	SAY(bind(s, (struct sockaddr *)&in, sizeof in), NULL);
	listen(s, 1);
	getsockname(s, (struct sockaddr *)&in, &length);
	SAY(n = connect(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&in, sizeof in), NULL);
	SAY(connect(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), (struct sockaddr *)&in, sizeof in), NULL);
	SAY(connect(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&in, 4), NULL);
	SAY(connect(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&d, sizeof d), NULL);
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	directories();
	nodes();
	moves();
	files();
	sockets();
	return 0;
}
