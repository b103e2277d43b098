/* One question of the kernel, by the shape of its call. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "supervisor.h"

#ifndef RESOLVE_NO_SYMLINKS
#define RESOLVE_NO_SYMLINKS 0x04
#endif
#define SCM_CONNECT 3 /* linux/net.h: socketcall(2)'s numbers */
#define SCM_BIND 2
#define GO_ON (-1)    /* let the kernel do the call */

static struct pt_sup_call calls[] = {
#define PT_SC(name, nr64, nr32, shape, access, dir, path, flags) { #name, nr64, nr32, shape, access, dir, path, flags, 0 },
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

static uint64_t arg(const struct pt_task *t, int n)
{
	uint64_t value = t->req->data.args[n];
	return t->compat ? (uint32_t)value : value;
}

static int dirfd_of(const struct pt_task *t)
{
	return t->call->dir < 0 ? AT_FDCWD : (int)arg(t, t->call->dir);
}

static unsigned at_flags(const struct pt_task *t)
{
	return t->call->flags >= 0 ? (unsigned)arg(t, t->call->flags) : 0;
}

/* Whether a path argument is the empty text (or none): the call then means the descriptor itself. */
static bool is_empty(struct pt_task *t, uint64_t address)
{
	char first = 0;
	return !address || (pt_target_read(t->pid, address, &first, 1) && !first);
}

static bool starts(const char *path, const char *with)
{
	size_t n = strlen(with);
	return !strncmp(path, with, n) && (path[n] == '/' || !path[n]);
}

static bool still_asks(const struct pt_task *t)
{
	return ioctl(t->listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &t->req->id) == 0;
}

/* ---- open ---- */

#define AGAIN (-1000)

/*
 * A reading open is done here and handed over: what was judged is what is opened, whatever another thread does to
 * the text or the links meanwhile. Files of /proc, /dev and /sys depend on who opens them and are left to the kernel.
 */
static int open_for(struct pt_task *t, uint64_t flags)
{
	const char *path = t->at.physical;
	if (starts(path, "/proc") || starts(path, "/dev") || starts(path, "/sys"))
		return GO_ON;
	struct open_how how = {
		.flags = (flags & ~(uint64_t)(O_CREAT | O_EXCL | O_NOFOLLOW)) | O_CLOEXEC | O_NOCTTY | (flags & O_PATH ? 0 : O_NONBLOCK),
		.resolve = RESOLVE_NO_SYMLINKS,
	};
	if (strcmp(t->at.physical, t->at.real) != 0)
		how.resolve = 0; /* where a redirect leads is the session's affair, links in it too */
	long fd = syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how);
	if (fd < 0 && (errno == ELOOP || (errno == ENOENT && (flags & O_CREAT))))
		return AGAIN;
	if (fd < 0)
		return errno == EINVAL || errno == ENXIO ? GO_ON : errno;
	struct stat st;
	int result = GO_ON;
	if (fstat((int)fd, &st) || !(S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))
		goto out; /* a fifo blocks, a terminal becomes a controlling one: the program's own doing */
	if (S_ISDIR(st.st_mode) && (flags & O_CREAT)) {
		result = EISDIR;
		goto out;
	}
	if (!(flags & O_NONBLOCK) && !(flags & O_PATH))
		fcntl((int)fd, F_SETFL, fcntl((int)fd, F_GETFL) & ~O_NONBLOCK);
	struct seccomp_notif_addfd add = {
		.id = t->req->id, .flags = SECCOMP_ADDFD_FLAG_SEND, .srcfd = (uint32_t)fd,
		.newfd_flags = flags & O_CLOEXEC ? O_CLOEXEC : 0,
	};
	if (ioctl(t->listener, SECCOMP_IOCTL_NOTIF_ADDFD, &add) >= 0) {
		t->answered = true;
		result = 0;
	} else if (errno == ENOENT) {
		t->answered = true; /* nobody waits any more */
	} else {
		result = errno == EMFILE ? EMFILE : GO_ON;
	}
out:
	close((int)fd);
	return result;
}

/* What the injected library opens in a process that has both: its reports, and the file that shows whether the fence stands. */
static bool is_session_file(const struct pt_task *t)
{
	const size_t n = t->sup->dir_len;
	return t->at.real_len > n && !memcmp(t->at.real, t->sup->dir, n) &&
	       (!strcmp(t->at.real + n, "/events") || !strcmp(t->at.real + n, "/unfenced"));
}

static int answer_open_once(struct pt_task *t, uint64_t flags)
{
	unsigned mode = flags & O_ACCMODE, judge = 0, resolve = 0;
	if (flags & O_PATH) {
		flags &= O_PATH | O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC;
		mode = O_RDONLY;
		t->access = PT_ACC_STAT;
	} else if ((flags & O_TMPFILE) == O_TMPFILE) {
		t->access = PT_ACC_CREATE;
	} else if (flags & O_CREAT) {
		t->access = PT_ACC_WRITE;
		judge = PT_J_MAY_CREATE | (flags & O_EXCL ? PT_J_EXCL : 0) |
			(mode == O_RDONLY && !(flags & O_TRUNC) ? PT_J_NO_WRITE : 0);
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
	int error = pt_task_resolve(t, dirfd_of(t), arg(t, t->call->path), resolve);
	if (error)
		return error;
	if (is_session_file(t))
		return GO_ON;
	if ((flags & O_TMPFILE) == O_TMPFILE && !(flags & O_PATH)) {
		/* the nameless file lies in the directory that is named */
		if (pt_decide(t->sup->image, PT_WRITE, t->at.real, t->at.real_len).action != PT_DENY)
			return GO_ON;
	}
	error = pt_task_judge(t, judge);
	if (error)
		return error;
	if (t->at.physical_len != t->at.real_len || memcmp(t->at.physical, t->at.real, t->at.real_len)) {
		if (t->access > PT_ACC_READLINK)
			return EROFS; /* a redirected write cannot be handed over with the program's umask */
	} else if (t->access > PT_ACC_READLINK || (flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL)) {
		return GO_ON; /* writing: the fence stands behind it */
	}
	if ((flags & O_NOFOLLOW) && !(flags & O_PATH)) {
		struct stat st;
		if (!lstat(t->at.physical, &st) && S_ISLNK(st.st_mode))
			return ELOOP;
	}
	if (flags & O_NOFOLLOW && flags & O_PATH)
		return GO_ON;
	return open_for(t, flags);
}

/* What was judged is gone when it is opened (another process exchanges links or directories): judged anew, never let go. */
static int answer_open(struct pt_task *t, uint64_t flags)
{
	for (int tries = 0; tries < 16; tries++) {
		int result = answer_open_once(t, flags);
		if (result != AGAIN)
			return result;
	}
	return flags & O_CREAT ? EAGAIN : ELOOP;
}

static int answer_openat2(struct pt_task *t)
{
	struct open_how how = { 0 };
	uint64_t size = arg(t, t->call->flags + 1);
	if (size < sizeof how || !pt_target_read(t->pid, arg(t, t->call->flags), &how, sizeof how))
		return GO_ON; /* EINVAL, EFAULT from the kernel */
	if (how.resolve)
		return ENOSYS; /* other rules of resolving than those judged here: programs fall back to openat */
	return answer_open(t, how.flags);
}

/* ---- listing ---- */

/* `left_out`: the verdict on the last entry of an undeclared port that is not shown. */
static bool shown(const struct pt_task *t, const struct pt_cursor *dir, uint64_t hash, const struct dirent64 *entry,
		  struct pt_verdict *left_out)
{
	size_t len = strlen(entry->d_name);
	if (entry->d_name[0] == '.' && (len == 1 || (len == 2 && entry->d_name[1] == '.')))
		return true;
	struct pt_verdict v = pt_decide_child(t->sup->image, *dir, hash, entry->d_name, len);
	if (v.action != PT_DENY)
		return true;
	if (!(v.flags & (PT_V_ASKED | PT_V_BELOW)) && !(t->sup->flags & PT_IMG_DIRS_VISIBLE))
		return false;
	bool directory = entry->d_type == DT_DIR;
	if (entry->d_type == DT_UNKNOWN) {
		char path[PT_PATH_CAP];
		struct stat st;
		directory = snprintf(path, sizeof path, "%s/%s", t->full, entry->d_name) < (int)sizeof path && !lstat(path, &st) &&
			    S_ISDIR(st.st_mode);
	}
	if (!directory && v.port != PT_NO_PORT)
		*left_out = v;
	return directory;
}

static void tell_left_out(struct pt_task *t, size_t len, const struct pt_verdict *verdict)
{
	struct pt_resolved at = t->at;
	t->at.real = t->full;
	t->at.real_len = len;
	t->asked[0] = 0;
	t->access = PT_ACC_LIST;
	t->verdict = *verdict;
	pt_task_report(t, PT_EV_USED, PT_OUT_HIDE, 0);
	t->at = at;
}

static bool all_shown(const struct pt_task *t, const struct pt_cursor *dir)
{
	struct pt_rule_view rule;
	return (t->sup->flags & PT_IMG_AUDIT) || (pt_cursor_uniform(t->sup->image, *dir) &&
	       pt_image_rule(t->sup->image, dir->rule, &rule) && rule.action != PT_DENY && rule.action != PT_ASK);
}

static int answer_list(struct pt_task *t)
{
	int fd = (int)arg(t, 0);
	ssize_t len = pt_target_path(t->pid, fd, t->full, PT_PATH_CAP);
	if (len <= 0 || t->full[0] != '/')
		return GO_ON;
	if (len == 1)
		len = 0;
	struct pt_cursor dir = pt_cursor_root(t->sup->image, PT_READ);
	for (ssize_t at = 0; at < len;) {
		ssize_t from = at + 1, to = from;
		while (to < len && t->full[to] != '/')
			to++;
		dir = pt_cursor_descend(t->sup->image, dir, t->full + from, (size_t)(to - from));
		at = to;
	}
	if (all_shown(t, &dir))
		return GO_ON;
	if (strcmp(t->call->name, "getdents64"))
		return ENOSYS; /* the old forms are not rewritten; every libc has the new one */
	uint64_t hash = pt_hash_dir(pt_image_seed(t->sup->image), t->full, (size_t)len);
	uint64_t want = arg(t, 2);
	int copy = pt_target_fd(t->pid, fd);
	if (copy < 0)
		return EACCES;
	int result;
	struct pt_verdict left_out = { .port = PT_NO_PORT };
	for (;;) {
		long got = syscall(SYS_getdents64, copy, t->dents, want < PT_DENTS_CAP ? want : PT_DENTS_CAP);
		if (got < 0) {
			result = errno;
			break;
		}
		long kept = 0;
		for (long at = 0; at < got;) {
			struct dirent64 *entry = (struct dirent64 *)(void *)(t->dents + at);
			unsigned short size = entry->d_reclen;
			if (shown(t, &dir, hash, entry, &left_out)) {
				memmove(t->dents + kept, entry, size);
				kept += size;
			}
			at += size;
		}
		if (got && !kept)
			continue; /* all of this piece is hidden: an empty answer would mean the end */
		if (!still_asks(t) || !pt_target_write(t->pid, arg(t, 1), t->dents, (size_t)kept)) {
			result = EFAULT;
			break;
		}
		t->resp->val = kept;
		result = 0;
		break;
	}
	close(copy);
	if (left_out.port != PT_NO_PORT)
		tell_left_out(t, (size_t)len, &left_out);
	return result ? result : -2;
}

/* ---- programs ---- */

static bool is_traced_elf(const unsigned char *head, ssize_t got)
{
	if (got < 64 || memcmp(head, "\177ELF", 4) || head[4] != 2)
		return false;
	uint64_t offset;
	uint16_t size, count;
	memcpy(&offset, head + 32, 8);
	memcpy(&size, head + 54, 2);
	memcpy(&count, head + 56, 2);
	for (unsigned i = 0; i < count && size >= 4 && offset + (uint64_t)(i + 1) * size <= (uint64_t)got; i++) {
		uint32_t type;
		memcpy(&type, head + offset + (uint64_t)i * size, 4);
		if (type == 3) /* PT_INTERP: its loader takes the library in, which announces itself */
			return true;
	}
	return false;
}

static int answer_exec(struct pt_task *t)
{
	unsigned flags = at_flags(t);
	uint64_t address = arg(t, t->call->path);
	if ((flags & AT_EMPTY_PATH) && is_empty(t, address)) {
		/* a descriptor (memfd, or a file that was opened under the same policy) */
		ssize_t len = pt_target_path(t->pid, dirfd_of(t), t->full, PT_PATH_CAP);
		if (len > 0)
			pt_task_announce(t, t->full, (size_t)len);
		return GO_ON;
	}
	int error = pt_task_resolve(t, dirfd_of(t), address, flags & AT_SYMLINK_NOFOLLOW ? PT_RES_NOFOLLOW_LAST : 0);
	if (error)
		return error;
	error = pt_task_judge(t, 0);
	for (int depth = 0; !error && depth < 5; depth++) {
		unsigned char head[4096];
		int fd = open(t->at.physical, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
		ssize_t got = fd < 0 ? -1 : read(fd, head, sizeof head - 1);
		if (fd >= 0)
			close(fd);
		if (got < 2 || head[0] != '#' || head[1] != '!') {
			if (access(t->at.physical, X_OK) == 0 && (t->sup->alone || !is_traced_elf(head, got)))
				pt_task_announce(t, t->at.real, t->at.real_len);
			break;
		}
		head[got] = 0; /* the interpreter of a script is opened by the kernel and asked for here */
		char *line = (char *)head + 2, *end;
		line += strspn(line, " \t");
		end = line + strcspn(line, " \t\n");
		if (pt_task_resolve_text(t, AT_FDCWD, line, (size_t)(end - line), 0))
			break;
		error = pt_task_judge(t, 0);
	}
	return error ? error : GO_ON;
}

/* ---- sockets ---- */

static int answer_socket(struct pt_task *t, uint64_t address, uint64_t size, bool make)
{
	struct sockaddr_un sa = { 0 };
	if (size < sizeof sa.sun_family + 1)
		return GO_ON;
	if (size > sizeof sa)
		size = sizeof sa;
	if (!pt_target_read(t->pid, address, &sa, (size_t)size) || sa.sun_family != AF_UNIX || !sa.sun_path[0])
		return GO_ON;
	size_t len = strnlen(sa.sun_path, (size_t)size - sizeof sa.sun_family);
	memcpy(t->asked, sa.sun_path, len);
	t->asked[len] = 0;
	t->access = make ? PT_ACC_CREATE : PT_ACC_READ;
	int error = pt_task_resolve_text(t, AT_FDCWD, t->asked, len, make ? PT_RES_CREATE | PT_RES_NOFOLLOW_LAST : 0);
	if (!error)
		error = pt_task_judge(t, 0);
	return error == EEXIST ? EADDRINUSE : error ? error : GO_ON;
}

static int answer_socketcall(struct pt_task *t)
{
	uint64_t call = arg(t, 0);
	uint32_t args[3];
	if (call != SCM_CONNECT && call != SCM_BIND)
		return GO_ON;
	if (!pt_target_read(t->pid, arg(t, 1), args, sizeof args))
		return GO_ON;
	return answer_socket(t, args[1], args[2], call == SCM_BIND);
}

/* ---- the rest ---- */

static int answer_fd(struct pt_task *t, int fd)
{
	t->asked[0] = 0;
	ssize_t len = pt_target_path(t->pid, fd, t->at.real, PT_PATH_CAP);
	if (len < 0)
		return GO_ON;
	if (t->at.real[0] != '/' || starts(t->at.real, "/memfd:"))
		return GO_ON;
	t->at.real_len = (size_t)len;
	struct pt_verdict v = pt_decide(t->sup->image, PT_WRITE, t->at.real, t->at.real_len);
	t->verdict = v;
	if (v.action != PT_DENY)
		return GO_ON;
	struct stat st;
	if (lstat(t->at.real, &st) && errno == ENOENT)
		return GO_ON; /* the file has no name any more: nothing outside is changed */
	if (!(v.flags & PT_V_SILENT))
		pt_task_report(t, PT_EV_FINDING, PT_OUT_DENY, EACCES);
	return t->sup->flags & PT_IMG_AUDIT ? GO_ON : EACCES;
}

static int answer_path(struct pt_task *t)
{
	unsigned flags = at_flags(t), resolve = 0, judge = 0;
	uint64_t address = arg(t, t->call->path);
	if (t->call->flags == PT_SC_NOFOLLOW || (flags & AT_SYMLINK_NOFOLLOW))
		resolve = PT_RES_NOFOLLOW_LAST;
	if (t->call->dir >= 0 && is_empty(t, address)) {
		/* fstat and its like: the descriptor was judged when it was opened; its metadata are another matter */
		if (t->access == PT_ACC_ATTRIBUTES && dirfd_of(t) >= 0)
			return answer_fd(t, dirfd_of(t));
		return GO_ON;
	}
	if (t->call->shape == PT_SH_MAKE)
		resolve |= PT_RES_CREATE;
	int error = pt_task_resolve(t, dirfd_of(t), address, resolve);
	if (error)
		return error;
	if (!strcmp(t->asked, PT_SUPERVISE_PROBE) && t->access == PT_ACC_STAT)
		return EUCLEAN;
	if (!strncmp(t->call->name, "access", 6) || !strncmp(t->call->name, "faccessat", 9))
		judge = arg(t, t->call->path + 1) & W_OK ? PT_J_PROBE_WRITE : 0;
	error = pt_task_judge(t, judge);
	if (error)
		return error;
	if (t->verdict.action == PT_REDIRECT && t->at.physical_len && strcmp(t->at.physical, t->at.real))
		return t->access == PT_ACC_STAT && !strncmp(t->call->name, "access", 6) ? (access(t->at.physical, (int)arg(t, 1)) ? errno : -2)
										       : GO_ON;
	return GO_ON;
}

static int answer_two(struct pt_task *t)
{
	bool link = t->call->shape == PT_SH_LINK;
	int dir = t->call->dir, path = t->call->path;
	int second_dir = dir < 0 ? AT_FDCWD : (int)arg(t, dir + 2);
	uint64_t first = arg(t, path), second = arg(t, dir < 0 ? path + 1 : path + 2);
	unsigned resolve = link && (at_flags(t) & AT_SYMLINK_FOLLOW) ? 0 : PT_RES_NOFOLLOW_LAST;
	bool empty = link && (at_flags(t) & AT_EMPTY_PATH) && is_empty(t, first);
	int error = 0;
	/* A hard link makes the first file changeable through the second name: it must be writable itself. */
	if (!empty) {
		t->access = link ? PT_ACC_LINK : PT_ACC_RENAME;
		error = pt_task_resolve(t, dirfd_of(t), first, resolve);
		if (!error)
			error = pt_task_judge(t, 0);
	}
	if (error)
		return error;
	t->access = link ? PT_ACC_LINK : PT_ACC_RENAME;
	error = pt_task_resolve(t, second_dir, second, PT_RES_NOFOLLOW_LAST | PT_RES_CREATE);
	if (!error)
		error = pt_task_judge(t, PT_J_MAY_CREATE);
	if (!error && t->sup->events)
		pt_events_bump(t->sup->events);
	return error ? error : GO_ON;
}

static int answer(struct pt_task *t)
{
	switch (t->call->shape) {
	case PT_SH_OPEN:
		return answer_open(t, arg(t, t->call->flags));
	case PT_SH_CREAT:
		return answer_open(t, O_CREAT | O_WRONLY | O_TRUNC);
	case PT_SH_OPENAT2:
		return answer_openat2(t);
	case PT_SH_PATH:
	case PT_SH_MAKE:
		return answer_path(t);
	case PT_SH_RENAME:
	case PT_SH_LINK:
		return answer_two(t);
	case PT_SH_EXEC:
		return answer_exec(t);
	case PT_SH_FD:
		return answer_fd(t, (int)arg(t, 0));
	case PT_SH_LIST:
		return answer_list(t);
	case PT_SH_CONNECT:
	case PT_SH_BIND:
		return answer_socket(t, arg(t, t->call->path), arg(t, t->call->flags), t->call->shape == PT_SH_BIND);
	case PT_SH_SOCKETCALL:
		return answer_socketcall(t);
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
		result = answer(t);
	}
	if (t->answered)
		return;
	if (result == GO_ON)
		t->resp->flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
	else if (result > 0)
		t->resp->error = -result;
	(void)ioctl(t->listener, SECCOMP_IOCTL_NOTIF_SEND, t->resp); /* ENOENT: the process is gone */
}
