/*
 * What nearly every process writes, in one page: most live as long as it takes to look at a few files, and each page costs
 * them more than all their looks.
 */
#ifndef PORTTRACE_FEW_H
#define PORTTRACE_FEW_H

#include "trace.h"

#define PT_DIRS 256u                   /* two-way */
#define PT_FEW_LINKS 256u
#define PT_FEW_TOLD 64u
struct pt_few {
	_Atomic uint16_t dir_slots[PT_DIRS];   /* see dirs.c */
	_Atomic uint64_t not_links[PT_FEW_LINKS], told[PT_FEW_TOLD];
	_Atomic bool touched;
};
/* A set of words that may forget: a few in the first page, more of them in pages of their own. */
#define PT_NOT_LINKS 1024u             /* paths that are no links, see pt_link_word */
#define PT_TOLD 512u                   /* which files of ports this process has named as used, in which way */
extern _Atomic uint64_t pt_more_not_links[PT_NOT_LINKS] __attribute__((visibility("hidden")));
extern _Atomic uint64_t pt_more_told[PT_TOLD] __attribute__((visibility("hidden")));
struct pt_word {
	_Atomic uint64_t *few, *more;  /* the two places where it may be */
	uint64_t word;
};

/* Places for "this is no link" (`word`: pt_link_word) and for "this use is told". */
static inline struct pt_word pt_not_link(uint64_t hash, uint64_t word)
{
	return (struct pt_word){ &pt.few->not_links[hash % PT_FEW_LINKS], &pt_more_not_links[hash % PT_NOT_LINKS], word };
}

static inline struct pt_word pt_told(uint64_t hash, uint8_t access)
{
	uint64_t at = hash >> 8 ^ access;
	return (struct pt_word){ &pt.few->told[at % PT_FEW_TOLD], &pt_more_told[at % PT_TOLD], (hash + access) | 1 };
}

static inline bool pt_word_known(struct pt_word w)
{
	uint64_t first = atomic_load_explicit(w.few, memory_order_relaxed);
	return first == w.word || (first && atomic_load_explicit(w.more, memory_order_relaxed) == w.word);
}

static inline void pt_word_keep(struct pt_word w)
{
	uint64_t none = 0;
	if (!atomic_compare_exchange_strong_explicit(w.few, &none, w.word, memory_order_relaxed, memory_order_relaxed))
		atomic_store_explicit(w.more, w.word, memory_order_relaxed);
}

#endif
