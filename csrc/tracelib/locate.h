/* Finding what a path means: shared by the quick way, the walk and the judgement. */
#ifndef PORTTRACE_LOCATE_H
#define PORTTRACE_LOCATE_H

#include "trace.h"

static inline bool dots(const char *name, size_t len)
{
	return name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.'));
}

/* A word that is true as long as what is known of `name` below `info`, that it is no link, holds. */
uint64_t pt_link_word(const struct pt_info *info, uint64_t hash, const char *name, size_t len);

/* Makes `at` ready for pt_locate with these buffers. */
void pt_prepare(struct pt_at *, struct pt_slab *);
/*
 * Fills real path and parent. 0, ENOENT with parent.hidden for a hidden link, PT_NO_ROOM, or another errno that the
 * kernel will find itself.
 */
int pt_locate(struct pt_at *);
/* The parent of a real path that has been found otherwise. */
void pt_split_real(struct pt_at *);

#endif
