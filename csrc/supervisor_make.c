/*
 * Names: made, removed, moved. The call is made here, on a descriptor of the directory that was judged: were it left to
 * the kernel, that would read the path again, and a second thread that exchanges it meanwhile would learn from the
 * errno whether a hidden name is there. What holds us is what holds the program: its ids and none of root's
 * capabilities (supervisor_rights.c), its umask, and in place of the kernel's fence the write map, by which each name is judged.
 */
#include <inttypes.h>
#include <linux/openat2.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "supervisor_answer.h"

#define NAME_CAP 258          /* the longest name, a slash, the NUL */

enum last { LAST_NORMAL, LAST_DOT, LAST_DOTDOT, LAST_ROOT };

/* An entry that was judged: the directory that it lies in, and its name there, with a slash behind it where the path had one. */
struct entry {
	int dir;
	enum last last;
	struct pt_verdict read;        /* of link and rename: may it be read? */
	char name[NAME_CAP];
};

static enum last last_of(const char *asked)
{
	size_t len = strlen(asked);
	while (len && asked[len - 1] == '/')
		len--;
	size_t from = len;
	while (from && asked[from - 1] != '/')
		from--;
	len -= from;
	return !len ? LAST_ROOT : len == 1 && asked[from] == '.' ? LAST_DOT : len == 2 && asked[from] == '.' && asked[from + 1] == '.' ? LAST_DOTDOT : LAST_NORMAL;
}

/* 0; AGAIN where something on the way has been exchanged; or an errno. */
static int hold(struct pt_task *t, struct entry *e)
{
	char *slash = strrchr(t->at.physical, '/');
	bool own = starts(t->at.physical, "/proc") || is_redirected(t);
	struct open_how how = { .flags = O_PATH | O_DIRECTORY | O_CLOEXEC, .resolve = own ? 0 : RESOLVE_NO_SYMLINKS };
	e->dir = -1;
	e->last = last_of(t->asked);
	if (e->last != LAST_NORMAL)
		return 0;
	size_t len = slash ? strlen(slash + 1) : 0;
	if (!len)
		return EBUSY; /* a link that leads to the root; followed here only for a link's first name */
	if (len + 2 > NAME_CAP)
		return ENAMETOOLONG;
	memcpy(e->name, slash + 1, len + 1);
	if (t->asked[strlen(t->asked) - 1] == '/')
		memcpy(e->name + len, "/", 2);
	*slash = 0;
	e->dir = (int)pt_target_openat2(slash == t->at.physical ? "/" : t->at.physical, &how);
	int error = errno;
	*slash = '/';
	return e->dir >= 0 ? 0 : error == ELOOP && !own ? AGAIN : error;
}

static void release(struct entry *e)
{
	if (e->dir >= 0)
		close(e->dir);
	e->dir = -1;
}

static int not_normal(enum pt_sc_shape shape, enum last last, bool directory)
{
	if (shape == PT_SH_RENAME)
		return EBUSY;
	if (shape != PT_SH_REMOVE)
		return EEXIST;
	if (!directory)
		return EISDIR;
	return last == LAST_DOT ? EINVAL : last == LAST_DOTDOT ? ENOTEMPTY : EBUSY;
}

static int result(long r)
{
	return r ? errno : DONE;
}

/* Workers have their umask each. A directory's default access list, where it has one, takes its place: that is the kernel's to do. */
void pt_take_umask(const struct pt_task *t)
{
	(void)umask((mode_t)pt_target_umask(t->pid));
}

static int make_node(const struct entry *e, mode_t mode, dev_t device)
{
	switch (mode & S_IFMT) {
	case S_IFCHR:
	case S_IFBLK:
		return EPERM; /* a door around everything; the kernel's fence has none either */
	default:
		return result(mknodat(e->dir, e->name, mode, device));
	}
}

static int make_link(struct pt_task *t, const struct entry *e)
{
	ssize_t len = pt_target_text(t->pid, arg(t, 0), t->full, 4097);
	if (len < 0)
		return len == -ENAMETOOLONG ? ENAMETOOLONG : EFAULT;
	return len ? result(symlinkat(t->full, e->dir, e->name)) : ENOENT;
}

static int do_entry(struct pt_task *t, const struct entry *e)
{
	int next = t->call->path + 1;
	switch (t->call->shape) {
	case PT_SH_MKDIR:
		pt_take_umask(t);
		return result(mkdirat(e->dir, e->name, (mode_t)arg(t, next)));
	case PT_SH_MKNOD:
		pt_take_umask(t);
		return make_node(e, (mode_t)arg(t, next), (dev_t)arg(t, next + 1));
	case PT_SH_SYMLINK:
		return make_link(t, e);
	case PT_SH_REMOVE:
		return result(unlinkat(e->dir, e->name, t->call->flags >= 0 ? (int)at_flags(t) : t->call->flags == PT_SC_RMDIR ? AT_REMOVEDIR : 0));
	default:
		return ENOSYS;
	}
}

/* What is to be made: that there is something which is no directory is said before what a slash behind it asks for. */
static int resolve_new(struct pt_task *t, int dir, uint64_t address)
{
	const unsigned flags = PT_RES_ENTRY | PT_RES_NOFOLLOW_LAST | PT_RES_CREATE;
	int error = pt_task_resolve(t, dir, address, flags);
	size_t len = strlen(t->asked);
	if (error || t->at.error != ENOTDIR || !len || t->asked[len - 1] != '/')
		return error;
	while (len && t->asked[len - 1] == '/')
		len--;
	return pt_task_resolve_text(t, dir, t->asked, len, flags);
}

/* Around what can put another directory or link in the place of one: see pt_events_unmoved. */
static void move_begins(const struct pt_task *t)
{
	if (t->sup->events)
		pt_events_move_begins(t->sup->events);
}

static void move_ends(const struct pt_task *t, int error)
{
	if (!t->sup->events)
		return;
	if (error == DONE)
		pt_events_bump(t->sup->events);
	pt_events_move_ends(t->sup->events);
}

/* One name: mkdir, mknod, symlink, unlink, rmdir. */
static int answer_entry(struct pt_task *t)
{
	struct entry e;
	bool removes = t->call->shape == PT_SH_REMOVE;
	bool directory = t->call->flags == PT_SC_RMDIR || (t->call->flags >= 0 && (at_flags(t) & AT_REMOVEDIR));
	if (removes && t->call->flags >= 0 && (at_flags(t) & ~(unsigned)AT_REMOVEDIR))
		return EINVAL;
	t->access = t->call->access;
	int error = removes ? pt_task_resolve(t, dirfd_of(t), arg(t, t->call->path), PT_RES_ENTRY | PT_RES_NOFOLLOW_LAST)
			    : resolve_new(t, dirfd_of(t), arg(t, t->call->path));
	if (!error)
		error = pt_task_judge(t, 0);
	if (!error)
		error = hold(t, &e);
	if (error)
		return error;
	if (e.last != LAST_NORMAL)
		return not_normal(t->call->shape, e.last, directory);
	const bool moves = t->call->shape == PT_SH_SYMLINK;
	if (moves)
		move_begins(t);
	error = do_entry(t, &e);
	if (moves)
		move_ends(t, error);
	release(&e);
	return error;
}

/* As often as something on the way is exchanged meanwhile, within reason. */
static int insist(struct pt_task *t, int (*answer)(struct pt_task *))
{
	int error = AGAIN;
	for (int tries = 0; tries < TRIES && error == AGAIN; tries++)
		error = answer(t);
	return error == AGAIN ? ELOOP : error;
}

int pt_answer_entry(struct pt_task *t)
{
	return insist(t, answer_entry);
}

/* ---- two names ---- */

/* The number where `asked` is the program's own /proc/self/fd/N, by which nameless files get their name; or -1. */
static int own_descriptor(const struct pt_task *t)
{
	int n = -1, pid = 0, end = 0;
	if (sscanf(t->asked, "/proc/self/fd/%d%n", &n, &end) == 1 && !t->asked[end])
		return n;
	end = 0;
	return sscanf(t->asked, "/proc/%d/fd/%d%n", &pid, &n, &end) == 2 && !t->asked[end] && pid == t->pid ? n : -1;
}

/* Of an open file that was judged. What has no name (any more) was made so, and hides nothing; nor does a pipe. */
static struct pt_verdict read_of_open(struct pt_task *t, int copy)
{
	struct pt_verdict v = { .action = PT_ALLOW, .rule = PT_NO_RULE, .port = PT_NO_PORT };
	struct stat st;
	if (fstat(copy, &st) || !st.st_nlink || (t->at.real_len && t->at.real[0] != '/'))
		return v;
	if (t->at.real_len)
		return pt_task_decide(t, PT_READ);
	if ((fcntl(copy, F_GETFL) & O_ACCMODE) == O_WRONLY) /* further down than the kernel tells */
		v.action = PT_DENY;
	return v;
}

/* The first name of a link or rename. A link of what is open: *copy is a descriptor of it. */
static int first_name(struct pt_task *t, uint64_t address, struct entry *e, int *copy)
{
	bool link = t->call->shape == PT_SH_LINK, follow = link && (at_flags(t) & AT_SYMLINK_FOLLOW);
	int number = -1, error = 0;
	e->dir = *copy = -1;
	e->last = LAST_NORMAL;
	t->access = t->call->access;
	if (link && (at_flags(t) & AT_EMPTY_PATH) && is_empty(t, address)) {
		number = dirfd_of(t);
		if (number < 0)
			return number == AT_FDCWD ? EPERM : EBADF; /* nothing links directories */
	} else {
		error = pt_task_resolve(t, dirfd_of(t), address, follow ? 0 : PT_RES_ENTRY | PT_RES_NOFOLLOW_LAST);
		if (error)
			return error;
		if (follow)
			number = own_descriptor(t);
	}
	if (number >= 0) {
		*copy = pt_target_fd(t->pid, number);
		error = *copy < 0 ? (*copy == -EPERM ? EACCES : EBADF) : pt_task_judge_open(t, *copy); /* it gets a further name */
		if (!error)
			e->read = read_of_open(t, *copy);
		return error;
	}
	/* A hard link makes the first file changeable through the second name: it must be writable itself. */
	error = pt_task_judge(t, 0);
	if (error)
		return error;
	e->read = t->at.read;
	if (follow) /* what it leads to: that path has an end of its own */
		memcpy(t->asked, t->at.real, t->at.real_len + 1);
	return hold(t, e);
}

/* Does what may be changed only come by a new name to where it can be read? */
static bool shows(const struct entry *from, const struct entry *to)
{
	return from->read.action == PT_DENY && (to->read.action != PT_DENY || (to->read.flags & PT_V_BELOW));
}

/* The first name once more, to tell of it: by now the task is about the second. */
static int refuse_first(struct pt_task *t, uint64_t address, const struct entry *e, int copy)
{
	bool follow = t->call->shape == PT_SH_LINK && (at_flags(t) & AT_SYMLINK_FOLLOW);
	if (copy < 0) {
		int error = pt_task_resolve(t, dirfd_of(t), address, follow ? 0 : PT_RES_ENTRY | PT_RES_NOFOLLOW_LAST);
		if (error)
			return error;
	} else {
		ssize_t len = pt_own_fd_path(copy, t->at.real);
		t->at.real_len = len > 0 && len < PT_PATH_CAP - 1 ? (size_t)len : 0;
		t->at.real[t->at.real_len] = 0;
		t->asked[0] = 0;
	}
	return pt_task_hide(t, e->read, copy >= 0);
}

static int answer_two(struct pt_task *t)
{
	struct entry from = { .dir = -1 }, to = { .dir = -1 };
	char link[32];
	bool links = t->call->shape == PT_SH_LINK;
	int dir = t->call->dir, path = t->call->path, copy;
	int second_dir = dir < 0 ? AT_FDCWD : (int)arg(t, dir + 2);
	uint64_t first = arg(t, path), second = arg(t, dir < 0 ? path + 1 : path + 2);
	unsigned flags = at_flags(t);
	if (links && (flags & ~(unsigned)(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH)))
		return EINVAL;
	int error = first_name(t, first, &from, &copy);
	if (!error) {
		t->access = t->call->access;
		error = links ? resolve_new(t, second_dir, second)
			      : pt_task_resolve(t, second_dir, second, PT_RES_ENTRY | PT_RES_NOFOLLOW_LAST | PT_RES_CREATE);
	}
	if (!error)
		error = pt_task_judge(t, PT_J_MAY_CREATE);
	to.read = t->at.read;
	if (!error)
		error = hold(t, &to);
	if (!error && !links && (flags & RENAME_EXCHANGE) && shows(&to, &from))
		error = pt_task_hide(t, to.read, false);
	if (!error && shows(&from, &to))
		error = refuse_first(t, first, &from, copy);
	if (!error) {
		pt_own_fd_link(copy, link);
		move_begins(t);
		if (from.last != LAST_NORMAL || to.last != LAST_NORMAL)
			error = links && from.last != LAST_NORMAL ? EPERM : not_normal(t->call->shape, to.last, false);
		else if (!links)
			error = result(syscall(SYS_renameat2, from.dir, from.name, to.dir, to.name, flags));
		else
			error = result(copy >= 0 ? linkat(AT_FDCWD, link, to.dir, to.name, AT_SYMLINK_FOLLOW)
						 : linkat(from.dir, from.name, to.dir, to.name, 0));
		move_ends(t, error);
	}
	if (copy >= 0)
		close(copy);
	release(&from);
	release(&to);
	return error;
}

int pt_answer_two(struct pt_task *t)
{
	return insist(t, answer_two);
}

/* ---- truncate ---- */

/* The program's limit for the size of a file holds where the program itself writes; here it must be asked for. */
static uint64_t size_limit(pid_t pid)
{
	char name[64], line[256];
	uint64_t limit = UINT64_MAX;
	snprintf(name, sizeof name, "/proc/%d/limits", (int)pid);
	FILE *f = fopen(name, "re");
	if (!f)
		return 0;
	while (fgets(line, sizeof line, f))
		if (!strncmp(line, "Max file size", 13) && sscanf(line + 13, "%" SCNu64, &limit) != 1)
			limit = UINT64_MAX; /* "unlimited" */
	fclose(f);
	return limit;
}

int pt_do_truncate(struct pt_task *t, int fd)
{
	char link[32];
	struct stat st;
	int64_t length = t->compat ? (int32_t)arg(t, 1) : (int64_t)arg(t, 1);
	if (t->compat && !strcmp(t->call->name, "truncate64"))
		length = (int64_t)(arg(t, 1) | arg(t, 2) << 32);
	if (length > 0 && !fstat(fd, &st) && length > st.st_size && (uint64_t)length > size_limit(t->pid)) {
		(void)syscall(SYS_tkill, t->pid, SIGXFSZ);
		return EFBIG;
	}
	pt_own_fd_link(fd, link);
	return result(truncate(link, length));
}
