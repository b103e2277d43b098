/*
 * The slots of the cache of directories. Each is guarded by a sequence number: a writer that finds a slot busy leaves
 * it alone, a reader that is overtaken calls it a miss. So nothing waits, whatever a fork or a signal handler
 * interrupts.
 */
#ifndef PORTTRACE_DIRCACHE_H
#define PORTTRACE_DIRCACHE_H

#include "trace.h"

static inline uint64_t generation(void)
{
	return pt.generation ? atomic_load_explicit(pt.generation, memory_order_acquire) : 0;
}

/* A slot's contents where they are `key`'s (0: whatever is there) and still true. */
static inline bool slot_read(struct pt_dir *d, uint64_t key, const char *lex, size_t len, struct pt_info *info, char *real)
{
	uint32_t seq = atomic_load_explicit(&d->seq, memory_order_acquire);
	if (!seq || (seq & 1) || d->key != key)
		return false;
	memcpy(info, &d->info, sizeof *info);
	if (lex && (info->lex_len != len || len > PT_DIR_TEXT || memcmp(d->text, lex, len) != 0))
		return false;
	if (real) {
		uint32_t at = d->real_at;
		if (at > PT_DIR_TEXT || info->real_len > PT_DIR_TEXT - at)
			return false;
		memcpy(real, d->text + at, info->real_len);
		real[info->real_len] = 0;
	}
	atomic_thread_fence(memory_order_acquire);
	if (atomic_load_explicit(&d->seq, memory_order_relaxed) != seq)
		return false;
	return info->stable || info->generation == generation();
}

/* Lexical and real path must fit; a real path equal to the lexical one is kept once. */
static inline void slot_write(struct pt_dir *d, uint64_t key, const char *lex, size_t len, const struct pt_info *info, const char *real)
{
	bool same = len == info->real_len && memcmp(lex, real, len) == 0;
	if (len + (same ? 0 : info->real_len) > PT_DIR_TEXT)
		return;
	uint32_t seq = 0;              /* a fresh slot is written without a look at it, which would cost a fault of its own */
	if (!atomic_compare_exchange_strong_explicit(&d->seq, &seq, 1, memory_order_acquire, memory_order_relaxed) &&
	    ((seq & 1) || !atomic_compare_exchange_strong_explicit(&d->seq, &seq, seq + 1, memory_order_acquire, memory_order_relaxed)))
		return;
	atomic_thread_fence(memory_order_release);
	d->key = key;
	memcpy(&d->info, info, sizeof *info);
	d->info.lex_len = (uint16_t)len;
	d->real_at = same ? 0 : (uint32_t)len;
	memcpy(d->text, lex, len);
	memcpy(d->text + d->real_at, real, info->real_len);
	atomic_store_explicit(&d->seq, seq + 2 ? seq + 2 : 2, memory_order_release);
}

#endif
