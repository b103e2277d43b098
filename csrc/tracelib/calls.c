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

#ifdef __APPLE__                       /* elsewhere moves.c does it */
static inline void pt_after_rename(const struct pt_at *first, const struct pt_at *last)
{
	pt_renamed(first, last);
}
#endif

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
