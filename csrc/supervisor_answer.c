/* One question of the kernel, by the shape of its call. */
#include <stdio.h>

#include "supervisor_answer.h"

static struct pt_sup_call calls[] = {
#define PT_SC(name, nr64, nr32, shape, access, dir, path, flags) { #name, PT_SC_NATIVE(name, nr64), PT_SC_COMPAT(nr32), shape, access, dir, path, flags, 0 },
	PT_SUPERVISED_CALLS
#undef PT_SC
};
#define CALLS (sizeof calls / sizeof calls[0])

static const struct pt_sup_call *table[2][512];

extern const char *const pt_op_names[]; /* made from the table of intercepted calls */
extern const unsigned pt_op_count;

static bool find_op(const char *name, size_t len, uint16_t *op)
{
	for (unsigned i = 0; i < pt_op_count; i++)
		if (strlen(pt_op_names[i]) == len && !memcmp(pt_op_names[i], name, len)) {
			*op = (uint16_t)i;
			return true;
		}
	return false;
}

/* Reports speak of calls by the C library's names; a system call of another name goes by its nearest. */
static void name_op(struct pt_sup_call *call)
{
	size_t len = strlen(call->name);
	if (find_op(call->name, len, &call->op) || find_op(call->name + 3, len > 3 && !strncmp(call->name, "new", 3) ? len - 3 : 0, &call->op))
		return;
	while (len > 3 && !find_op(call->name, len, &call->op)) /* openat2, stat64, chown32, utimensat_time64 */
		len--;
}

void pt_sup_calls(void)
{
	for (unsigned i = 0; i < CALLS; i++) {
		name_op(&calls[i]);
		if (calls[i].native >= 0)
			table[0][calls[i].native] = &calls[i];
		if (calls[i].compat >= 0)
			table[1][calls[i].compat] = &calls[i];
	}
}

const struct pt_sup_call *pt_sup_call(int nr, bool compat)
{
	return nr >= 0 && nr < 512 ? table[compat][nr] : NULL;
}

/* ---- metadata ---- */

/* Of an open file. What is looked at is a descriptor of ours that shares its file: the number may mean another one soon. */
static int change_open(struct pt_task *t, int fd)
{
	int copy = pt_target_fd(t->pid, fd);
	if (copy < 0)
		return copy == -EPERM ? EACCES : EBADF;
	int result = pt_task_judge_open(t, copy);
	if (!result) /* a descriptor of the kind O_PATH is no open file for fchmod, but is one for AT_EMPTY_PATH */
		result = pt_do_change(t, copy, t->call->path < 0 || !arg(t, t->call->path));
	close(copy);
	return result;
}

static int look_open(struct pt_task *t, int fd)
{
	char cwd[64];
	snprintf(cwd, sizeof cwd, "/proc/%d/cwd", (int)t->pid);
	int copy = fd == AT_FDCWD ? open(cwd, O_PATH | O_CLOEXEC) : pt_target_fd(t->pid, fd);
	if (copy < 0)
		return fd == AT_FDCWD || copy == -EPERM ? EACCES : EBADF;
	/* a link of another process's, opened as the link that it is, which anybody may */
	ssize_t len = t->call->shape == PT_SH_READLINK ? pt_own_fd_path(copy, t->full) : 0;
	t->full[len > 0 ? len : 0] = 0;
	int result = pt_is_others_place(t, t->full) ? EACCES : pt_do_look(t, copy, "");
	close(copy);
	return result;
}

static bool looks(const struct pt_task *t)
{
	return t->call->shape >= PT_SH_STAT && t->call->shape <= PT_SH_INOTIFY;
}

static bool takes_empty_path(const struct pt_task *t)
{
	uint64_t address = arg(t, t->call->path);
	if (!address) /* futimens, and newer kernels' statx */
		return t->call->shape == PT_SH_UTIMENS || ((at_flags(t) & AT_EMPTY_PATH) && t->call->dir >= 0);
	/* readlinkat has no flags, and takes an empty path as it is */
	return t->call->dir >= 0 && ((at_flags(t) & AT_EMPTY_PATH) || (t->call->shape == PT_SH_READLINK && t->call->dir == 0));
}

/* Done by us, on what was judged. */
static int answer_metadata(struct pt_task *t)
{
	unsigned flags = at_flags(t), judge = 0;
	uint64_t address = t->call->path < 0 ? 0 : arg(t, t->call->path);
	if (t->call->path < 0)
		return change_open(t, (int)arg(t, t->call->dir));
	if (takes_empty_path(t) && is_empty(t, address))
		return looks(t) ? look_open(t, dirfd_of(t)) : dirfd_of(t) >= 0 ? change_open(t, dirfd_of(t)) : EACCES;
	bool nofollow = t->call->flags == PT_SC_NOFOLLOW || (flags & AT_SYMLINK_NOFOLLOW) ||
			(t->call->shape == PT_SH_INOTIFY && (arg(t, 2) & 0x02000000 /* IN_DONT_FOLLOW */));
	for (int tries = 0; tries < TRIES; tries++) {
		t->access = t->call->access;
		t->loose = false;
		int error = pt_task_resolve(t, dirfd_of(t), address, nofollow ? PT_RES_NOFOLLOW_LAST : 0);
		if (error)
			return error;
		if (!strcmp(t->asked, PT_SUPERVISE_PROBE) && t->access == PT_ACC_STAT)
			return EUCLEAN;
		if (t->call->shape == PT_SH_ACCESS)
			judge = arg(t, t->call->path + 1) & W_OK ? PT_J_PROBE_WRITE : 0;
		error = pt_task_judge(t, judge);
		if (error)
			return error;
		if (pt_way_stays(t) && pt_looks_by_path(t))
			return pt_do_look(t, AT_FDCWD, t->at.physical);
		int fd = pt_hold_judged(t);
		if (fd == AGAIN)
			continue;
		if (fd < 0)
			return -fd;
		int result = looks(t) ? pt_do_look(t, fd, "") : pt_do_change(t, fd, false);
		close(fd);
		return result;
	}
	return ELOOP;
}

/* ---- the rest ---- */

/* Nobody but the program itself can change where it is; but it goes to what was judged, not to what its path means by then. */
static int answer_chdir(struct pt_task *t)
{
	for (int tries = 0; tries < TRIES; tries++) {
		struct stat st;
		int error = pt_task_resolve(t, AT_FDCWD, arg(t, t->call->path), 0);
		if (!error)
			error = pt_task_judge(t, 0);
		if (error)
			return error;
		if (t->sup->flags & PT_IMG_AUDIT)
			return GO_ON;
		int fd = pt_hold_judged(t);
		if (fd == AGAIN)
			continue;
		if (fd < 0)
			return -fd;
		error = fstat(fd, &st) ? errno : S_ISDIR(st.st_mode) ? pt_borrow_chdir(t, fd) : ENOTDIR;
		close(fd);
		return error;
	}
	return ELOOP;
}

static int answer(struct pt_task *t)
{
	switch (t->call->shape) {
	case PT_SH_OPEN:
		return pt_answer_open(t, (uint32_t)arg(t, t->call->flags), (unsigned)arg(t, t->call->flags + 1));
	case PT_SH_CREAT:
		return pt_answer_open(t, O_CREAT | O_WRONLY | O_TRUNC, (unsigned)arg(t, 1));
	case PT_SH_OPENAT2:
		return pt_answer_openat2(t);
	case PT_SH_STAT: case PT_SH_STATX: case PT_SH_ACCESS: case PT_SH_READLINK: case PT_SH_STATFS: case PT_SH_GETXATTR:
	case PT_SH_LISTXATTR: case PT_SH_INOTIFY: case PT_SH_CHMOD: case PT_SH_CHOWN: case PT_SH_UTIME: case PT_SH_UTIMES:
	case PT_SH_UTIMENS: case PT_SH_SETXATTR: case PT_SH_REMOVEXATTR: case PT_SH_IOCTL: case PT_SH_TRUNCATE:
		return answer_metadata(t);
	case PT_SH_CHDIR:
		return answer_chdir(t);
	case PT_SH_MKDIR: case PT_SH_MKNOD: case PT_SH_SYMLINK: case PT_SH_REMOVE:
		return pt_answer_entry(t);
	case PT_SH_RENAME:
	case PT_SH_LINK:
		return pt_answer_two(t);
	case PT_SH_EXEC:
		return pt_answer_exec(t);
	case PT_SH_LIST:
		return pt_answer_list(t);
	case PT_SH_PTRACE: /* only what reaches for a process that is not held yet */
		return arg(t, 0) == 16 /* PTRACE_ATTACH */ || arg(t, 0) == 0x4206 /* PTRACE_SEIZE */ ? pt_answer_meddle(t, (pid_t)arg(t, 1)) : GO_ON;
	case PT_SH_LIMIT: /* they end a process as well as a signal does */
		return arg(t, 2) && !(t->sup->flags & PT_IMG_AUDIT) ? pt_answer_meddle(t, (pid_t)arg(t, 0)) : GO_ON;
	case PT_SH_MEMORY:
		return pt_answer_meddle(t, (pid_t)arg(t, 0));
	case PT_SH_TAKE:
		return pt_answer_take(t);
	case PT_SH_CONNECT: case PT_SH_BIND: case PT_SH_SENDTO: case PT_SH_SENDMSG: case PT_SH_SENDMMSG: case PT_SH_SOCKETCALL:
		return pt_answer_socket(t);
	case PT_SH_JOIN:
		if (!(t->sup->flags & PT_IMG_AUDIT))
			return EPERM;
		/* fall through */
	case PT_SH_IDS: case PT_SH_CLONE:
		t->tree->changes = true;
		return GO_ON;
	case PT_SH_CHROOT: /* paths would mean something else than what is judged */
	case PT_SH_REFUSE:
		return t->sup->flags & PT_IMG_AUDIT ? GO_ON : EPERM;
	default:
		return ENOSYS;
	}
}

void pt_task_answer(struct pt_task *t)
{
	t->answered = false;
	t->resp->id = t->req->id;
	t->resp->val = 0;
	t->resp->error = 0;
	t->resp->flags = 0;
	int result = ENOSYS; /* a call that the filter knows and this table does not: nothing goes on unjudged */
	if (t->call) {
		t->access = t->call->access;
		bool changed = t->tree->changes, able = !changed || pt_rights_follow(t);
		pt_task_check_start(t);
		if (!changed && t->tree->changes)
			able = pt_rights_follow(t);
		result = able ? answer(t) : EACCES;
	}
	pt_turn_done(t->tree);
	if (t->answered)
		return;
	if (result == GO_ON)
		t->resp->flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
	else if (result > 0)
		t->resp->error = -result;
	pt_reply(t, t->resp);
}
