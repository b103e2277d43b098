/* The wrappers that calls.table describes completely. */
#include "headers.h"

static inline void pt_after_link(const struct pt_at *first, const struct pt_at *last)
{
	(void)first;
	(void)last;
	pt_changed();
}

static inline void pt_after_unlink(const struct pt_at *first, const struct pt_at *last)
{
	(void)first;
	pt_may_unlink(last);
}

/* A directory or a link under a new name: what was resolved through the old or the replaced one is stale. */
static inline void pt_after_rename(const struct pt_at *first, const struct pt_at *last)
{
	struct stat st;
	pt_may_unlink(first);
	pt_may_unlink(last);
	if (last->slab && last->judged && sys_lstat(last->path == last->slab->physical ? last->path : last->real, &st) == 0 &&
	    (S_ISDIR(st.st_mode) || S_ISLNK(st.st_mode)))
		pt_changed();
}

static inline void pt_after_root(const struct pt_at *first, const struct pt_at *last)
{
	(void)first;
	(void)last;
	pt_changed();
	pt_cwd_forget();
}

#ifdef __APPLE__
#include "interpose.inc"
#else
#include "calls.inc"
#endif
