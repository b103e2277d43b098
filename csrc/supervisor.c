/*
 * porttrace-supervisor [--alone] [--socket=FD] [--workers=N] DIR/N: serves one policy of a session until its standard
 * input ends (port has gone, or has stopped the trace). Says "ready" on its
 * standard output once launchers can connect. --alone: no injected library announces programs, so all are announced here.
 * --socket: what port listens on already, for the first program that comes. --workers: how many at a time answer a tree
 * whose programs ask a lot (tests want more than the machine's processors call for).
 */
#include "supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <unistd.h>

#ifndef SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#endif
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif

#define MAX_GROUPS 256
#define MAX_TREES 4096

void pt_sup_guard(void);

/* A tree that comes, and with which ids. */
struct newcomer {
	struct pt_sup *sup;
	int listener;                  /* before it is greeted: the connection */
	uid_t uid;
	gid_t gid;
	gid_t groups[MAX_GROUPS];
	int ngroups;
};

__attribute__((format(printf, 1, 2), noreturn)) static void fail(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fputs("porttrace-supervisor: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(125);
}

static void *map(const char *path, size_t *size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;
	if (fd < 0 || fstat(fd, &st))
		fail("%s: %s", path, strerror(errno));
	*size = (size_t)st.st_size;
	void *at = mmap(NULL, *size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (at == MAP_FAILED)
		fail("%s: %s", path, strerror(errno));
	close(fd);
	return at;
}

static int events_fd = -1;

static int ask_for_room(uint64_t from, uint64_t size)
{
	return fallocate(events_fd, 0, (off_t)from, (off_t)size) ? -errno : 0;
}

/*
 * The file that the traced processes write to, or where the build has spoilt it before we came, one of our own: it loses
 * the report (whose reader sees that), and must not lose the answers.
 */
static struct pt_events *events_of(const char *dir, size_t *size)
{
	char path[4096];
	struct stat st;
	void *at = MAP_FAILED;
	snprintf(path, sizeof path, "%s/events", dir);
	int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd >= 0 && !fstat(fd, &st)) {
		*size = (size_t)st.st_size;
		at = mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	}
	if (at != MAP_FAILED && pt_events_capacity(at, *size)) {
		events_fd = fd;
		pt_events_room_from(ask_for_room);
		return at;
	}
	if (fd >= 0)
		close(fd);
	*size = PT_EVENTS_MIN;
	fd = memfd_create("events", MFD_CLOEXEC);
	if (fd < 0 || pt_events_begin(fd, *size) ||
	    (at = mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)) == MAP_FAILED)
		fail("no memory for events: %s", strerror(errno));
	close(fd);
	return at;
}

static char *text(void)
{
	char *p = malloc(PT_PATH_CAP + 16);
	if (!p)
		fail("out of memory");
	return p;
}

/* Linux 6.11 ends the receiving call when nobody is left who could ask; before, only poll tells. */
static bool wakes_at_end;

static void look_at_kernel(struct pt_sup *sup)
{
	struct utsname name;
	int major = 0, minor = 0;
	if (!uname(&name) && sscanf(name.release, "%d.%d", &major, &minor) == 2)
		wakes_at_end = major > 6 || (major == 6 && minor >= 11);
	sup->steady = major > 5 || (major == 5 && minor >= 19);
}

/* false: the last process of the tree is gone. With a timeout of 0 only that is looked at. */
static bool wait_for(int listener, int timeout)
{
	for (;;) {
		struct pollfd p = { .fd = listener, .events = POLLIN };
		int n = poll(&p, 1, timeout);
		if (n < 0 && errno == EINTR)
			continue;
		return n == 0 || (n > 0 && (p.revents & POLLIN));
	}
}

/* false: no question comes any more. */
static bool receive(struct pt_task *t, size_t size)
{
	for (;;) {
		memset(t->req, 0, size);
		if (!wakes_at_end && !wait_for(t->listener, -1))
			return false;
		if (!ioctl(t->listener, SECCOMP_IOCTL_NOTIF_RECV, t->req))
			return true;
		/* killed before we looked; or the last process of the tree is gone */
		if (errno != EINTR && (errno != ENOENT || !wait_for(t->listener, 0)))
			return false;
	}
}

static void answer_all(struct pt_task *t, size_t size)
{
	char *const real = t->at.real;
	while (pt_turn_take(t->tree)) {
		if (!receive(t, size)) {
			pt_turn_over(t->tree);
			return;
		}
		pt_turn_pass(t->tree);
		t->compat = t->req->data.arch == AUDIT_ARCH_I386;
		t->pid = (pid_t)t->req->pid;
		t->when = pt_nanoseconds();
		t->call = pt_sup_call(t->req->data.nr, t->compat);
		memset(&t->at, 0, sizeof t->at);
		t->at.real = real;
		t->at.physical = t->physical;
		atomic_fetch_add_explicit(&t->sup->calls, 1, memory_order_relaxed);
		pt_task_answer(t);
	}
}

/* A worker of the tree, with the ids of the thread that made it, to its end. */
static void work(struct pt_tree *tree)
{
	struct seccomp_notif_sizes sizes;
	static __thread struct pt_task t;
	t = (struct pt_task){ .sup = tree->sup, .tree = tree, .listener = tree->listener };
	if (!unshare(CLONE_FS) /* a umask of its own */ && !syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes)) {
		t.req = calloc(1, sizes.seccomp_notif + 64);
		t.resp = calloc(1, sizes.seccomp_notif_resp + 64);
		t.asked = text();
		t.full = text();
		t.scratch = text();
		t.dents = malloc(PT_DENTS_CAP);
		char *real = t.at.real = text();
		t.physical = text();
		if (t.req && t.resp && t.dents)
			answer_all(&t, sizes.seccomp_notif);
		free(real);
	}
	if (t.live > 0)
		close(t.live - 1);
	free(t.physical);
	free(t.req);
	free(t.resp);
	free(t.asked);
	free(t.full);
	free(t.scratch);
	free(t.dents);
	if (!pt_turn_leave(tree))
		return;
	close(tree->listener); /* every call of what is left of the tree fails: closed, not open */
	atomic_fetch_sub(&tree->sup->trees, 1);
	free(tree);
}

static pthread_attr_t small_detached;

static void *hired(void *tree)
{
	work(tree);
	return NULL;
}

bool pt_tree_hire(struct pt_tree *tree)
{
	pthread_t thread;
	return !pthread_create(&thread, &small_detached, hired, tree);
}

/* A launcher's listener, with the identity that the kernel vouches for. */
static struct pt_tree *greet(struct newcomer *who, int connection)
{
	struct pt_supervise_hello hello = { 0 };
	struct timeval patience = { .tv_sec = 2 };
	struct ucred peer;
	socklen_t size = sizeof peer;
	uint64_t probe = 0; /* only a seccomp listener knows this question; an id that it never gave is ENOENT */
	setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	if (recv(connection, &hello, sizeof hello, 0) != sizeof hello || memcmp(hello.text, PT_SUPERVISE_HELLO, sizeof hello.text) ||
	    getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &size) || peer.pid <= 0 ||
	    !pt_may_join(who->sup->owner, peer.uid, peer.pid))
		return NULL;
	int fd = pt_target_fd(peer.pid, hello.listener);
	if (fd < 0)
		return NULL;
	struct pt_tree *tree = calloc(1, sizeof *tree);
	if (!tree || ioctl(fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &probe) == 0 || errno != ENOENT) {
		close(fd);
		free(tree);
		return NULL;
	}
	(void)ioctl(fd, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP); /* Linux 6.6 */
	tree->sup = who->sup;
	tree->since = pt_ticks_now();
	tree->listener = fd;
	tree->looks = geteuid() == 0 && peer.uid != 0;
	tree->changes = !tree->looks && !pt_rights_are_ours(peer.pid);
	pthread_mutex_init(&tree->lock, NULL);
	pt_turn_begin(tree);
	who->uid = peer.uid;
	who->gid = peer.gid;
	size = sizeof who->groups;
	if (!getsockopt(connection, SOL_SOCKET, SO_PEERGROUPS, who->groups, &size))
		who->ngroups = (int)(size / sizeof who->groups[0]);
	return tree;
}

static void *welcome(void *argument)
{
	struct newcomer *who = argument;
	int connection = who->listener;
	struct pt_tree *tree = greet(who, connection);
	const char ack = PT_SUPERVISE_ACK;
	bool comes = tree && atomic_fetch_add(&who->sup->trees, 1) < MAX_TREES && send(connection, &ack, 1, MSG_NOSIGNAL) == 1;
	close(connection);
	if (comes && pt_rights_adopt(who->uid, who->gid, who->groups, who->ngroups)) {
		free(who);
		work(tree);
		return NULL;
	}
	if (tree) {
		close(tree->listener);
		atomic_fetch_sub(&who->sup->trees, 1);
	}
	free(tree);
	free(who);
	return NULL;
}

static int listen_in(const char *dir)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int d = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (d < 0)
		fail("%s: %s", dir, strerror(errno));
	snprintf(at.sun_path, sizeof at.sun_path, "/proc/self/fd/%d/%s", d, PT_SUPERVISE_SOCKET);
	unlinkat(d, PT_SUPERVISE_SOCKET, 0);
	int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (s < 0 || bind(s, (struct sockaddr *)&at, sizeof at) || fchmodat(d, PT_SUPERVISE_SOCKET, 0666, 0) || listen(s, 128))
		fail("%s/%s: %s", dir, PT_SUPERVISE_SOCKET, strerror(errno));
	close(d);
	return s;
}

static bool start(struct pt_sup *sup, int connection)
{
	struct newcomer *who = calloc(1, sizeof *who);
	pthread_t thread;
	if (!who)
		return false;
	who->sup = sup;
	who->listener = connection;
	if (pthread_create(&thread, &small_detached, welcome, who)) {
		free(who);
		return false;
	}
	return true;
}

static void nothing(int number)
{
	(void)number;
}

/*
 * How many workers of a tree are worth waking. On two processors a second one gains nothing: each runs where the program
 * runs that asks, and two programs that do nothing but ask take a quarter longer with two workers than with one.
 */
static unsigned worth(void)
{
	cpu_set_t set;
	int n = sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
	return n < 4 ? 1 : (unsigned)n / 2;
}

int main(int argc, char **argv)
{
	static struct pt_sup sup;
	size_t size, offset;
	const char *why = "";
	char path[4096];
	int s = -1;
	sup.workers = worth();
	for (; argc > 2; argv++, argc--) {
		if (!strcmp(argv[1], "--alone")) {
			sup.alone = true;
		} else if (!strncmp(argv[1], "--socket=", 9)) {
			s = atoi(argv[1] + 9);
			if (s < 3 || fcntl(s, F_SETFD, FD_CLOEXEC))
				fail("%s: no socket of mine", argv[1]);
		} else if (!strncmp(argv[1], "--workers=", 10)) {
			sup.workers = (unsigned)atoi(argv[1] + 10);
		} else {
			break;
		}
	}
	if (argc != 2 || argv[1][0] != '/' || strlen(argv[1]) > 4000)
		fail("usage: porttrace-supervisor [--alone] [--socket=FD] [--workers=N] DIR/N (started by a session)");
	/* In a port that has switched only its effective uid, root is still there to be had. */
	if (geteuid() && !getuid())
		(void)!setresuid((uid_t)-1, 0, (uid_t)-1);
	prctl(PR_SET_NAME, "pt-supervisor");
	struct rlimit files = { 65536, 65536 };
	if (setrlimit(RLIMIT_NOFILE, &files) && !getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	signal(SIGPIPE, SIG_IGN);
	signal(SIGINT, SIG_IGN); /* Ctrl-C ends the build; the session ends us when it is done with it */
	signal(SIGHUP, SIG_IGN);
	struct sigaction tick = { .sa_handler = nothing }; /* not SA_RESTART: it is to end a wait */
	sigaction(PT_TICK, &tick, NULL);
	pt_sup_calls();
	pt_sup_guard();
	look_at_kernel(&sup);
	snprintf(path, sizeof path, "%s/policy", argv[1]);
	const void *bytes = map(path, &size);
	sup.image = pt_image_check(bytes, size, &why, &offset);
	if (!sup.image)
		fail("%s: %s at byte %zu", path, why, offset);
	sup.dir = argv[1];
	sup.dir_len = strlen(argv[1]);
	sup.flags = pt_image_flags(sup.image);
	sup.owner = pt_session_owner(argv[1]);
	sup.events = events_of(argv[1], &size);
	if (s < 0)
		s = listen_in(argv[1]);
	pthread_attr_init(&small_detached);
	pthread_attr_setdetachstate(&small_detached, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&small_detached, 256 * 1024);
	if (write(1, "ready\n", 6) != 6)
		return 125;
	for (;;) {
		struct pollfd p[2] = { { .fd = 0, .events = POLLIN }, { .fd = s, .events = POLLIN } };
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			break;
		if (p[0].revents)
			break;
		if (!(p[1].revents & POLLIN))
			continue;
		int connection = accept4(s, NULL, NULL, SOCK_CLOEXEC);
		if (connection < 0)
			poll(NULL, 0, 10); /* no descriptor left, where the build holds thousands of connections: not at full speed */
		else if (!start(&sup, connection))
			close(connection);
	}
	char line[128];
	int n = snprintf(line, sizeof line, "calls %lu refused %lu\n", sup.calls, sup.refused);
	(void)!write(1, line, (size_t)n);
	return 0;
}
