/* Which files belong to which port, hashed once; the tables of several images can be made from it. Session side only. */
#ifndef PORTTRACE_OWNERS_H
#define PORTTRACE_OWNERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pt_owners {
	struct pti_owner *slots;       /* image.h */
	size_t size, count;
	uint32_t max_probe;
	bool borrowed;                 /* the slots are the caller's */
	uint64_t seed;
};

/*
 * `paths` holds `count` absolute paths, each followed by a NUL byte; `ports[i]` is the index of the i-th path's
 * owner. The first owner of a path stays. NULL: no memory, or `paths` holds fewer than `count` texts.
 */
struct pt_owners *pt_owners_new(const char *paths, size_t size, const uint32_t *ports, size_t count, uint64_t seed);
/*
 * A table made before: `slots` are the bytes that pt_owners_slots() gave. They stay the caller's, must be aligned to
 * eight bytes and outlive the table. NULL: no memory, or the bytes cannot be a table.
 */
struct pt_owners *pt_owners_adopt(const void *slots, size_t size, size_t count, uint32_t max_probe, uint64_t seed);
/* The table's bytes, to be kept for pt_owners_adopt(). */
const void *pt_owners_slots(const struct pt_owners *, size_t *size, uint32_t *max_probe);
void pt_owners_free(struct pt_owners *);
size_t pt_owners_count(const struct pt_owners *);

#endif
