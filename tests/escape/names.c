/*
 * Rules hold for names. What lies above the hidden place is given another name by mounting it, and a directory that a link
 * of /proc leads to becomes another one.
 */
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <time.h>

#include "attempt.h"

#define OPEN_TREE 428
#define MOVE_MOUNT 429
#define FSOPEN 430
#define FSCONFIG 431
#define FSMOUNT 432
#define CLONE_TREE 1
#define FROM_EMPTY 4            /* of move_mount: the descriptor itself */

static int shown(void) { return show_fd((int)sys(SYS_open, in("work/m/hidden/secret"), O_RDONLY)); }

static int alone(int user)
{
	mkdir(in("work/m"), 0755);
	if (sys(SYS_unshare, (user ? CLONE_NEWUSER : 0) | CLONE_NEWNS))
		return errno;
	sys(SYS_mount, "none", "/", 0, MS_REC | MS_PRIVATE, 0);
	return 0;
}

static int r_bind(const char *p)
{
	int e = alone(0);
	(void)p;
	return e ? e : mount(base, in("work/m"), 0, MS_BIND, 0) ? errno : show_fd(open(in("work/m/hidden/secret"), O_RDONLY));
}

static int r_sys_bind(const char *p)
{
	int e = alone(0);
	(void)p;
	return e ? e : sys(SYS_mount, base, in("work/m"), 0, MS_BIND | MS_REC, 0) ? errno : shown();
}

static int r_userns_bind(const char *p)
{
	int e = alone(1);
	(void)p;
	return e ? e : sys(SYS_mount, base, in("work/m"), 0, MS_BIND | MS_REC, 0) ? errno : shown();
}

static int r_tree(const char *p)
{
	int e = alone(1), tree = e ? -1 : (int)sys(OPEN_TREE, AT_FDCWD, base, CLONE_TREE | 0x8000);
	(void)p;
	return e ? e : tree < 0 || sys(MOVE_MOUNT, tree, "", AT_FDCWD, in("work/m"), FROM_EMPTY) ? errno : shown();
}

static int r_move(const char *p)
{
	const char *near = in("work/near");
	int e = alone(1);
	(void)p;
	if (e || sys(SYS_mount, near, near, 0, MS_BIND | MS_REC, 0))
		return e ? e : errno;
	return sys(SYS_mount, near, in("work/m"), 0, MS_MOVE, 0) ? errno : shown();
}

static int r_overlay(const char *p)
{
	char how[1100];
	int e = alone(1);
	(void)p;
	snprintf(how, sizeof how, "lowerdir=%s:/usr/share", base);
	return e ? e : sys(SYS_mount, "none", in("work/m"), "overlay", 0, how) ? errno : shown();
}

/* The same in the kernel's newer words; the tree itself is in no name space. */
static int r_overlay_tree(const char *p)
{
	char how[1100];
	int e = alone(1), context = e ? -1 : (int)sys(FSOPEN, "overlay", 0);
	(void)p;
	if (context < 0)
		return e ? e : errno;
	snprintf(how, sizeof how, "%s:/usr/share", base);
	if (sys(FSCONFIG, context, 1, "lowerdir", how, 0) || sys(FSCONFIG, context, 6, 0, 0, 0))
		return errno;
	int tree = (int)sys(FSMOUNT, context, 0, 0);
	return tree < 0 ? errno : show_fd((int)sys(SYS_openat, tree, "hidden/secret", O_RDONLY));
}

/* The root directory becomes one in which "hidden" means something else. */
static int r_pivot(const char *p)
{
	int e = alone(1);
	(void)p;
	if (e || sys(SYS_mount, base, in("work/m"), 0, MS_BIND | MS_REC, 0))
		return e ? e : errno;
	if (chdir(in("work/m")) || sys(SYS_pivot_root, ".", "."))
		return errno;
	return show_fd((int)sys(SYS_open, "/hidden/secret", O_RDONLY));
}

/*
 * A child is in work/a and in BASE by turns, or has them open as the same number; the path goes by way of that. What is
 * to be had in work/a is nothing.
 */
static int by_child(const char *way, int number)
{
	char name[128], text[64] = "";
	time_t end = time(NULL) + atoi(getenv("PATIENCE"));
	mkdir(in("work/a"), 0755);
	mkdir(in("work/a/hidden"), 0755);
	close(open(in("work/a/hidden/secret"), O_CREAT | O_WRONLY, 0644));
	int a = open(in("work/a"), O_RDONLY | O_DIRECTORY), b = open(base, O_RDONLY | O_DIRECTORY), e = ENOENT;
	dup2(a, number);
	pid_t pid = fork();
	if (!pid)
		for (;;) {
			sys(SYS_fchdir, a);
			sys(SYS_dup2, a, number);
			sys(SYS_fchdir, b);
			sys(SYS_dup2, b, number);
		}
	snprintf(name, sizeof name, "/proc/%d/%s/hidden/secret", (int)pid, way);
	while (!strstr(text, "secret") && time(NULL) < end) {
		int fd = (int)sys(SYS_open, name, O_RDONLY);
		if (fd < 0)
			e = errno;
		else
			(void)!read(fd, text, sizeof text - 1);
		close(fd);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return *text ? show(text) : e;
}

static int r_cwd(const char *p) { (void)p; return by_child("cwd", 99); }
static int r_fd(const char *p) { (void)p; return by_child("fd/99", 99); }

/*
 * A child has by turns something without a path and, for writing, a file that nobody may read, as the same number; the
 * number is opened for reading.
 */
static int by_object(int object)
{
	char name[128], text[64] = "";
	time_t end = time(NULL) + atoi(getenv("PATIENCE"));
	int secret = (int)sys(SYS_open, in("prefix/stray/doc/secret"), O_WRONLY), e = ENOENT;
	if (secret < 0 || object < 0)
		return errno;
	dup2(object, 99);
	pid_t pid = fork();
	if (!pid)
		for (;;) {
			sys(SYS_dup2, secret, 99);
			sys(SYS_dup2, object, 99);
			sys(SYS_close, 99);
		}
	snprintf(name, sizeof name, "/proc/%d/fd/99", (int)pid);
	while (!strstr(text, "secret") && time(NULL) < end) {
		int fd = (int)sys(SYS_open, name, O_RDONLY | O_NONBLOCK);
		if (fd < 0)
			e = errno;
		else
			(void)!read(fd, text, sizeof text - 1);
		close(fd);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return *text ? show(text) : e;
}

static int r_pipe(const char *p)
{
	int ends[2];
	(void)p;
	return by_object(pipe(ends) ? -1 : ends[0]);
}

static int r_deleted(const char *p)
{
	int fd = open(in("work/deleted"), O_CREAT | O_RDWR, 0644);
	(void)p;
	unlink(in("work/deleted"));
	return by_object(fd);
}

/* ---- a port's files, which are its own by their names ---- */

static int by_rename(const char *to)
{
	char name[1100];
	snprintf(name, sizeof name, "%s/doc/secret", to);
	return sys(SYS_rename, in("prefix/stray"), to) ? errno : show_fd((int)sys(SYS_open, name, O_RDONLY));
}

static int r_ports_rename(const char *p) { (void)p; return by_rename(in("prefix/mine")); }
static int r_ports_out(const char *p) { (void)p; return by_rename(in("work/mine")); }

static int r_ports_exchange(const char *p)
{
	(void)p;
	mkdir(in("work/d"), 0755);
	if (sys(SYS_renameat2, AT_FDCWD, in("work/d"), AT_FDCWD, in("prefix/stray/doc"), 2 /* RENAME_EXCHANGE */))
		return errno;
	return show_fd((int)sys(SYS_open, in("work/d/secret"), O_RDONLY));
}

/* It is without a path by our own doing. */
static int r_deleted_here(const char *p)
{
	char name[64];
	int fd = (int)sys(SYS_open, in("prefix/stray/doc/secret"), O_WRONLY);
	(void)p;
	if (fd < 0 || sys(SYS_unlink, in("prefix/stray/doc/secret")))
		return errno;
	snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
	return show_fd((int)sys(SYS_open, name, O_RDONLY));
}

/* ---- the session's own files: what can be done to them, and is undone, or the next attempts would find no session ---- */

static const char *in_session(const char *session, const char *name)
{
	static char path[2][512];
	static int next;
	char *out = path[next++ % 2];
	snprintf(out, sizeof path[0], "%s/%s", session, name);
	return out;
}

static const char *own(void)
{
	static char path[512];
	snprintf(path, sizeof path, "%s", getenv("LD_PRELOAD") ? getenv("LD_PRELOAD") : "/none/none");
	*strrchr(path, '/') = 0;
	return path;
}

/* A phase of another session, of the same user. */
static const char *others(void)
{
	static char path[512];
	snprintf(path, sizeof path, "%s/1", getenv("OTHERS") ? getenv("OTHERS") : "/none");
	return path;
}

static int taken_away(const char *file, const char *other)
{
	return !sys(SYS_rename, file, other) && !sys(SYS_rename, other, file);
}

/* Of what nobody but the session writes. */
static int change_file(const char *file, mode_t mode, const char *other, const char *changed, const char *away)
{
	if (sys(SYS_open, file, O_RDWR) >= 0 || !sys(SYS_chmod, file, mode) || !sys(SYS_link, file, other))
		return show(changed);
	return taken_away(file, other) ? show(away) : errno;
}

static int change_policy(const char *session)
{
	int done = change_file(in_session(session, "policy"), 0444, in("work/policy"), "secret: the policy could be changed",
			       "secret: the policy could be taken away");
	if (!done)
		return 0;
	if (!sys(SYS_mkdir, in_session(session, "new"), 0755) && !sys(SYS_rmdir, in_session(session, "new")))
		return show("secret: files could be added");
	return errno;
}

static int change_library(const char *session)
{
	return change_file(in_session(session, "tracelib.so"), 0755, in("work/library"), "secret: the library could be changed",
			   "secret: the library could be taken away");
}

static int change_events(const char *session)
{
	const char *events = in_session(session, "events"), *other = in("work/events");
	if (!sys(SYS_chmod, events, 0600) || !sys(SYS_link, events, other))
		return show("secret: programs could be kept from telling anything");
	if (taken_away(events, other))
		return show("secret: the events could be taken away");
	int fd = (int)sys(SYS_open, events, O_RDWR);   /* supervised, the library has to open its own; what is done to it then is noticed */
	return fd >= 0 && !sys(SYS_fchmod, fd, 0600) ? show("secret: programs could be kept from telling anything") : errno;
}

/* The directories above, and the session's under another name. */
static int move_directory(const char *session)
{
	char dir[512], other[512];
	struct stat st;
	snprintf(other, sizeof other, "%s", in("work/session"));
	snprintf(dir, sizeof dir, "%s/", session);
	for (char *end = dir + strlen(dir) - 1; strcmp(dir, "/tmp") && end > dir; end = strrchr(dir, '/')) {
		*end = 0;
		if (!strcmp(dir, "/tmp") || !*dir)
			break;
		if (taken_away(dir, other))
			return show("secret: the session could be taken away");
		/* to the mode that it has: other sessions may be using what lies above */
		if (!stat(dir, &st) && !sys(SYS_chmod, dir, st.st_mode & 07777))
			return show("secret: the session could be opened");
	}
	return errno;
}

static int r_own_policy(const char *p) { (void)p; return change_policy(own()); }
static int r_own_library(const char *p) { (void)p; return change_library(own()); }
static int r_own_events(const char *p) { (void)p; return change_events(own()); }
static int r_own_directory(const char *p) { (void)p; return move_directory(own()); }
static int r_others_policy(const char *p) { (void)p; return change_policy(others()); }
static int r_others_library(const char *p) { (void)p; return change_library(others()); }
static int r_others_events(const char *p) { (void)p; return change_events(others()); }
static int r_others_directory(const char *p) { (void)p; return move_directory(others()); }
static int r_others_read(const char *p) { (void)p; return show_fd((int)sys(SYS_open, in_session(others(), "policy"), O_RDONLY)); }

const struct attempt name_read_attempts[] = {
	{ "bind-above", r_bind },
	{ "sys-bind-above", r_sys_bind },
	{ "sys-userns-bind-above", r_userns_bind },
	{ "sys-userns-tree-above", r_tree },
	{ "sys-userns-move-above", r_move },
	{ "sys-userns-overlay-above", r_overlay },
	{ "sys-userns-overlay-tree-above", r_overlay_tree },
	{ "sys-userns-pivot", r_pivot },
	{ "sys-race-cwd-of-another", r_cwd },
	{ "sys-race-fd-of-another", r_fd },
	{ "sys-race-pipe-of-another", r_pipe },
	{ "sys-race-deleted-of-another", r_deleted },
	{ "sys-ports-rename", r_ports_rename },
	{ "sys-ports-rename-out", r_ports_out },
	{ "sys-ports-exchange", r_ports_exchange },
	{ "sys-deleted-reopened", r_deleted_here },
	{ "sys-own-policy", r_own_policy },
	{ "sys-own-library", r_own_library },
	{ "sys-own-events", r_own_events },
	{ "sys-own-directory", r_own_directory },
	{ "sys-others-policy", r_others_policy },
	{ "sys-others-library", r_others_library },
	{ "sys-others-events", r_others_events },
	{ "sys-others-directory", r_others_directory },
	{ "sys-others-policy-read", r_others_read },
	{ 0 },
};
