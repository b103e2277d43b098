/* Listing a directory: hidden entries are left out. */
#include <dirent.h>
#include <stdio.h>

#include "supervisor_answer.h"

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
		directory = snprintf(path, sizeof path, "%s/%s", t->full, entry->d_name) < (int)sizeof path && !pt_target_lstat(path, &st) &&
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

static struct pt_cursor cursor_of(const struct pt_task *t, const char *path, size_t len)
{
	struct pt_cursor dir = pt_cursor_root(t->sup->image, PT_READ);
	for (size_t at = 0; at < len;) {
		size_t from = at + 1, to = from;
		while (to < len && path[to] != '/')
			to++;
		dir = pt_cursor_descend(t->sup->image, dir, path + from, to - from);
		at = to;
	}
	return dir;
}

static bool all_shown(const struct pt_task *t, const struct pt_cursor *dir)
{
	struct pt_rule_view rule;
	return (t->sup->flags & PT_IMG_AUDIT) || (pt_cursor_uniform(t->sup->image, *dir) &&
	       pt_image_rule(t->sup->image, dir->rule, &rule) && rule.action != PT_DENY && rule.action != PT_ASK);
}

bool pt_shows_all(const struct pt_task *t)
{
	struct pt_cursor dir = cursor_of(t, t->at.real, t->at.real_len == 1 ? 0 : t->at.real_len);
	return all_shown(t, &dir);
}

/* The path of a directory that we hold, as the program knows it, in t->full: its length, or -errno. */
static ssize_t name_of(struct pt_task *t, int copy)
{
	ssize_t len = pt_own_fd_path(copy, t->full);
	if (len <= 0 || len == PT_PATH_CAP - 1)
		return t->sup->flags & PT_IMG_AUDIT ? 0 : -EACCES; /* where it lies cannot be known */
	t->full[len] = 0;
	if (t->full[0] != '/')
		return -ENOTDIR; /* a pipe, a socket */
	if (t->sup->flags & PT_IMG_REDIRECTS) /* the directory's own name is the one that the program knows */
		len = (ssize_t)pt_task_own_name(t, t->full, (size_t)len);
	return len == 1 ? 0 : len;
}

/* Read and handed on here, from a descriptor of ours: the program's number may mean another directory the next moment. */
static int list(struct pt_task *t, int copy)
{
	ssize_t len = name_of(t, copy);
	if (len < 0)
		return (int)-len;
	struct pt_cursor dir = cursor_of(t, t->full, (size_t)len);
	bool all = all_shown(t, &dir), old = strcmp(t->call->name, "getdents64") != 0;
	if (old && (!all || t->compat))
		return ENOSYS; /* the old forms are not rewritten; every libc has the new one */
	uint64_t hash = pt_hash_dir(pt_image_seed(t->sup->image), t->full, (size_t)len);
	uint64_t want = arg(t, 2);
	int result;
	struct pt_verdict left_out = { .port = PT_NO_PORT };
	for (;;) {
		long got = syscall(old ? SYS_getdents : SYS_getdents64, copy, t->dents, want < PT_DENTS_CAP ? want : PT_DENTS_CAP);
		if (got < 0) {
			result = errno;
			break;
		}
		long kept = all ? got : 0;
		for (long at = kept; at < got;) {
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
		if (!still_asks(t) || (kept && !pt_target_write(t->pid, arg(t, 1), t->dents, (size_t)kept))) {
			result = EFAULT;
			break;
		}
		t->resp->val = kept;
		result = 0;
		break;
	}
	if (left_out.port != PT_NO_PORT)
		tell_left_out(t, (size_t)len, &left_out);
	return result ? result : DONE;
}

int pt_answer_list(struct pt_task *t)
{
	int copy = pt_target_fd(t->pid, (int)arg(t, 0));
	if (copy < 0)
		return copy == -EPERM ? EACCES : EBADF;
	int result = list(t, copy);
	close(copy);
	return result;
}
