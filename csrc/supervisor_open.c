/* open(2) and its kin. */
#include <linux/openat2.h>
#include <stdio.h>

#include "procstat.h"
#include "supervisor_answer.h"

#define KNOWN_FLAGS ((uint64_t)(O_ACCMODE | O_TRUNC | O_APPEND | O_NONBLOCK | O_SYNC | O_DSYNC | O_DIRECT | 0100000 /* O_LARGEFILE */ | \
	O_DIRECTORY | O_NOATIME | O_PATH))

/* A fifo's open waits for the other end. */
static long opens(struct pt_waiting *w)
{
	char link[32];
	pt_own_fd_link(w->fds[0], link);
	return open(link, (int)(w->flags & ~(uint64_t)(O_CREAT | O_EXCL | O_NOFOLLOW)) | O_CLOEXEC | O_NOCTTY);
}

/* The terminal of the one that asks, which has this name for everybody. */
static bool own_terminal(const struct pt_task *t, char out[32])
{
	struct pt_process p;
	if (!pt_process_look((int32_t)t->pid, &p) || !p.terminal)
		return false;
	unsigned device = p.terminal, kind = device >> 8 & 0xfff, number = (device & 0xff) | (device >> 12 & 0xfff00);
	if (kind >= 136 && kind <= 143)
		snprintf(out, 32, "/dev/pts/%u", number + (kind - 136) * 256);
	else if (kind == 4)
		snprintf(out, 32, number < 64 ? "/dev/tty%u" : "/dev/ttyS%u", number < 64 ? number : number - 64);
	return kind == 4 || (kind >= 136 && kind <= 143);
}

/*
 * The open is done here and handed over: what was judged is what is opened, whatever another thread does to the text
 * or the links meanwhile.
 */
static int open_for(struct pt_task *t, uint64_t flags, unsigned mode)
{
	bool own = starts(t->at.physical, "/proc") || is_redirected(t);
	struct open_how how = {
		/* open ignores what it does not know, openat2 refuses it */
		.flags = (flags & KNOWN_FLAGS) | O_CLOEXEC | (flags & O_PATH ? 0 : O_NOCTTY),
		.resolve = own ? 0 : RESOLVE_NO_SYMLINKS,
	};
	if (t->last_link)
		how.flags |= O_NOFOLLOW;
	if (t->at.slash && !(flags & O_CREAT))
		how.flags |= O_DIRECTORY;
	struct stat st;
	if (!strcmp(t->at.physical, "/dev/tty")) {
		if (!own_terminal(t, t->at.physical))
			return ENXIO;
		t->at.physical_len = strlen(t->at.physical);
	}
	bool there = pt_target_lstat(t->at.physical, &st) == 0;
	if (there && S_ISFIFO(st.st_mode) && !(flags & (O_NONBLOCK | O_PATH)) && (flags & O_ACCMODE) != O_RDWR) {
		int held = pt_hold_judged(t);
		if (held < 0)
			return held == AGAIN ? AGAIN : -held;
		struct pt_waiting w = { .attempt = opens, .gives = true, .fds = { held, -1 }, .flags = flags };
		int error = pt_wait_apart(t, &w);
		close(held);
		return error;
	}
	if (there && S_ISLNK(st.st_mode) && t->last_link && !(flags & (O_PATH | O_EXCL)))
		return flags & O_DIRECTORY ? ENOTDIR : ELOOP;
	if (flags & O_CREAT) {
		if (t->at.slash)
			return EISDIR;
		if (there && (flags & O_EXCL))
			return EEXIST;
		if (there && S_ISDIR(st.st_mode))
			return EISDIR;
		if (!there) {
			how.flags |= O_CREAT | O_EXCL;
			how.mode = mode & 07777;
		}
	}
	if ((flags & O_TMPFILE) == O_TMPFILE) {
		how.flags |= O_TMPFILE | (flags & O_EXCL);
		how.mode = mode & 07777;
	}
	if (how.flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY)))
		pt_take_umask(t);
	/* To open may mean to wait for others, which must not be done here; not so a plain file that nobody can exchange. */
	bool plain = there && S_ISREG(st.st_mode) && pt_way_stays(t) && !t->last_link, waits = !(flags & (O_NONBLOCK | O_PATH));
	if (waits && !plain)
		how.flags |= O_NONBLOCK;
	long fd;
	if (pt_is_object(t)) { /* whether it was there or not: by now it may be another one */
		char link[32];
		int held = pt_hold_judged(t);
		if (held < 0)
			return held == AGAIN ? AGAIN : -held;
		pt_own_fd_link(held, link);
		fd = pt_open_as_program(t, link, &how);
		int error = errno;
		close(held);
		errno = error;
	} else {
		fd = pt_open_as_program(t, t->at.physical, &how);
	}
	if (fd < 0 && !own && (errno == ELOOP || (errno == EEXIST && !there && !(flags & O_EXCL)) || (errno == ENOENT && there)))
		return AGAIN;
	if (fd < 0)
		return errno;
	if (waits && !plain)
		fcntl((int)fd, F_SETFL, fcntl((int)fd, F_GETFL) & ~O_NONBLOCK);
	/* A notification hands no descriptor of the kind O_PATH over. */
	int error = flags & O_PATH ? pt_borrow_take(t, (int)fd, flags & O_CLOEXEC) : pt_hand_over(t, (int)fd, flags);
	close((int)fd);
	return error;
}

/* What the injected library opens in a process that has both: its reports. */
static bool is_events(const struct pt_task *t)
{
	const size_t n = t->sup->dir_len;
	return t->at.real_len > n && !memcmp(t->at.real, t->sup->dir, n) && !strcmp(t->at.real + n, "/events");
}

/* The memory of a process lies open in /proc: only its own, and that of its children, is a program's to write. */
static bool is_others_memory(struct pt_task *t)
{
	const char *name = t->at.real + t->at.real_len - 4;
	pid_t other = 0;
	return t->access > PT_ACC_READLINK && t->at.real_len > 10 && starts(t->at.real, "/proc") && !memcmp(name, "/mem", 4) &&
	       sscanf(t->at.real, "/proc/%d/", &other) == 1 && pt_answer_meddle(t, other) != GO_ON;
}

/* What a program loads into itself is this system's, where a redirect has a fallback: as in the injected library (pt_runs_own). */
static bool is_own_library(const struct pt_task *t)
{
	unsigned char head[18];
	if (!(t->verdict.flags & PT_V_FALLBACK))
		return false;
	int fd = open(t->at.real, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
	ssize_t n = fd < 0 ? -1 : read(fd, head, sizeof head);
	if (fd >= 0)
		close(fd);
	return n == sizeof head && !memcmp(head, "\177ELF", 4) && head[16] == 3 /* ET_DYN */ && !head[17];
}

static int answer_open_once(struct pt_task *t, uint64_t flags, unsigned create_mode)
{
	unsigned mode = flags & O_ACCMODE, judge = 0, resolve = 0;
	if (flags & O_PATH) {
		flags &= O_PATH | O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC;
		mode = O_RDONLY;
		t->access = PT_ACC_STAT;
	} else if ((flags & O_TMPFILE) == O_TMPFILE) {
		t->access = PT_ACC_WRITE; /* the directory is what is named, and has to be there */
	} else if (flags & O_CREAT) {
		t->access = PT_ACC_WRITE;
		judge = PT_J_MAY_CREATE | (flags & O_EXCL ? PT_J_EXCL : 0) |
			(mode == O_RDONLY && !(flags & (O_TRUNC | O_EXCL)) ? PT_J_NO_WRITE : 0);
		resolve = PT_RES_CREATE;
	} else if (mode != O_RDONLY || (flags & O_TRUNC)) {
		t->access = PT_ACC_WRITE;
	} else {
		t->access = flags & O_DIRECTORY ? PT_ACC_LIST : PT_ACC_READ;
	}
	if (mode == O_RDWR)
		judge |= PT_J_ALSO_READ;
	if ((flags & O_NOFOLLOW) || (flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL))
		resolve |= PT_RES_NOFOLLOW_LAST;
	t->loose = false;
	int error = pt_task_resolve(t, dirfd_of(t), arg(t, t->call->path), resolve);
	if (error)
		return error;
	bool nameless = (flags & O_TMPFILE) == O_TMPFILE && !(flags & O_PATH);
	if (is_events(t))
		error = t->at.error;
	else if (nameless && !t->at.error && pt_decide(t->sup->image, PT_WRITE, t->at.real, t->at.real_len).action != PT_DENY)
		error = 0; /* it lies in the directory that is named */
	else
		error = pt_task_judge(t, judge);
	if (error)
		return error;
	if (is_others_memory(t))
		return EACCES;
	if ((flags & O_PATH) && (t->sup->flags & PT_IMG_AUDIT) && !is_redirected(t))
		return GO_ON;
	if (t->access <= PT_ACC_READLINK && is_redirected(t) && is_own_library(t)) {
		memcpy(t->at.physical, t->at.real, t->at.real_len + 1);
		t->at.physical_len = t->at.real_len;
	}
	t->last_link = (flags & O_NOFOLLOW) != 0 || (resolve & PT_RES_NOFOLLOW_LAST);
	return open_for(t, flags, create_mode);
}

/* What was judged is gone when it is opened (another process exchanges links or directories): judged anew, never let go. */
int pt_answer_open(struct pt_task *t, uint64_t flags, unsigned mode)
{
	for (int tries = 0; tries < TRIES; tries++) {
		int result = answer_open_once(t, flags, mode);
		if (result != AGAIN)
			return result;
	}
	return flags & O_CREAT ? EAGAIN : ELOOP;
}

int pt_answer_openat2(struct pt_task *t)
{
	struct open_how how = { 0 };
	uint64_t size = arg(t, t->call->flags + 1);
	if (size < sizeof how)
		return EINVAL;
	if (!pt_target_read(t->pid, arg(t, t->call->flags), &how, sizeof how))
		return EFAULT;
	if (how.resolve)
		return ENOSYS; /* other rules of resolving than those judged here: programs fall back to openat */
	return pt_answer_open(t, how.flags, (unsigned)how.mode);
}

