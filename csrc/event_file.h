/*
 * The event file as its bytes, shared by its writers (events.c) and its reader (events_read.c). Layout:
 *
 *	header      4096 bytes: magic, capacity, generation, heads, lost, and
 *	execs       64 slots: pid -> image that executes another program
 *	links       16384 bits: which links were followed
 *	rules       1024 bits: which of the first rules have decided something
 *	rules       65536 bits: the same of the others
 *	findings    65536 slots: key and count
 *	arena       records, each led by one 64-bit word
 *	starts      behind the capacity: records of programs that start and execute others, appended by write(2)
 *
 * The file is sparse, and a page that finds no room on the disk kills whoever
 * touches it (SIGBUS). So room is asked for before it is written: for the
 * tables when the file is made, for the arena step by step, up to `backed`.
 *
 * What a process writes when it meets what another has told already lies in
 * the first part, up to the arena, and most map no more than that: it costs a
 * fault for each page, and page tables for each two megabytes in which there
 * is such a page, in each process and again in each that it forks. A start and
 * an exec are told without the map, by calls on the open file, as is their
 * slot: the first write to a page of a file on a disk costs more than all of
 * these. Where that cannot be (a limit of file sizes, no descriptor, another
 * root, other threads, a filter of system calls), they go to the arena as
 * everything else.
 *
 * A record's word says its size before the record is filled, so that a writer
 * killed half way leaves a gap of known size and not a broken chain: a writer
 * claims the word at the head with compare-and-swap, and whoever comes next
 * moves the head past it. No locks, so nothing that fork or a signal could
 * leave taken.
 */
#ifndef PORTTRACE_EVENT_FILE_H
#define PORTTRACE_EVENT_FILE_H

#include <stdatomic.h>
#include <sys/types.h>

#include "events.h"

#define MAGIC 0x38767365636172ull      /* "racesv8" */
#define EXEC_SLOTS 64u                 /* another process may take the slot: then the reader tells who started whom */
#define STARTS_MOST (256u << 20)       /* bytes: some two million starts */
#define FINDING_SLOTS 65536u
#define LINK_WORDS 256u
#define FIRST_RULES 1024u              /* these lie in the first page: few policies have more */
#define PROBES 32u                      /* in each of two places */
#define PAGE_SLOTS (4096u / sizeof(uint64_t))
#define NO_SLOT UINT32_MAX
#define BACK_STEP (256u << 10)          /* a few thousand records */

/*
 * A finding's slot: the upper 40 bits of its key, and how often it came, which is not counted beyond COUNT_MOST. All
 * that two writers do at once there fits into what is left above that.
 */
#define COUNT_MASK 0xffffffull
#define COUNT_MOST 0x7fffffull

struct exec_slot {
	_Atomic uint64_t image;                /* pid in the upper half */
	_Atomic uint64_t chain;                /* of the image: its record need not be looked at, which would cost a fault */
	_Atomic uint64_t record;               /* of the exec, for the program that then starts; 0: none */
};

struct pt_events {
	uint64_t magic;
	uint64_t capacity;
	_Alignas(64) _Atomic uint64_t generation;
	_Atomic uint64_t movers;               /* of names, at this moment; one that was killed stays: see pt_events_unmoved */
	_Alignas(64) _Atomic uint64_t head;    /* offset of the first byte of the file that no record has claimed */
	_Atomic uint64_t backed;               /* end of the part for which the disk has room */
	_Alignas(64) _Atomic uint64_t lost;
	_Alignas(64) struct exec_slot execs[EXEC_SLOTS];
	_Atomic uint64_t links[LINK_WORDS];
	_Atomic uint64_t first_rules[FIRST_RULES / 64];
	_Alignas(4096) _Atomic uint64_t rules[PT_RULE_BITS / 64];
	_Alignas(4096) _Atomic uint64_t findings[FINDING_SLOTS];
	_Alignas(4096) unsigned char arena[];
};
_Static_assert(offsetof(struct pt_events, rules) == 4096 && offsetof(struct pt_events, arena) == PT_EVENTS_PART, "parts");

/* What a slot holds, as it is read and written by calls. */
struct exec_note {
	uint64_t image, chain, record;
};
_Static_assert(sizeof(struct exec_note) == sizeof(struct exec_slot), "the same bytes");

/*
 * word: bits 0-1 state, 2-21 size in units of 16 bytes, 22-45 pid of the writer, 48-63 a mark by which a reader
 * that has lost its way finds the next record.
 */
#define MARK (0xb7e5ull << 48)
#define MARK_MASK (0xffffull << 48)
enum { RESERVED = 1, PUBLISHED = 2, WITHDRAWN = 3 };
#define WORD(state, size, pid) (MARK | ((uint64_t)((pid) & 0xffffff) << 22) | ((uint64_t)((size) >> 4) << 2) | (state))
#define WORD_STATE(w) ((w) & 3)
#define WORD_SIZE(w) ((((w) >> 2) & 0xfffff) << 4)
#define WORD_PID(w) ((pid_t)(((w) >> 22) & 0xffffff))

/*
 * What one of millions of accesses needs, and no more: each byte costs the program that writes it, mostly in page
 * faults. Without details it has no parent and no slot, its pid is the writer's, and its time where it lies.
 */
enum { TIER = 3, DETAILED = 4, ASKED_IS_END = 8 };  /* marks; the last: what was asked is the path's end, and not written again */
struct record {
	_Atomic uint64_t word;
	uint8_t kind, access, outcome, marks;
	uint16_t op;
	int16_t error;
	uint32_t image, rule, port;
	uint16_t path_len, asked_len;
	unsigned char bytes[];                 /* the details, the path, what was asked */
};
_Static_assert(sizeof(struct record) == 32, "record header");

struct details {
	int32_t pid, ppid;
	uint64_t time;
	uint64_t key;                          /* of a process: hash over its chain of executables; of a finding: its key */
	uint32_t slot, unused;
};
_Static_assert(sizeof(struct details) == 32, "details of a record");

#define STRING_MAX UINT16_MAX                  /* longest string kept */
#define RECORD_MIN sizeof(struct record)
#define RECORD_FULL (sizeof(struct record) + sizeof(struct details))
#define RECORD_MAX (RECORD_FULL + 2 * STRING_MAX + 16)

/* A record up to its path, and what follows that. */
static inline size_t head_len(unsigned marks)
{
	return marks & DETAILED ? RECORD_FULL : sizeof(struct record);
}

static inline size_t asked_room(unsigned marks, size_t asked_len)
{
	return marks & ASKED_IS_END ? 0 : asked_len;
}

static inline bool slot_is_of(uint64_t slot, uint64_t key)
{
	return !((slot ^ key) & ~COUNT_MASK);
}

/* Of a record that has them. */
static inline struct details *details_of(const struct record *r)
{
	return (struct details *)(uintptr_t)r->bytes;
}

static inline struct record *at(const struct pt_events *ev, uint64_t offset)
{
	return (struct record *)((char *)(uintptr_t)ev + offset);
}

#endif
