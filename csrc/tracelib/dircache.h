/*
 * The slots of the cache of directories. Each is guarded by a sequence number: a writer that finds a slot busy leaves
 * it alone, a reader that is overtaken calls it a miss. So nothing waits, whatever a fork or a signal handler
 * interrupts.
 */
#ifndef PORTTRACE_DIRCACHE_H
#define PORTTRACE_DIRCACHE_H

#include <fcntl.h>

#include "few.h"

static inline uint64_t generation(void)
{
	return pt.generation ? atomic_load_explicit(pt.generation, memory_order_acquire) : 0;
}

/* The slots in the order in which they came into use: a process that knows few directories touches few pages. */
static inline struct pt_dir *pt_dir_slot(uint32_t n)
{
	uint16_t i = atomic_load_explicit(&pt.few->dir_slots[n], memory_order_relaxed);
	return i ? &pt.dirs[i - 1] : NULL;
}

static inline uint32_t pt_first_way(uint64_t key)
{
	return (key >> 32) % (PT_DIRS / 2) * 2;
}

static inline uint64_t pt_text_key(const char *s, size_t len)
{
	uint64_t h = len * 0x9e3779b97f4a7c15ull + 1, v = 0;
	for (; len > 8; len -= 8, s += 8) {
		memcpy(&v, s, 8);
		h = (h ^ v) * 0x9e3779b97f4a7c15ull;
		h ^= h >> 32;
	}
	if (len >= 4) {                /* the rest, in two pieces that may overlap */
		uint32_t a, b;
		memcpy(&a, s, 4);
		memcpy(&b, s + len - 4, 4);
		v = a | (uint64_t)b << 32;
	} else if (len) {
		v = (unsigned char)s[0] | (uint64_t)(unsigned char)s[len / 2] << 8 | (uint64_t)(unsigned char)s[len - 1] << 16;
	}
	h = (h ^ v) * 0x9e3779b97f4a7c15ull;
	return (h ^ h >> 32) | 1;
}

/* The keys of a descriptor's slot, which it shares with others: a directory, or a file that was opened for writing. */
static inline uint64_t pt_dir_key(int fd)
{
	return (uint64_t)(uint32_t)fd << 2 | 1;
}

static inline uint64_t pt_file_key(int fd)
{
	return (uint64_t)(uint32_t)fd << 2 | 2;
}

static inline struct pt_dir *pt_slot_of(int fd)
{
	return &pt.fds[fd == AT_FDCWD ? PT_FD_SLOTS : (unsigned)fd % PT_FD_SLOTS];
}

/*
 * What is known of a descriptor: the directory behind it, that its listings need a look at each entry, that it was
 * opened for writing.
 */
enum { PT_FD_KNOWN = 1, PT_FD_FILTERED = 2, PT_FD_WRITER = 4 };
extern _Atomic uint8_t pt_fd_facts[PT_FDS] __attribute__((visibility("hidden")));

static inline uint8_t pt_facts_of(int fd)
{
	return likely((unsigned)fd < PT_FDS) ? atomic_load_explicit(&pt_fd_facts[fd], memory_order_relaxed) : 0;
}

/* Where what is known of a descriptor or AT_FDCWD stands; NULL: nothing is. */
struct pt_dir *pt_cwd_slot(void);
static inline struct pt_dir *pt_fd_slot(int fd)
{
	if (likely(pt_facts_of(fd) & PT_FD_KNOWN))
		return pt_slot_of(fd);
	return fd == AT_FDCWD ? pt_cwd_slot() : NULL;
}

/*
 * What a decision by `map` needs of a slot (all of it where `whole`), where it is `key`'s and still true. Most calls end
 * here, and a copy of everything would be a third of their cost.
 */
static inline __attribute__((always_inline)) bool slot_glance(struct pt_dir *d, uint64_t key, const char *lex, size_t len,
	enum pt_map map, bool whole, struct pt_info *info, char *real)
{
	uint32_t seq = atomic_load_explicit(&d->seq, memory_order_acquire);
	if (unlikely(!seq || (seq & 1) || d->key != key))
		return false;
	if (lex && unlikely(d->info.lex_len != len || len > PT_DIR_TEXT || memcmp(d->text, lex, len) != 0))
		return false;
	if (whole) {
		memcpy(info, &d->info, sizeof *info);
	} else {
		info->error = d->info.error;
		info->stable = d->info.stable;
		info->generation = d->info.generation;
		info->hash = d->info.hash;
		info->real_len = d->info.real_len;
		info->uniform[map] = d->info.uniform[map];
		if (likely(info->uniform[map]))
			info->all[map] = d->info.all[map];
		else
			info->cursor[map] = d->info.cursor[map];
	}
	if (real) {
		uint32_t at = d->real_at;
		if (at > PT_DIR_TEXT || info->real_len > PT_DIR_TEXT - at)
			return false;
		memcpy(real, d->text + at, info->real_len);
		real[info->real_len] = 0;
	}
	atomic_thread_fence(memory_order_acquire);
	if (unlikely(atomic_load_explicit(&d->seq, memory_order_relaxed) != seq))
		return false;
	return info->stable || info->generation == generation();
}

/* A slot's contents where they are `key`'s and still true. */
static inline bool slot_read(struct pt_dir *d, uint64_t key, const char *lex, size_t len, struct pt_info *info, char *real)
{
	return slot_glance(d, key, lex, len, PT_READ, true, info, real);
}

/*
 * Lexical and real path must fit; a real path equal to the lexical one is kept once. Of a descriptor all but the path is
 * kept where that is too long.
 */
static inline void slot_write(struct pt_dir *d, uint64_t key, const char *lex, size_t len, const struct pt_info *info, const char *real)
{
	bool same = len == info->real_len && memcmp(lex, real, len) == 0;
	bool fits = len + (same ? 0 : info->real_len) <= PT_DIR_TEXT;
	if (!fits && (d >= pt.dirs || (key & 2)))
		return;
	uint32_t seq = 0;              /* a fresh slot is written without a look at it, which would cost a fault of its own */
	if (!atomic_compare_exchange_strong_explicit(&d->seq, &seq, 1, memory_order_acquire, memory_order_relaxed) &&
	    ((seq & 1) || !atomic_compare_exchange_strong_explicit(&d->seq, &seq, seq + 1, memory_order_acquire, memory_order_relaxed)))
		return;
	atomic_thread_fence(memory_order_release);
	d->key = key;
	memcpy(&d->info, info, sizeof *info);
	d->info.lex_len = (uint16_t)len;
	d->real_at = !fits ? PT_DIR_TEXT + 1 : same ? 0 : (uint32_t)len;
	if (fits) {
		memcpy(d->text, lex, len);
		memcpy(d->text + d->real_at, real, info->real_len);
	}
	atomic_store_explicit(&d->seq, seq + 2 ? seq + 2 : 2, memory_order_release);
}

#endif
