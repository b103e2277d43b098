/*
 * Directories whose paths are too long for the cache of dirs.c: the last few. Without them each look below such a
 * directory would ask of each part of its path anew whether it is a link. Guarded like the slots there.
 */
#include "dircache.h"

#define FARS (PT_FAR_SIZE / sizeof(struct pt_far))

struct pt_far {
	_Atomic uint32_t seq;          /* odd while it is written; 0: empty */
	uint32_t real_at;
	uint64_t key;
	struct pt_info info;
	char text[8192];               /* the lexical path, then the real one where it differs */
};

_Static_assert(FARS >= 2, "their place in tables.c");

static _Atomic bool used;

bool pt_far_used(void)
{
	return atomic_load_explicit(&used, memory_order_relaxed);
}

static struct pt_far *slot(uint64_t key)
{
	return (struct pt_far *)(void *)pt.far + (key >> 32) % FARS;
}

bool pt_far_cached(const char *lex, size_t len, struct pt_info *info, char *real, size_t room)
{
	if (likely(!pt_far_used()) || len >= sizeof slot(0)->text)
		return false;
	uint64_t key = pt_text_key(lex, len);
	struct pt_far *d = slot(key);
	uint32_t seq = atomic_load_explicit(&d->seq, memory_order_acquire), at = d->real_at;
	if (!seq || (seq & 1) || d->key != key)
		return false;
	memcpy(info, &d->info, sizeof *info);
	if (info->lex_len != len || memcmp(d->text, lex, len) != 0 || at > len || info->real_len > sizeof d->text - at ||
	    info->real_len >= room)
		return false;
	memcpy(real, d->text + at, info->real_len);
	real[info->real_len] = 0;
	atomic_thread_fence(memory_order_acquire);
	return atomic_load_explicit(&d->seq, memory_order_relaxed) == seq && (info->stable || info->generation == generation());
}

void pt_far_keep(const char *lex, size_t len, const struct pt_info *info, const char *real)
{
	bool same = len == info->real_len && memcmp(lex, real, len) == 0;
	uint64_t key = pt_text_key(lex, len);
	struct pt_far *d = slot(key);
	uint32_t seq = atomic_load_explicit(&d->seq, memory_order_relaxed);
	if (len + (same ? 0 : info->real_len) > sizeof d->text || (seq & 1) ||
	    !atomic_compare_exchange_strong_explicit(&d->seq, &seq, seq + 1, memory_order_acquire, memory_order_relaxed))
		return;
	atomic_thread_fence(memory_order_release);
	d->key = key;
	memcpy(&d->info, info, sizeof *info);
	d->info.lex_len = (uint16_t)len;
	d->real_at = same ? 0 : (uint32_t)len;
	memcpy(d->text, lex, len);
	memcpy(d->text + d->real_at, real, info->real_len);
	atomic_store_explicit(&d->seq, seq + 2 ? seq + 2 : 2, memory_order_release);
	atomic_store_explicit(&used, true, memory_order_relaxed);
}
