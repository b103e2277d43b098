/*
 * A second name for a file, and another: both in directories that are held, where their paths could be exchanged between our
 * look and the kernel's. What is hidden would get a name that is not. So would what may be written only, of itself.
 */
#include "headers.h"

typedef long move_t(const struct pt_at *old, const struct pt_at *new, unsigned flags);

static int moved(uint16_t op, struct pt_at *old, struct pt_at *new, move_t *move, unsigned flags,
		 void (*after)(const struct pt_at *, const struct pt_at *))
{
	int held_old = -1, held_new = -1, error = pt_judge(op, old);
	new->slab = NULL;
	if (!error)
		error = pt_judge(op, new);
	if (!error)
		error = pt_judge_shown(op, old, new);
	if (!error && old->access == PT_ACC_RENAME && flags & RENAME_EXCHANGE)
		error = pt_judge_shown(op, new, old);
	if (!error)
		error = pt_hold_name(old, &held_old);
	if (!error)
		error = pt_hold_name(new, &held_new);
	if (!error) {
		pt_move_begins();
		error = (int)-move(old, new, held_old < 0 || old->magic ? flags : flags & ~(unsigned)AT_SYMLINK_FOLLOW);
		if (!error)
			after(old, new);
		pt_move_ends();
	}
	pt_let_go(held_old);
	pt_let_go(held_new);
	pt_done(op, new, error);
	pt_done(op, old, error);
	if (!error)
		return 0;
	errno = error;
	return -1;
}

static long link_it(const struct pt_at *old, const struct pt_at *new, unsigned flags)
{
	return PT_SYS5(SYS_linkat, old->dirfd, old->path, new->dirfd, new->path, flags);
}

static void linked(const struct pt_at *old, const struct pt_at *new)
{
	(void)old, (void)new;
	pt_changed();
}

static int link_any(uint16_t op, int olddir, const char *old, int dirfd, const char *path, int flags)
{
	struct pt_at from = { .dirfd = olddir, .path = old, .access = PT_ACC_LINK,
		.flags = (flags & AT_SYMLINK_FOLLOW ? PT_FOLLOW : 0) | PT_EMPTY };
	struct pt_at to = { .dirfd = dirfd, .path = path, .access = PT_ACC_CREATE, .flags = PT_EXCL };
	return moved(op, &from, &to, link_it, (unsigned)flags, linked);
}

PT_EXPORT int link(const char *old, const char *path)
{
	return link_any(PT_OP_link, AT_FDCWD, old, AT_FDCWD, path, 0);
}

PT_EXPORT int linkat(int olddir, const char *old, int dirfd, const char *path, int flags)
{
	return link_any(PT_OP_linkat, olddir, old, dirfd, path, flags);
}

static long rename_it(const struct pt_at *old, const struct pt_at *new, unsigned flags)
{
	return PT_SYS5(SYS_renameat2, old->dirfd, old->path, new->dirfd, new->path, flags);
}

static int rename_any(uint16_t op, int olddir, const char *old, int dirfd, const char *path, unsigned flags)
{
	struct pt_at from = { .dirfd = olddir, .path = old, .access = PT_ACC_RENAME };
	struct pt_at to = { .dirfd = dirfd, .path = path, .access = PT_ACC_RENAME, .flags = PT_MAY_CREATE };
	return moved(op, &from, &to, rename_it, flags, pt_renamed);
}

PT_EXPORT int rename(const char *old, const char *path)
{
	return rename_any(PT_OP_rename, AT_FDCWD, old, AT_FDCWD, path, 0);
}

PT_EXPORT int renameat(int olddir, const char *old, int dirfd, const char *path)
{
	return rename_any(PT_OP_renameat, olddir, old, dirfd, path, 0);
}

PT_EXPORT int renameat2(int olddir, const char *old, int dirfd, const char *path, unsigned flags)
{
	return rename_any(PT_OP_renameat2, olddir, old, dirfd, path, flags);
}
