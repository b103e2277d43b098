/*
 * The event file. Layout:
 *
 *	header      4096 bytes: magic, capacity, generation, heads, lost, and
 *	execs       96 slots: pid -> image that executes another program
 *	links       16384 bits: which links were followed
 *	rules       1024 bits: which of the first rules have decided something
 *	starts      the first records of programs that start and execute others
 *	findings    65536 slots: key -> count
 *	rules       65536 bits: the same of the others
 *	arena       records, each led by one 64-bit word
 *
 * All that a process writes when it does nothing but start lies in the first
 * megabyte: it costs a fault for each page, and one more for each two
 * megabytes in which there is such a page.
 *
 * A record's word says its size before the record is filled, so that a writer
 * killed half way leaves a gap of known size and not a broken chain: a writer
 * claims the word at the head with compare-and-swap, and whoever comes next
 * moves the head past it. No locks, so nothing that fork or a signal could
 * leave taken.
 */
#include "bytes.h"
#include "events.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#define MAGIC 0x34767365636172ull      /* "racesv4" */
#define EXEC_SLOTS 64u                 /* another process may take the slot: then the reader tells who started whom */
#define STARTS_END PT_STARTS_END
#define FINDING_SLOTS 65536u
#define LINK_WORDS 256u
#define FIRST_RULES 1024u              /* these lie in the first page: few policies have more */
#define PROBES 32u                      /* in each of two places */
#define PAGE_SLOTS (4096u / sizeof(struct finding_slot))
#define NO_SLOT UINT32_MAX

struct finding_slot {
	_Atomic uint64_t key;
	_Atomic uint64_t count;
};

struct exec_slot {
	_Atomic uint64_t image;                /* pid in the upper half */
	_Atomic uint64_t chain;                /* of the image: its record need not be looked at, which would cost a fault */
	_Atomic uint64_t record;               /* of the exec, for the program that then starts; 0: none */
};

struct pt_events {
	uint64_t magic;
	uint64_t capacity;
	_Alignas(64) _Atomic uint64_t generation;
	_Alignas(64) _Atomic uint64_t head;    /* offset of the first byte of the file that no record has claimed */
	_Alignas(64) _Atomic uint64_t starts_head;
	_Alignas(64) _Atomic uint64_t lost, touched;
	_Alignas(64) struct exec_slot execs[EXEC_SLOTS];
	_Atomic uint64_t links[LINK_WORDS];
	_Atomic uint64_t first_rules[FIRST_RULES / 64];
	_Alignas(4096) unsigned char starts[STARTS_END - 4096];
	struct finding_slot findings[FINDING_SLOTS];
	_Atomic uint64_t rules[PT_RULE_BITS / 64];
	_Alignas(4096) unsigned char arena[];
};
_Static_assert(offsetof(struct pt_events, starts) == 4096 && offsetof(struct pt_events, findings) == STARTS_END, "starts");
#define STARTS offsetof(struct pt_events, starts)

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

struct record {
	_Atomic uint64_t word;
	uint8_t kind, access, outcome, tier;
	uint16_t op;
	int16_t error;
	int32_t pid, ppid;
	uint32_t image, rule, port, slot;
	uint64_t time;
	uint64_t key;                          /* of a process: hash over its chain of executables; of a finding: its key */
	uint32_t path_len, asked_len;
	unsigned char bytes[];
};
_Static_assert(sizeof(struct record) == 64, "record header");

#define STRING_MAX (64u << 10)                 /* longest string kept */
#define RECORD_MIN ((sizeof(struct record) + 15) & ~(size_t)15)
#define RECORD_MAX (RECORD_MIN + 2 * STRING_MAX + 16)

static uint64_t mix(uint64_t h, uint64_t v)
{
	h = (h ^ v) * 0x9e3779b97f4a7c15ull;
	return h ^ (h >> 29);
}

static uint64_t mix_bytes(uint64_t h, const char *bytes, size_t len)
{
	for (; len >= 8; len -= 8, bytes += 8) {
		uint64_t v;
		memcpy(&v, bytes, 8);
		h = mix(h, v);
	}
	uint64_t v = len;
	for (; len; len--)
		v = v << 8 | (unsigned char)*bytes++;
	return mix(h, v);
}

int pt_events_begin(int fd, uint64_t capacity)
{
	if (capacity < PT_EVENTS_MIN)
		capacity = PT_EVENTS_MIN;
	uint64_t first[2] = { MAGIC, capacity };
	uint64_t head = sizeof(struct pt_events), starts = STARTS;
	if (ftruncate(fd, (off_t)capacity) < 0 ||
	    pwrite(fd, first, sizeof first, 0) != (ssize_t)sizeof first ||
	    pwrite(fd, &head, sizeof head, offsetof(struct pt_events, head)) != (ssize_t)sizeof head ||
	    pwrite(fd, &starts, sizeof starts, offsetof(struct pt_events, starts_head)) != (ssize_t)sizeof starts)
		return errno ? -errno : -EIO;
	return 0;
}

int pt_events_create(const char *path, uint64_t capacity)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	int error = pt_events_begin(fd, capacity);
	if (close(fd) < 0 && !error)
		error = -errno;
	if (error)
		unlink(path);
	return error;
}

void pt_events_touch(struct pt_events *ev)
{
	atomic_fetch_add_explicit(&ev->touched, 0, memory_order_relaxed);
}

bool pt_events_check(const struct pt_events *ev, size_t mapped_size)
{
	return mapped_size >= PT_EVENTS_MIN && ev->magic == MAGIC && ev->capacity <= mapped_size &&
		ev->capacity >= PT_EVENTS_MIN;
}

/* ---- writer ---- */

static struct record *at(const struct pt_events *ev, uint64_t offset)
{
	return (struct record *)((char *)(uintptr_t)ev + offset);
}

/* Claims room for a record below `end`; NULL when there is none. */
static struct record *reserve(struct pt_events *ev, _Atomic uint64_t *first_free, uint64_t begin, uint64_t end, size_t size, int32_t pid)
{
	uint64_t head = atomic_load_explicit(first_free, memory_order_acquire);
	/* Bounded, because another process may scribble over the head: better one event lost than a host that hangs. */
	for (int tries = 0; tries < 100000; tries++) {
		if (head < begin || (head & 15) || head > end || end - head < size + RECORD_MIN)
			break;
		struct record *r = at(ev, head);
		uint64_t word = 0;
		if (atomic_compare_exchange_strong(&r->word, &word, WORD(RESERVED, size, pid))) {
			uint64_t expected = head;
			atomic_compare_exchange_strong(first_free, &expected, head + size);
			return r;
		}
		uint64_t other = WORD_SIZE(word);
		if ((word & MARK_MASK) != MARK || other < RECORD_MIN)
			break;
		uint64_t expected = head;
		if (atomic_compare_exchange_strong(first_free, &expected, head + other))
			head += other;
		else
			head = expected;
	}
	return NULL;
}

static struct record *place(struct pt_events *ev, uint8_t kind, size_t size, int32_t pid)
{
	struct record *r = NULL;
	size = (size + 15) & ~(size_t)15;
	if (kind == PT_EV_PROCESS || kind == PT_EV_EXEC)
		r = reserve(ev, &ev->starts_head, STARTS, STARTS_END, size, pid);
	if (!r)
		r = reserve(ev, &ev->head, sizeof(struct pt_events), ev->capacity, size, pid);
	if (!r)
		atomic_fetch_add_explicit(&ev->lost, 1, memory_order_relaxed);
	return r;
}

static struct record *append(struct pt_events *ev, const struct pt_event *e, uint32_t slot, uint64_t key)
{
	uint32_t path_len = e->path_len < STRING_MAX ? e->path_len : STRING_MAX;
	uint32_t asked_len = e->asked_len < STRING_MAX ? e->asked_len : STRING_MAX;
	size_t size = sizeof(struct record) + path_len + asked_len;
	/* Who writes, for a reader that waits: the supervisor tells of others, who may be gone by now. */
	int32_t writer = e->tier == 2 ? getpid() : e->pid;
	struct record *r = place(ev, e->kind, size, writer);
	if (!r)
		return NULL;
	r->kind = e->kind;
	r->access = e->access;
	r->outcome = e->outcome;
	r->tier = e->tier;
	r->op = e->op;
	r->error = e->error;
	r->pid = e->pid;
	r->ppid = e->ppid;
	r->image = e->image;
	r->rule = e->rule;
	r->port = e->port;
	r->slot = slot;
	r->time = e->time ? e->time : (uint64_t)((char *)r - (char *)ev); /* later records lie behind: no clock needed */
	r->key = key;
	r->path_len = path_len;
	r->asked_len = asked_len;
	if (path_len)
		memcpy(r->bytes, e->path, path_len);
	if (asked_len)
		memcpy(r->bytes + path_len, e->asked, asked_len);
	atomic_store_explicit(&r->word, WORD(PUBLISHED, (size + 15) & ~(size_t)15, writer), memory_order_release);
	return r;
}

/* The record of an image index, where it is one. */
static const struct record *image_record(const struct pt_events *ev, uint32_t image)
{
	uint64_t offset = (uint64_t)image << 4;
	if (offset < STARTS || (offset > STARTS_END - RECORD_MIN && offset < sizeof(struct pt_events)) || offset > ev->capacity - RECORD_MIN)
		return NULL;
	const struct record *r = at(ev, offset);
	return r->kind == PT_EV_PROCESS ? r : NULL;
}

/* Which image a process runs, or ran before its exec, and its chain; 0: not known here. */
static uint32_t current_image(const struct pt_events *ev, int32_t pid, uint64_t *chain)
{
	const struct exec_slot *slot = &ev->execs[(uint32_t)pid % EXEC_SLOTS];
	uint64_t image = atomic_load_explicit(&slot->image, memory_order_acquire);
	if ((int32_t)(image >> 32) != pid)
		return 0;
	*chain = atomic_load_explicit(&slot->chain, memory_order_relaxed);
	return (uint32_t)image;
}

static void note_image(struct pt_events *ev, int32_t pid, uint32_t image, uint64_t chain, uint64_t record)
{
	struct exec_slot *slot = &ev->execs[(uint32_t)pid % EXEC_SLOTS];
	atomic_store_explicit(&slot->chain, chain, memory_order_relaxed);
	atomic_store_explicit(&slot->record, record, memory_order_relaxed);
	atomic_store_explicit(&slot->image, (uint64_t)(uint32_t)pid << 32 | image, memory_order_release);
}

uint32_t pt_events_image(struct pt_events *ev, struct pt_event *process)
{
	struct pt_event e = *process;
	uint32_t parent = e.image;
	uint64_t chain = 1;
	if (parent) {
		const struct record *above = image_record(ev, parent);
		chain = above ? above->key : 1;
	} else {
		parent = current_image(ev, e.pid, &chain);
		if (!parent)   /* spawned: nobody could name our pid before */
			parent = current_image(ev, e.ppid, &chain);
	}
	chain = mix_bytes(chain, e.path, e.path_len);
	e.kind = PT_EV_PROCESS;
	e.image = 0;
	e.rule = parent;
	struct record *r = append(ev, &e, NO_SLOT, chain);
	uint32_t image = r ? (uint32_t)((uint64_t)((char *)r - (char *)ev) >> 4) : 0;
	note_image(ev, e.pid, image, chain, 0);
	process->chain = chain;
	return image;
}

/* Length of a path up to its last slash. */
static size_t directory(const struct pt_event *e)
{
	size_t n = e->path_len;
	while (n && e->path[n - 1] != '/')
		n--;
	return n;
}

/*
 * Where a finding is sought, one place after the other: first in the page of its kind (what programs of one chain are
 * refused, what is used of one directory), so that a process that meets a hundred of them touches few pages; then
 * anywhere.
 */
static uint32_t slot_of(uint64_t key, uint64_t near, uint32_t i)
{
	if (i < PROBES)
		return (uint32_t)(near % (FINDING_SLOTS / PAGE_SLOTS) * PAGE_SLOTS + (key + i) % PAGE_SLOTS);
	return (uint32_t)(((key >> 16) + i) % FINDING_SLOTS);
}

static void put_finding(struct pt_events *ev, const struct pt_event *e)
{
	const struct record *image = image_record(ev, e->image);
	uint64_t key = mix(e->kind == PT_EV_USED ? 1 : image ? image->key : (uint64_t)e->pid,
			   (uint64_t)e->kind << 32 | (uint32_t)e->access << 16 | e->outcome);
	key = mix_bytes(key, e->path, e->path_len);
	if (!key)
		key = 1;
	uint64_t near = e->kind == PT_EV_USED ? mix_bytes(1, e->path, directory(e)) : mix(2, image ? image->key : (uint64_t)e->pid);
	uint32_t empty = NO_SLOT;
	for (uint32_t i = 0; i < 2 * PROBES; i++) {
		uint32_t n = slot_of(key, near, i);
		uint64_t have = atomic_load_explicit(&ev->findings[n].key, memory_order_acquire);
		if (have == key) {
			atomic_fetch_add_explicit(&ev->findings[n].count, 1, memory_order_relaxed);
			return;
		}
		if (!have) {
			empty = n;
			break;
		}
	}
	/* The record first: a process that is killed between the two steps leaves a finding twice, never none. */
	struct record *r = append(ev, e, empty, key);
	if (!r || empty == NO_SLOT)
		return;
	uint64_t have = 0;
	if (atomic_compare_exchange_strong(&ev->findings[empty].key, &have, key)) {
		atomic_fetch_add_explicit(&ev->findings[empty].count, 1, memory_order_relaxed);
	} else if (have == key) {
		uint64_t word = atomic_load_explicit(&r->word, memory_order_relaxed);
		atomic_store_explicit(&r->word, (word & ~3ull) | WITHDRAWN, memory_order_release);
		atomic_fetch_add_explicit(&ev->findings[empty].count, 1, memory_order_relaxed);
	}
	/* else: another finding took the slot; ours stands alone, and its slot's key does not match: the reader counts 1 */
}

uint64_t pt_events_put(struct pt_events *ev, const struct pt_event *e)
{
	switch (e->kind) {
	case PT_EV_FINDING:
	case PT_EV_UNTRACED:
	case PT_EV_USED:
		put_finding(ev, e);
		return 0;
	default:
		break;
	}
	struct record *r = append(ev, e, NO_SLOT, 0);
	uint64_t where = r ? (uint64_t)((char *)r - (char *)ev) : 0;
	if (e->kind == PT_EV_EXEC) {
		uint64_t chain = e->chain;
		if (!chain) {
			const struct record *image = image_record(ev, e->image);
			chain = image ? image->key : 1;
		}
		note_image(ev, e->pid, e->image, chain, e->error ? 0 : where);
	}
	return where;
}

bool pt_events_exec(const struct pt_events *ev, int32_t pid, const char *asked, struct pt_event *out)
{
	const struct exec_slot *slot = &ev->execs[(uint32_t)pid % EXEC_SLOTS];
	uint64_t where = atomic_load_explicit(&slot->record, memory_order_relaxed);
	if ((int32_t)(atomic_load_explicit(&slot->image, memory_order_acquire) >> 32) != pid || where < STARTS || (where & 15) ||
	    where > ev->capacity - RECORD_MIN)
		return false;
	const struct record *r = at(ev, where);
	uint64_t word = atomic_load_explicit(&r->word, memory_order_acquire), size = WORD_SIZE(word);
	uint32_t path_len = r->path_len, asked_len = r->asked_len;
	if ((word & MARK_MASK) != MARK || WORD_STATE(word) != PUBLISHED || size > ev->capacity - where || r->kind != PT_EV_EXEC || r->pid != pid ||
	    !asked_len || (uint64_t)path_len + asked_len + sizeof *r > size)
		return false;
	out->path = (const char *)r->bytes;
	out->path_len = path_len;
	return strlen(asked) == asked_len && memcmp(asked, r->bytes + path_len, asked_len) == 0;
}

void pt_events_amend(struct pt_events *ev, uint64_t event, int error)
{
	if (event >= STARTS && event <= ev->capacity - RECORD_MIN)
		at(ev, event)->error = (int16_t)error;
}

const _Atomic uint64_t *pt_events_generation_at(const struct pt_events *ev)
{
	return &ev->generation;
}

uint64_t pt_events_generation(const struct pt_events *ev)
{
	return atomic_load_explicit(&ev->generation, memory_order_acquire);
}

void pt_events_bump(struct pt_events *ev)
{
	atomic_fetch_add_explicit(&ev->generation, 1, memory_order_acq_rel);
}

void pt_events_rule_used(struct pt_events *ev, uint32_t rule)
{
	if (rule >= PT_RULE_BITS)
		return;
	_Atomic uint64_t *word = rule < FIRST_RULES ? &ev->first_rules[rule / 64] : &ev->rules[rule / 64];
	uint64_t one = 1ull << (rule % 64);
	if (!(atomic_load_explicit(word, memory_order_relaxed) & one))
		atomic_fetch_or_explicit(word, one, memory_order_relaxed);
}

bool pt_events_rule_was_used(const struct pt_events *ev, uint32_t rule)
{
	if (rule >= PT_RULE_BITS)
		return true;
	const _Atomic uint64_t *word = rule < FIRST_RULES ? &ev->first_rules[rule / 64] : &ev->rules[rule / 64];
	return atomic_load_explicit(word, memory_order_relaxed) >> (rule % 64) & 1;
}

void pt_events_link_seen(struct pt_events *ev, uint64_t hash)
{
	_Atomic uint64_t *word = &ev->links[(hash >> 6) % LINK_WORDS];
	uint64_t one = 1ull << (hash & 63);
	if (!(atomic_load_explicit(word, memory_order_relaxed) & one))
		atomic_fetch_or_explicit(word, one, memory_order_acq_rel);
}

bool pt_events_maybe_link(const struct pt_events *ev, uint64_t hash)
{
	return atomic_load_explicit(&ev->links[(hash >> 6) % LINK_WORDS], memory_order_acquire) >> (hash & 63) & 1;
}

/* ---- reader: believes nothing ---- */

/*
 * The caller's cursor: bits 0-31 the offset in the arena in units of 16 bytes, 32-47 that among the starts, 48-53 how
 * many waits were in vain, 54-63 records dropped so far (saturating).
 */
struct cursor {
	uint64_t arena, starts, waits, drops;
};

static struct cursor cursor_read(uint64_t c)
{
	return (struct cursor){ (c & UINT32_MAX) << 4, (c >> 32 & 0xffff) << 4, c >> 48 & 0x3f, c >> 54 };
}

static uint64_t cursor_write(const struct cursor *c)
{
	uint64_t starts = c->starts < STARTS_END ? c->starts >> 4 : (STARTS_END >> 4) - 1;
	return (c->arena >> 4 & UINT32_MAX) | starts << 32 | (c->waits < 0x3f ? c->waits : 0x3f) << 48 |
		(c->drops < 0x3ff ? c->drops : 0x3ff) << 54;
}

/* Waits for a writer between its two steps; false when it will not come back. */
static bool await(const struct record *r, uint64_t word)
{
	for (int i = 0; i < 50; i++) {
		if (kill(WORD_PID(word), 0) < 0 && errno == ESRCH) {
			/* it may have published just before it ended */
			return WORD_STATE(atomic_load_explicit(&r->word, memory_order_acquire)) != RESERVED;
		}
		const struct timespec pause = { 0, 1000000 };
		nanosleep(&pause, NULL);
		if (WORD_STATE(atomic_load_explicit(&r->word, memory_order_acquire)) != RESERVED)
			return true;
	}
	return false;
}

/* The next record of one region from *where on. */
static bool next_in(const struct pt_events *ev, const _Atomic uint64_t *first_free, uint64_t begin, uint64_t end, uint64_t *where,
		    struct cursor *cur, struct pt_event *out)
{
	uint64_t offset = *where ? *where : begin;
	bool more = false;
	while (offset >= begin && offset + RECORD_MIN <= end) {
		const struct record *r = at(ev, offset);
		/* The head first: a record that is claimed between the two looks is not there yet, and no broken chain. */
		uint64_t head = atomic_load_explicit(first_free, memory_order_acquire);
		uint64_t word = atomic_load_explicit(&r->word, memory_order_acquire);
		if (!word && offset >= head)
			break;
		uint64_t size = WORD_SIZE(word);
		if ((word & MARK_MASK) != MARK || size < RECORD_MIN || size > RECORD_MAX || size > end - offset) {
			/* lost the way: the next mark below the head, if any */
			uint64_t limit = head < end - RECORD_MIN ? head : end - RECORD_MIN;
			cur->drops++;
			do
				offset += 16;
			while (offset < limit && (at(ev, offset)->word & MARK_MASK) != MARK);
			if (offset >= limit)
				break;
			continue;
		}
		if (WORD_STATE(word) == RESERVED) {
			if (cur->waits < 20 && await(r, word))
				continue;
			if (cur->waits < 20)
				cur->waits++;
			cur->drops++;
			offset += size;
			continue;
		}
		if (WORD_STATE(word) == WITHDRAWN) {
			offset += size;
			continue;
		}
		uint32_t path_len = *(volatile const uint32_t *)&r->path_len, asked_len = *(volatile const uint32_t *)&r->asked_len;
		uint8_t kind = *(volatile const uint8_t *)&r->kind;
		if ((uint64_t)path_len + asked_len > size - sizeof(struct record) || kind < PT_EV_PROCESS || kind > PT_EV_USED ||
		    WORD_STATE(word) != PUBLISHED) {
			cur->drops++;
			offset += size;
			continue;
		}
		memset(out, 0, sizeof *out);
		out->kind = kind;
		out->access = r->access < PT_ACC_COUNT ? r->access : PT_ACC_READ;
		out->outcome = r->outcome <= PT_OUT_REDIRECTED_MISSING ? r->outcome : PT_OUT_ALLOW;
		out->tier = r->tier;
		out->op = r->op;
		out->error = r->error;
		out->pid = r->pid;
		out->ppid = r->ppid;
		out->image = kind == PT_EV_PROCESS ? (uint32_t)(offset >> 4) : r->image;
		out->rule = r->rule;
		out->port = r->port;
		out->time = r->time;
		out->count = 1;
		uint32_t slot = *(volatile const uint32_t *)&r->slot;
		if (slot < FINDING_SLOTS && ev->findings[slot].key == r->key) {
			uint64_t count = atomic_load_explicit(&ev->findings[slot].count, memory_order_relaxed);
			out->count = !count ? 1 : count > UINT32_MAX ? UINT32_MAX : (uint32_t)count;
		}
		out->path = (const char *)r->bytes;
		out->path_len = path_len;
		out->asked = (const char *)r->bytes + path_len;
		out->asked_len = asked_len;
		offset += size;
		more = true;
		break;
	}
	*where = offset;
	return more;
}

bool pt_events_next(const struct pt_events *ev, size_t mapped_size, uint64_t *cursor, struct pt_event *out)
{
	if (!pt_events_check(ev, mapped_size))
		return false;
	struct cursor cur = cursor_read(*cursor);
	bool more = next_in(ev, &ev->starts_head, STARTS, STARTS_END, &cur.starts, &cur, out) ||
		next_in(ev, &ev->head, sizeof(struct pt_events), mapped_size & ~15ull, &cur.arena, &cur, out);
	*cursor = cursor_write(&cur);
	return more;
}

bool pt_events_ends(int fd, uint64_t ends[2])
{
	return pread(fd, &ends[0], sizeof ends[0], offsetof(struct pt_events, starts_head)) == (ssize_t)sizeof ends[0] &&
		pread(fd, &ends[1], sizeof ends[1], offsetof(struct pt_events, head)) == (ssize_t)sizeof ends[1];
}

uint64_t pt_events_lost(const struct pt_events *ev)
{
	return atomic_load_explicit(&ev->lost, memory_order_relaxed);
}

uint64_t pt_events_unsound(const struct pt_events *ev, uint64_t cursor)
{
	(void)ev;
	return cursor_read(cursor).drops;
}
