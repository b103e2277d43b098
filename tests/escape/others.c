/*
 * What a process has of others: of one outside of the session ($OUTSIDE: of the same user, with the secret open as its
 * descriptor 9, its directory hidden, and the secret in its environment), and of one of the session that is about to be
 * supervised ($STARTER starts them one after another).
 */
#include <time.h>

#include "attempt.h"

static const char *outside(const char *name)
{
	static char path[64];
	snprintf(path, sizeof path, "/proc/%s/%s", getenv("OUTSIDE"), name);
	return path;
}

static int tell(const char *text, size_t n)
{
	return memmem(text, n, "secret", 6) ? show("secret of an outsider") : ENOENT;
}

static int tell_file(const char *name)
{
	static char text[65536];
	int fd = sys(SYS_open, outside(name), O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text);
	return n < 0 ? errno : tell(text, (size_t)n);
}

static int r_environ(const char *p) { (void)p; return tell_file("environ"); }

static int r_task_environ(const char *p)
{
	char name[64];
	(void)p;
	snprintf(name, sizeof name, "task/%s/environ", getenv("OUTSIDE"));
	return tell_file(name);
}

static int r_dirfd_environ(const char *p)
{
	static char text[65536];
	int dir = sys(SYS_open, outside(""), O_RDONLY | O_DIRECTORY), fd = dir < 0 ? -1 : (int)sys(SYS_openat, dir, "environ", O_RDONLY);
	(void)p;
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text);
	return n < 0 ? errno : tell(text, (size_t)n);
}

static int tell_link(const char *name)
{
	char text[512];
	long n = sys(SYS_readlink, outside(name), text, sizeof text);
	return n < 0 ? errno : memmem(text, (size_t)n, "hidden", 6) ? show("secret name") : ENOENT;
}

static int r_link(const char *p) { (void)p; return tell_link("fd/9"); }
static int r_cwd_link(const char *p) { (void)p; return tell_link("cwd"); }

/* The link itself may be held by anybody. */
static int r_held_link(const char *p)
{
	char text[512];
	int fd = sys(SYS_open, outside("fd/9"), O_PATH | O_NOFOLLOW);
	(void)p;
	if (fd < 0)
		return errno;
	long n = sys(SYS_readlinkat, fd, "", text, sizeof text);
	return n < 0 ? errno : memmem(text, (size_t)n, "hidden", 6) ? show("secret name") : ENOENT;
}

static int r_list(const char *p)
{
	static char list[4096];
	int fd = sys(SYS_open, outside("fd"), O_RDONLY | O_DIRECTORY);
	(void)p;
	long n = fd < 0 ? -1 : sys(SYS_getdents64, fd, list, sizeof list);
	return n < 0 ? errno : memmem(list, (size_t)n, "\0009", 3) || n > 100 ? show("secret descriptors") : ENOENT;
}

/* Its stack, which holds its environment. */
static int r_memory(const char *p)
{
	static char text[262144];
	unsigned long long from = 0, to = 0;
	char line[512];
	(void)p;
	int fd = sys(SYS_open, outside("maps"), O_RDONLY);
	FILE *maps = fd < 0 ? NULL : fdopen(fd, "r");
	if (!maps)
		return errno;
	while (fgets(line, sizeof line, maps) && !strstr(line, "[stack]"))
		;
	if (sscanf(line, "%llx-%llx", &from, &to) != 2 || to - from > sizeof text)
		return ENOENT;
	fd = sys(SYS_open, outside("mem"), O_RDONLY);
	ssize_t n = fd < 0 ? -1 : pread64(fd, text, to - from, (off64_t)from);
	return n < 0 ? errno : tell(text, (size_t)n);
}

#define PIDFD_OPEN 434
#define PIDFD_GETFD 438

static int r_getfd(const char *p)
{
	(void)p;
	int process = sys(PIDFD_OPEN, atoi(getenv("OUTSIDE")), 0), fd = process < 0 ? -1 : (int)sys(PIDFD_GETFD, process, 9, 0);
	if (fd < 0)
		return errno;
	lseek(fd, 0, SEEK_SET);
	return show_fd(fd);
}

/* Who holds the listener of a filter answers for its programs. */
static int is_listener(int fd)
{
	char link[32], text[64] = "";
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	return readlink(link, text, sizeof text - 1) > 0 && strstr(text, "seccomp");
}

static int r_listener(const char *p)
{
	char children[64], text[64];
	time_t end = time(NULL) + atoi(getenv("PATIENCE"));
	int seen = ENOENT;
	(void)p;
	snprintf(children, sizeof children, "/proc/%s/task/%s/children", getenv("STARTER"), getenv("STARTER"));
	int list = open(children, O_RDONLY);
	while (list >= 0 && time(NULL) < end) {
		ssize_t n = pread(list, text, sizeof text - 1, 0);
		text[n > 0 ? n : 0] = 0;
		int process = atoi(text) > 0 ? (int)sys(PIDFD_OPEN, atoi(text), 0) : -1;
		for (int i = 0; process >= 0 && i < 3000; i++) {
			int fd = sys(PIDFD_GETFD, process, 3 + i % 4, 0);
			if (fd < 0 && errno == ESRCH)
				break;
			if (fd < 0) {
				seen = errno;
				continue;
			}
			if (is_listener(fd))
				return show("secret: who holds this answers for another program");
			close(fd);
		}
		if (process >= 0)
			close(process);
	}
	return seen;
}

const struct attempt others_read_attempts[] = {
	{ "sys-outside-environ", r_environ },
	{ "sys-outside-task-environ", r_task_environ },
	{ "sys-outside-dirfd-environ", r_dirfd_environ },
	{ "sys-outside-link", r_link },
	{ "sys-outside-cwd-link", r_cwd_link },
	{ "sys-outside-held-link", r_held_link },
	{ "sys-outside-list", r_list },
	{ "sys-outside-memory", r_memory },
	{ "sys-outside-getfd", r_getfd },
	{ "listener-starter", r_listener },
	{ 0 },
};
