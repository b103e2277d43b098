/* From a path in the target's memory to the policy's verdict, and what is reported of it. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "supervisor_answer.h"

/* Asked only where a redirect leads elsewhere. A program that has it keeps it until it executes another. */
static bool carries_library(struct pt_task *t)
{
	if (t->sup->alone)
		return false;
	struct pt_tree *tree = t->tree;
	pid_t *slot = &tree->carriers[(unsigned)t->pid % (sizeof tree->carriers / sizeof *tree->carriers)];
	pthread_mutex_lock(&tree->lock);
	if (*slot != t->pid && pt_target_maps(t->pid, t->sup->dir, "/tracelib.so"))
		*slot = t->pid;
	bool carries = *slot == t->pid;
	pthread_mutex_unlock(&tree->lock);
	return carries;
}

size_t pt_task_own_name(struct pt_task *t, char *path, size_t len)
{
	if (carries_library(t))
		return len; /* which does that itself */
	size_t n = pt_unredirect(t->sup->image, path, len, t->scratch, PT_PATH_CAP);
	if (!n)
		return len;
	memcpy(path, t->scratch, n);
	path[n] = 0;
	return n;
}

int pt_task_resolve_text(struct pt_task *t, int fd, const char *text, size_t len, unsigned flags)
{
	size_t base = 0;
	if (!len || text[0] != '/') {
		ssize_t got = pt_target_path(t->pid, fd, t->full, PT_PATH_CAP);
		if (got == -EBADF || (got >= 0 && t->full[0] != '/'))
			return got < 0 ? EBADF : ENOTDIR; /* said here: it may be another descriptor when the kernel looks */
		if (got < 0)
			return got == -ENAMETOOLONG ? ENAMETOOLONG : EACCES; /* what cannot be known is not let through */
		base = (size_t)got;
		if (t->sup->flags & PT_IMG_REDIRECTS)
			base = pt_task_own_name(t, t->full, base);
	}
	if (base + len + 2 > PT_PATH_CAP)
		return ENAMETOOLONG;
	if (len) {
		t->full[base] = '/';
		memcpy(t->full + base + (base != 0 || text[0] != '/'), text, len);
		base += len + (base != 0 || text[0] != '/');
	}
	t->full[base] = 0;
	struct pt_fs fs = pt_target_fs;
	fs.user = t;
	if ((t->sup->flags & PT_IMG_REDIRECTS) && carries_library(t)) {
		/* It has been redirected already, by the library; what still comes by its own name means just that. */
		pt_resolve(NULL, &fs, t->full, base, flags, t->scratch, &t->at);
		t->at.real[t->at.real_len] = 0;
		t->at.read = pt_decide(t->sup->image, PT_READ, t->at.real, t->at.real_len);
		if (t->at.read.action == PT_ALLOW || (t->at.read.action == PT_REDIRECT && (t->at.read.flags & PT_V_FALLBACK)))
			return 0;
		t->at.physical = t->physical;
	}
	/* `real` and `physical` were set to the task's buffers; the resolver may point the second at the first. */
	pt_resolve(t->sup->image, &fs, t->full, base, flags, t->scratch, &t->at);
	t->at.real[t->at.real_len] = 0;
	return 0;
}

int pt_task_resolve(struct pt_task *t, int fd, uint64_t address, unsigned flags)
{
	ssize_t len;
	t->asked[0] = 0;
	t->last_link = flags & PT_RES_NOFOLLOW_LAST;
	if (!address)
		return EFAULT;
	len = pt_target_text(t->pid, address, t->asked, 4097);
	if (len == -EPERM)
		return EACCES; /* it does not let itself be looked at: what cannot be known is not let through */
	if (len < 0)
		return len == -EFAULT ? EFAULT : ENAMETOOLONG;
	if (!len)
		return ENOENT;
	return pt_task_resolve_text(t, fd, t->asked, (size_t)len, flags);
}

/* ---- verdict: the same rules as in the injected library ---- */

static bool is_dir(const struct pt_task *t)
{
	struct stat st;
	return pt_target_lstat(t->at.physical, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool exists(const struct pt_task *t)
{
	struct stat st;
	return pt_target_lstat(t->at.physical, &st) == 0;
}

static bool readable(const struct pt_task *t, struct pt_verdict v)
{
	if (v.action != PT_DENY)
		return true;
	if (t->at.real_len == 1)
		return true; /* the root directory is always there */
	return (pt_by_itself(v) || (t->sup->flags & PT_IMG_DIRS_VISIBLE)) && is_dir(t);
}

static int refuse(struct pt_task *t, struct pt_verdict v, uint8_t outcome, int error)
{
	t->verdict = v;
	t->outcome = outcome;
	if (!(v.flags & PT_V_SILENT))
		pt_task_report(t, PT_EV_FINDING, outcome, error);
	atomic_fetch_add_explicit(&t->sup->refused, 1, memory_order_relaxed);
	return t->sup->flags & PT_IMG_AUDIT ? 0 : error;
}

static void note_rule(struct pt_task *t);

struct pt_verdict pt_task_decide(struct pt_task *t, enum pt_map map)
{
	struct pt_verdict v = pt_decide(t->sup->image, map, t->at.real, t->at.real_len);
	pt_task_ask_live(t, map, t->at.real, t->at.real_len, &v);
	return v;
}

int pt_task_hide(struct pt_task *t, struct pt_verdict read, bool there)
{
	t->access = PT_ACC_READ;       /* what would have to be allowed */
	return refuse(t, read, there || exists(t) ? PT_OUT_HIDE : PT_OUT_ABSENT, ENOENT);
}

static int judge_write(struct pt_task *t, unsigned flags, struct pt_verdict read)
{
	struct pt_verdict write = pt_task_decide(t, PT_WRITE);
	bool there = exists(t);
	if ((flags & PT_J_NO_WRITE) && there) {
		t->access = PT_ACC_READ;
		if (readable(t, read))
			return 0;
		/* as it would be if it were not there, and had to be made */
		return refuse(t, read, PT_OUT_HIDE, write.action == PT_DENY ? EACCES : ENOENT);
	}
	if (write.action != PT_DENY) {
		t->verdict = write;
		if (there && t->access == PT_ACC_RENAME &&
		    (pt_rules_below(t->sup->image, PT_READ, t->at.real, t->at.real_len) || pt_holds_hidden(t, read)))
			return refuse(t, write, PT_OUT_DENY, EACCES);
		if (!(flags & PT_J_ALSO_READ) || !there || readable(t, read))
			return 0;
		return refuse(t, read, PT_OUT_HIDE, ENOENT);
	}
	bool visible = there && readable(t, read);
	if (t->access == PT_ACC_CREATE || (flags & PT_J_MAY_CREATE)) {
		if (visible && (t->access == PT_ACC_CREATE || (flags & PT_J_EXCL)))
			return EEXIST;
		return refuse(t, write, PT_OUT_DENY, EACCES);
	}
	if (!there)
		return readable(t, read) ? ENOENT : refuse(t, read, PT_OUT_ABSENT, ENOENT);
	if (t->access == PT_ACC_DELETE && !pt_by_itself(read))
		visible = false;
	if (!visible)
		return refuse(t, read, PT_OUT_HIDE, ENOENT);
	return refuse(t, write, PT_OUT_DENY, EACCES);
}

/* The redirect's target lacks a file that its own place has: used where the rule has a fallback, else hidden. */
static void tell_missing(struct pt_task *t)
{
	struct stat st;
	bool fallback = t->verdict.flags & PT_V_FALLBACK;
	if (fallback ? strcmp(t->at.physical, t->at.real) != 0 : exists(t))
		return;
	if (pt_target_lstat(t->at.real, &st) == 0 && !S_ISDIR(st.st_mode))
		pt_task_report(t, PT_EV_FINDING, PT_OUT_REDIRECTED_MISSING, fallback ? 0 : ENOENT);
}

static int judge(struct pt_task *t, unsigned flags)
{
	if (!t->at.hidden && !t->at.error)
		pt_task_ask_live(t, PT_READ, t->at.real, t->at.real_len, &t->at.read);
	struct pt_verdict read = t->at.read;
	int error;
	t->verdict = read;
	bool absent = t->at.error == ENOENT && read.action == PT_DENY && !(read.flags & (PT_V_ASKED | PT_V_BELOW));
	if (t->at.hidden || absent) {
		/* Whether a hidden directory is there must not show by the errno of what would be made in it. */
		if (!t->at.up && !(t->at.hidden && pt_by_itself(read)) && (t->access == PT_ACC_CREATE || (flags & PT_J_MAY_CREATE)) && pt_task_decide(t, PT_WRITE).action == PT_DENY)
			return refuse(t, pt_task_decide(t, PT_WRITE), PT_OUT_DENY, EACCES);
		return refuse(t, read, t->at.hidden ? PT_OUT_HIDE : PT_OUT_ABSENT, ENOENT);
	}
	if (t->at.error)
		return t->at.error; /* the walk ends before the last component: the kernel's to say */
	if (t->access != PT_ACC_STAT && pt_is_others_place(t, t->at.physical))
		return EACCES;
	if (t->access > PT_ACC_READLINK)
		error = judge_write(t, flags, read);
	else if (!readable(t, read))
		error = refuse(t, read, exists(t) ? PT_OUT_HIDE : PT_OUT_ABSENT, ENOENT);
	else if ((flags & PT_J_PROBE_WRITE) && !(t->sup->flags & PT_IMG_AUDIT) &&
		 pt_task_decide(t, PT_WRITE).action == PT_DENY && exists(t))
		error = EACCES;
	else
		error = 0;
	if (!error && (t->verdict.flags & PT_V_UNOWNED) && t->access <= PT_ACC_READLINK && !(t->verdict.flags & PT_V_SILENT) &&
	    exists(t) && !is_dir(t))
		pt_task_report(t, PT_EV_FINDING, PT_OUT_UNOWNED, 0);
	if (!error && t->verdict.port != PT_NO_PORT && t->verdict.action == PT_ALLOW && t->access <= PT_ACC_READLINK && exists(t))
		pt_task_report(t, PT_EV_USED, PT_OUT_ALLOW, 0);
	note_rule(t);
	if (!error && t->verdict.action == PT_REDIRECT && t->access <= PT_ACC_READLINK)
		tell_missing(t);
	return error;
}

int pt_task_judge(struct pt_task *t, unsigned flags)
{
	t->outcome = PT_OUT_ALLOW;
	int error = judge(t, flags);
	if (t->sup->flags & PT_IMG_LOG) {
		bool redirected = t->outcome == PT_OUT_ALLOW && t->verdict.action == PT_REDIRECT;
		int seen = error;
		if (!error && t->access <= PT_ACC_READLINK)
			seen = !exists(t) ? ENOENT : t->access == PT_ACC_LIST && !is_dir(t) ? ENOTDIR : 0;
		pt_task_report(t, PT_EV_ACCESS, redirected ? PT_OUT_REDIRECT : t->outcome, seen);
	}
	return error;
}

int pt_task_judge_open(struct pt_task *t, int copy)
{
	struct stat st;
	ssize_t len = pt_own_fd_path(copy, t->at.real);
	bool known = len > 0 && len < PT_PATH_CAP - 1;
	t->asked[0] = 0;
	t->at.real_len = known ? (size_t)len : 0;
	t->at.real[t->at.real_len] = 0;
	if (fstat(copy, &st))
		return errno;
	if (!st.st_nlink || (known && t->at.real[0] != '/'))
		return 0; /* what has no name (any more) is nobody's; nor is a pipe */
	if (!known) /* further down than the kernel tells; what could be opened for writing could be changed */
		return (t->sup->flags & PT_IMG_AUDIT) || (fcntl(copy, F_GETFL) & O_ACCMODE) != O_RDONLY ? 0 : EACCES;
	struct pt_verdict write = pt_task_decide(t, PT_WRITE);
	if (write.action == PT_DENY)
		return refuse(t, write, PT_OUT_DENY, EACCES);
	t->verdict = write;
	return 0;
}

/* ---- reports ---- */

/*
 * The event file belongs to the build user. Where it is cut short under us the write faults: that costs the report,
 * and nothing else. `fault` is per thread, the handler is the process's.
 */
static __thread sigjmp_buf fault;
static __thread volatile sig_atomic_t writing;

static void on_fault(int number)
{
	if (writing)
		siglongjmp(fault, 1);
	signal(number, SIG_DFL);
	raise(number);
}

void pt_sup_guard(void);
void pt_sup_guard(void)
{
	/* Not blocked while it is handled: to save and restore the mask would be a system call for each rule that was used. */
	struct sigaction action = { .sa_handler = on_fault, .sa_flags = SA_NODEFER };
	sigaction(SIGBUS, &action, NULL);
}

static void note_rule(struct pt_task *t)
{
	if (!t->sup->events || t->verdict.rule == PT_NO_RULE)
		return;
	writing = 1;
	if (!sigsetjmp(fault, 0))
		pt_events_rule_used(t->sup->events, t->verdict.rule);
	writing = 0;
}

static uint32_t known_image(struct pt_tree *tree, pid_t process)
{
	uint32_t image = 0;
	pthread_mutex_lock(&tree->lock);
	for (unsigned i = 0; i < 64 && !image; i++)
		if (tree->images[i].pid == process)
			image = tree->images[i].image;
	pthread_mutex_unlock(&tree->lock);
	return image;
}

static void note_image(struct pt_tree *tree, pid_t process, uint32_t image)
{
	unsigned slot = 0;
	pthread_mutex_lock(&tree->lock);
	while (slot < 64 && tree->images[slot].pid != process)
		slot++;
	if (slot == 64)
		slot = tree->next_image++ % 64;
	tree->images[slot].pid = process;
	tree->images[slot].image = image;
	pthread_mutex_unlock(&tree->lock);
}

uint64_t pt_nanoseconds(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void pt_task_announce(struct pt_task *t, const char *exe, size_t len)
{
	if (!t->sup->events)
		return;
	pid_t process, parent;
	pt_target_ids(t->pid, &process, &parent);
	struct pt_event e = { .kind = PT_EV_PROCESS, .tier = 2, .pid = process, .ppid = parent, .time = pt_nanoseconds(),
			      .path = exe, .path_len = (uint32_t)len, .rule = PT_NO_RULE, .port = PT_NO_PORT };
	uint32_t image = 0;
	writing = 1;
	if (!sigsetjmp(fault, 0))
		image = pt_events_image(t->sup->events, -1, &e);
	writing = 0;
	note_image(t->tree, process, image);
}

void pt_task_report(struct pt_task *t, uint8_t kind, uint8_t outcome, int error)
{
	if (!t->sup->events)
		return;
	pid_t process, parent;
	pt_target_ids(t->pid, &process, &parent);
	uint32_t image = known_image(t->tree, process);
	if (!image && t->call->shape != PT_SH_EXEC) {
		/* a fork of a supervised process: it runs its parent's program */
		char exe[4096];
		ssize_t len = pt_target_path(t->pid, PT_TARGET_EXE, exe, sizeof exe);
		if (len > 0) {
			pt_task_announce(t, exe, (size_t)len);
			image = known_image(t->tree, process);
		}
	}
	struct pt_event e = {
		.kind = kind, .access = t->access, .outcome = outcome, .tier = 2, .op = t->call->op, .error = (int16_t)error,
		.pid = process, .ppid = parent, .image = image, .rule = t->verdict.rule, .port = t->verdict.port, .time = pt_nanoseconds(),
		.path = t->at.real, .path_len = (uint32_t)t->at.real_len,
	};
	size_t asked = strlen(t->asked);
	if (asked && (asked != e.path_len || memcmp(t->asked, e.path, asked))) {
		e.asked = t->asked;
		e.asked_len = (uint32_t)asked;
	}
	writing = 1;
	if (!sigsetjmp(fault, 0))
		pt_events_put(t->sup->events, &e);
	writing = 0;
}
