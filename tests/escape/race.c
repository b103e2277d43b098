/*
 * A second thread exchanges the path while the call is judged: the errno of the call then tells whether a hidden name is
 * there. With the harmless name the call always goes well: it is made ready for that each time.
 */
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "attempt.h"

static char text[1024], good[1024], evil[1024];
static volatile int stop;

static void *swap(void *unused)
{
	while (!stop) {
		memcpy(text, evil, sizeof text);
		__asm__ volatile("" ::: "memory"); /* somebody looks at it */
		memcpy(text, good, sizeof text);
		__asm__ volatile("" ::: "memory");
	}
	return unused;
}

static long c_rmdir(void);

/* Often enough, and long enough for the other thread to get under way. */
static int goes_on(int i, int seen)
{
	static struct timespec begin;
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	if (!i)
		begin = now;
	return !seen && (i < 1000 || (now.tv_sec - begin.tv_sec) * 1000 + (now.tv_nsec - begin.tv_nsec) / 1000000 < 40);
}

/* `tells` if the call ever ended so, else 0. */
static int race(const char *wanted, const char *harmless, long (*call)(void), int tells, int tells_too)
{
	char fresh[512], kept[512], used[512];
	pthread_t t;
	int seen = 0;
	snprintf(fresh, sizeof fresh, "%s", in("work/fresh"));
	snprintf(kept, sizeof kept, "%s", in("work/kept"));
	snprintf(used, sizeof used, "%s", in("work/used"));
	snprintf(good, sizeof good, "%s", in(harmless));
	snprintf(evil, sizeof evil, "%s", wanted);
	memcpy(text, good, sizeof text);
	pthread_create(&t, NULL, swap, NULL);
	for (int i = 0; goes_on(i, seen); i++) {
		if (remove(fresh))
			rmdir(fresh);
		unlink(used);
		if (call == c_rmdir)
			mkdir(kept, 0755);
		else
			close(open(kept, O_CREAT | O_WRONLY, 0644));
		long r = call();
		int e = r < 0 ? errno : 0;
		if (e == tells || e == tells_too)
			seen = tells;
		if (r > 2)
			close((int)r);
	}
	stop = 1;
	pthread_join(t, NULL);
	return seen;
}

static long c_mkdir(void) { return sys(SYS_mkdir, text, 0755); }
static long c_mknod(void) { return sys(SYS_mknod, text, S_IFREG | 0644, 0); }
static long c_symlink(void) { return sys(SYS_symlink, "x", text); }
static long c_unlink(void) { return sys(SYS_unlink, text); }
static long c_rmdir(void) { return sys(SYS_rmdir, text); }
static long c_unlinkat(void) { return sys(SYS_unlinkat, AT_FDCWD, text, 0); }
static long c_rename(void) { return sys(SYS_rename, text, in("work/used")); }
static long c_rename_over(void) { return sys(SYS_renameat2, AT_FDCWD, in("work/kept"), AT_FDCWD, text, 1 /* NOREPLACE */); }
static long c_link(void) { return sys(SYS_link, text, in("work/used")); }
static long c_link_over(void) { return sys(SYS_link, in("work/kept"), text); }
static long c_truncate(void) { return sys(SYS_truncate, text, 0); }
static long c_write(void) { return sys(SYS_open, text, O_WRONLY); }
static long c_chdir(void) { return sys(SYS_chdir, text); }
static long c_o_path(void) { return sys(SYS_openat, AT_FDCWD, text, O_PATH | O_DIRECTORY); }
static long c_creat(void) { return sys(SYS_open, text, O_WRONLY | O_CREAT | O_EXCL, 0644); }
#define X(name, harmless, a, b) static int x_##name(const char *p) { return race(p, "work/" harmless, c_##name, a, b); }
X(mkdir, "fresh", EEXIST, EEXIST) X(mknod, "fresh", EEXIST, EEXIST) X(symlink, "fresh", EEXIST, EEXIST)
X(unlink, "kept", EACCES, EPERM) X(rmdir, "kept", EACCES, EPERM) X(unlinkat, "kept", EACCES, EPERM) X(rename, "kept", EXDEV, EACCES)
X(rename_over, "fresh", EEXIST, EEXIST) X(link, "kept", EXDEV, EACCES) X(link_over, "fresh", EEXIST, EEXIST)
X(truncate, "kept", EACCES, EACCES) X(write, "kept", EACCES, EACCES) X(creat, "fresh", EEXIST, EEXIST)
X(chdir, "", ENOTDIR, ENOTDIR) X(o_path, "", ENOTDIR, ENOTDIR)

/* A socket of ours at the harmless address, which is exchanged with the other from now on. */
static int hear(const struct sockaddr_un *harmless, pthread_t *t)
{
	int own = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	bind(own, (const struct sockaddr *)harmless, sizeof *harmless);
	listen(own, 1);
	memcpy(text, good, sizeof text);
	pthread_create(t, NULL, swap, NULL);
	return own;
}

/* An address is exchanged like a path. The socket that hears tells its secret. */
static int race_connect(const char *wanted, int reads)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	pthread_t t;
	char buf[64] = "";
	int seen = 0;
	snprintf(a.sun_path, sizeof a.sun_path, "%s", wanted);
	memcpy(evil, &a, sizeof a);
	snprintf(a.sun_path, sizeof a.sun_path, "%s", in("work/listens"));
	memcpy(good, &a, sizeof a);
	int own = hear(&a, &t);
	for (int i = 0; goes_on(i, seen); i++) {
		int s = socket(AF_UNIX, SOCK_STREAM, 0);
		long r = sys(SYS_connect, s, text, sizeof a);
		if (reads && r == 0)
			usleep(300);
		if (r < 0)
			seen = errno == ECONNREFUSED;
		else if (reads && recv(s, buf, sizeof buf - 1, MSG_DONTWAIT) > 0)
			seen = 1;
		close(s);
		close(accept(own, NULL, NULL));
	}
	stop = 1;
	pthread_join(t, NULL);
	return !seen ? ENOENT : reads ? show(buf) : ECONNREFUSED;
}
static int x_connect(const char *p) { return race_connect(p, 0); }
static int r_connect(const char *p) { (void)p; return race_connect(in("hidden/socket"), 1); }

/* The name that a socket gets. Without a name in the file system (`plain`) only the kernel has to be told of it. */
static int race_bind(const char *wanted, int plain)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	pthread_t t;
	int seen = 0;
	snprintf(a.sun_path, sizeof a.sun_path, "%s", wanted);
	memcpy(evil, &a, sizeof a);
	memset(a.sun_path, 0, sizeof a.sun_path);
	if (!plain)
		snprintf(a.sun_path, sizeof a.sun_path, "%s", in("work/bound"));
	else
		snprintf(a.sun_path + 1, sizeof a.sun_path - 1, "porttrace-escape-%d", (int)getpid());
	memcpy(good, &a, sizeof a);
	memcpy(text, good, sizeof text);
	pthread_create(&t, NULL, swap, NULL);
	for (int i = 0; goes_on(i, seen); i++) {
		int s = socket(AF_UNIX, SOCK_STREAM, 0);
		seen = sys(SYS_bind, s, text, sizeof a) < 0 && errno == EADDRINUSE;
		close(s);
		unlink(in("work/bound"));
	}
	stop = 1;
	pthread_join(t, NULL);
	return seen ? EADDRINUSE : ENOENT;
}
static int x_bind(const char *p) { return race_bind(p, 0); }
static int x_bind_abstract(const char *p) { return race_bind(p, 1); }

/* Likewise where the harmless name lies in no file system. */
static int r_connect_abstract(const char *p)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	char buf[64] = "";
	pthread_t t;
	int seen = 0;
	(void)p;
	snprintf(a.sun_path, sizeof a.sun_path, "%s", in("hidden/socket"));
	memcpy(evil, &a, sizeof a);
	memset(&a.sun_path, 0, sizeof a.sun_path);
	snprintf(a.sun_path + 1, sizeof a.sun_path - 1, "porttrace-escape-%d", (int)getpid());
	memcpy(good, &a, sizeof a);
	int own = hear(&a, &t);
	for (int i = 0; goes_on(i, seen); i++) {
		int s = socket(AF_UNIX, SOCK_STREAM, 0);
		if (sys(SYS_connect, s, text, sizeof a) == 0) {
			usleep(300);
			seen = recv(s, buf, sizeof buf - 1, MSG_DONTWAIT) > 0;
		}
		close(s);
		close(accept(own, NULL, NULL));
	}
	stop = 1;
	pthread_join(t, NULL);
	return seen ? show(buf) : ENOENT;
}

/* A message's address: exchanged, or put there where the call began with none. The hidden socket answers ours. */
static struct msghdr heads[2];
static volatile struct msghdr head;
static void *swap_heads(void *unused)
{
	while (!stop) {
		head.msg_namelen = heads[1].msg_namelen;
		head.msg_namelen = heads[0].msg_namelen;
	}
	return unused;
}
static int race_message(void *(*swaps)(void *), long (*call)(int))
{
	static struct iovec part = { "ask", 3 };
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	pthread_t t;
	char buf[64] = "";
	int seen = 0;
	snprintf(a.sun_path, sizeof a.sun_path, "%s", in("hidden/datagrams"));
	memcpy(evil, &a, sizeof a);
	snprintf(a.sun_path, sizeof a.sun_path, "%s", in("work/hears"));
	memcpy(good, &a, sizeof a);
	int own = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0), s = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	bind(own, (struct sockaddr *)&a, sizeof a);
	snprintf(a.sun_path, sizeof a.sun_path, "%s", in("work/reply"));
	bind(s, (struct sockaddr *)&a, sizeof a);
	chmod(a.sun_path, 0777);
	heads[0] = (struct msghdr){ .msg_name = text, .msg_namelen = swaps == swap ? sizeof a : 0, .msg_iov = &part, .msg_iovlen = 1 };
	heads[1] = heads[0];
	heads[1].msg_namelen = sizeof a;
	memcpy((void *)&head, heads, sizeof head);
	memcpy(text, swaps == swap ? good : evil, sizeof text);
	pthread_create(&t, NULL, swaps, NULL);
	for (int i = 0; goes_on(i, seen); i++) {
		call(s);
		while (recv(own, buf, sizeof buf, 0) > 0) {
		}
		if (i % 16 == 15)
			usleep(300);
		buf[0] = 0;
		seen = recv(s, buf, sizeof buf - 1, 0) > 0;
	}
	stop = 1;
	pthread_join(t, NULL);
	return seen ? show(buf) : ENOENT;
}
static long c_sendto(int s) { return sys(SYS_sendto, s, "ask", 3, 0, text, sizeof(struct sockaddr_un)); }
static long c_sendmsg(int s) { return sys(SYS_sendmsg, s, &head, 0); }
static int r_sendto(const char *p) { (void)p; return race_message(swap, c_sendto); }
static int r_sendmsg(const char *p) { (void)p; return race_message(swap, c_sendmsg); }
static int r_sendmsg_none(const char *p) { (void)p; return race_message(swap_heads, c_sendmsg); }

/* A descriptor that means another directory when it is listed than when it was judged. */
static int dirs[3];
static void *swap_dirs(void *unused)
{
	while (!stop) {
		dup2(dirs[0], dirs[2]);
		dup2(dirs[1], dirs[2]);
	}
	return unused;
}
static int r_getdents(const char *p)
{
	char list[4096];
	pthread_t t;
	int seen = 0;
	(void)p;
	dirs[0] = open(in("work"), O_RDONLY | O_DIRECTORY);
	dirs[1] = open(base, O_RDONLY | O_DIRECTORY);
	dirs[2] = dup(dirs[0]);
	pthread_create(&t, NULL, swap_dirs, NULL);
	for (int i = 0; goes_on(i, seen); i++) {
		long n = sys(SYS_getdents64, dirs[2], list, sizeof list);
		for (long at = 0; at < n; at += *(unsigned short *)(void *)(list + at + 16))
			seen |= !strcmp(list + at + 19, "hidden");
		lseek(dirs[0], 0, SEEK_SET);
		lseek(dirs[1], 0, SEEK_SET);
	}
	stop = 1;
	pthread_join(t, NULL);
	return seen ? show("secret name") : ENOENT;
}

const struct attempt race_read_attempts[] = {
	{ "sys-race-connect", r_connect }, { "sys-race-getdents", r_getdents }, { "sys-race-connect-abstract", r_connect_abstract },
	{ "sys-race-sendto", r_sendto }, { "sys-race-sendmsg", r_sendmsg }, { "sys-race-sendmsg-none", r_sendmsg_none }, { NULL, NULL },
};
const struct attempt race_exist_attempts[] = {
	{ "sys-race-mkdir", x_mkdir }, { "sys-race-mknod", x_mknod }, { "sys-race-symlink", x_symlink }, { "sys-race-unlink", x_unlink },
	{ "sys-race-rmdir", x_rmdir }, { "sys-race-unlinkat", x_unlinkat }, { "sys-race-rename", x_rename },
	{ "sys-race-rename-over", x_rename_over }, { "sys-race-link", x_link }, { "sys-race-link-over", x_link_over },
	{ "sys-race-truncate", x_truncate }, { "sys-race-write", x_write }, { "sys-race-create-excl", x_creat },
	{ "sys-race-connect", x_connect }, { "sys-race-chdir", x_chdir }, { "sys-race-o-path", x_o_path },
	{ "sys-race-bind", x_bind }, { "sys-race-bind-abstract", x_bind_abstract }, { NULL, NULL },
};
