/*
 * The event file's writers: the injected library, in any process and signal handler, and the supervisor. They never
 * wait and never fail.
 */
#include "bytes.h"
#include "event_file.h"
#include "event_io.h"

#include <errno.h>
#include <unistd.h>

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

uint64_t pt_events_capacity(const struct pt_events *ev, size_t mapped_size)
{
	uint64_t capacity = mapped_size >= PT_EVENTS_MIN && ev->magic == MAGIC ? *(volatile const uint64_t *)&ev->capacity : 0;
	return capacity <= mapped_size && capacity >= PT_EVENTS_MIN ? capacity : 0;
}

static int (*ask_for_room)(uint64_t from, uint64_t size);

void pt_events_room_from(int (*ask)(uint64_t from, uint64_t size))
{
	ask_for_room = ask;
}

static struct pt_events *(*ask_for_all)(struct pt_events *part);

void pt_events_all_from(struct pt_events *(*ask)(struct pt_events *part))
{
	ask_for_all = ask;
}

/* The file where it can be used up to `end`; NULL: this process cannot see so far. */
static struct pt_events *reach(struct pt_events *ev, uint64_t end)
{
	return end <= PT_EVENTS_PART || !ask_for_all ? ev : ask_for_all(ev);
}

static void lose(struct pt_events *ev)
{
	atomic_fetch_add_explicit(&ev->lost, 1, memory_order_relaxed);
}

/* Is there room on the disk up to `end`? */
static bool back(struct pt_events *ev, uint64_t end)
{
	uint64_t have = atomic_load_explicit(&ev->backed, memory_order_relaxed);
	if (end <= have || !ask_for_room)
		return true;
	uint64_t wanted = end - have < BACK_STEP && ev->capacity - have > BACK_STEP ? have + BACK_STEP : end;
	int error = ask_for_room(have, wanted - have);
	if ((error == -ENOSPC || error == -EDQUOT) && wanted > end)
		error = ask_for_room(have, (wanted = end) - have);
	if (error == -ENOSPC || error == -EDQUOT)
		return false;
	if (error == -EOPNOTSUPP || error == -ENOSYS)
		wanted = UINT64_MAX;
	else if (error)
		return true;  /* it is this process that cannot ask: no reason to lose anything while there is room */
	while (have < wanted && !atomic_compare_exchange_weak(&ev->backed, &have, wanted))
		;
	return true;
}

/* Claims room for a record in the arena; NULL when there is none. */
static struct record *reserve(struct pt_events *ev, size_t size, int32_t pid)
{
	uint64_t head = atomic_load_explicit(&ev->head, memory_order_acquire);
	/* Bounded, because another process may scribble over the head: better one event lost than a host that hangs. */
	for (int tries = 0; tries < 100000; tries++) {
		if (head < sizeof(struct pt_events) || (head & 15) || head > ev->capacity || ev->capacity - head < size + RECORD_MIN)
			break;
		/* The word of the next record, too: it is looked at before that has asked. */
		if (!back(ev, head + size + RECORD_MIN))
			break;
		struct record *r = at(ev, head);
		uint64_t word = 0;
		if (atomic_compare_exchange_strong(&r->word, &word, WORD(RESERVED, size, pid))) {
			uint64_t expected = head;
			atomic_compare_exchange_strong(&ev->head, &expected, head + size);
			return r;
		}
		uint64_t other = WORD_SIZE(word);
		if ((word & MARK_MASK) != MARK || other < RECORD_MIN)
			break;
		uint64_t expected = head;
		if (atomic_compare_exchange_strong(&ev->head, &expected, head + other))
			head += other;
		else
			head = expected;
	}
	return NULL;
}

/* Has a record nothing that its short form lacks? */
static bool is_short(const struct pt_event *e, int32_t writer)
{
	return e->kind == PT_EV_ACCESS && e->pid == writer && WORD_PID(WORD(0, 0, writer)) == writer && !e->ppid && !e->time;
}

/* How a record is written down. */
struct shape {
	uint32_t path_len, asked_len;
	bool is_end;
	uint8_t marks;
	int32_t writer;
	size_t used, size;
};

static struct shape shape_of(const struct pt_event *e)
{
	struct shape s = { .path_len = e->path_len < STRING_MAX ? e->path_len : STRING_MAX,
			   .asked_len = e->asked_len < STRING_MAX ? e->asked_len : STRING_MAX };
	s.is_end = s.asked_len && s.asked_len <= s.path_len && memcmp(e->path + s.path_len - s.asked_len, e->asked, s.asked_len) == 0;
	/* Who writes, for a reader that waits: the supervisor tells of others, who may be gone by now. */
	s.writer = e->tier == 2 ? getpid() : e->pid;
	s.marks = (uint8_t)((e->tier & TIER) | (is_short(e, s.writer) ? 0 : DETAILED) | (s.is_end ? ASKED_IS_END : 0));
	s.used = head_len(s.marks) + s.path_len + asked_room(s.marks, s.asked_len);
	s.size = (s.used + 15) & ~(size_t)15;
	return s;
}

/* All but the word and the strings. */
static void fill(struct record *r, const struct pt_event *e, const struct shape *s, uint32_t slot, uint64_t key)
{
	r->kind = e->kind;
	r->access = e->access;
	r->outcome = e->outcome;
	r->marks = s->marks;
	r->op = e->op;
	r->error = e->error;
	r->image = e->image;
	r->rule = e->rule;
	r->port = e->port;
	r->path_len = (uint16_t)s->path_len;
	r->asked_len = (uint16_t)s->asked_len;
	/* without a time of its own it has that of its place: later records lie behind, no clock needed */
	if (s->marks & DETAILED)
		*details_of(r) = (struct details){ .pid = e->pid, .ppid = e->ppid, .time = e->time, .key = key, .slot = slot };
}

/* To the arena. Where it is in the file goes to `*where`: all of the file may be seen for it, at another address. */
static struct record *append(struct pt_events *ev, const struct pt_event *e, uint32_t slot, uint64_t key, uint64_t *where)
{
	struct shape s = shape_of(e);
	struct pt_events *all = reach(ev, UINT64_MAX);
	struct record *r = all ? reserve(all, s.size, s.writer) : NULL;
	if (!r) {
		lose(ev);
		return NULL;
	}
	*where = (uint64_t)((char *)r - (char *)all);
	fill(r, e, &s, slot, key);
	char *bytes = (char *)r + head_len(s.marks);
	if (s.path_len)
		memcpy(bytes, e->path, s.path_len);
	if (s.asked_len && !s.is_end)
		memcpy(bytes + s.path_len, e->asked, s.asked_len);
	atomic_store_explicit(&r->word, WORD(PUBLISHED, s.size, s.writer), memory_order_release);
	return r;
}

/* A start or an exec: where it is in the file, 0: nowhere. A descriptor by which that cannot be told is none any more. */
static uint64_t tell(struct pt_events *ev, int *fd, const struct pt_event *e, uint64_t key)
{
	uint64_t where = 0;
	if (*fd >= 0) {
		static const char zeros[16];
		_Alignas(struct record) unsigned char head[RECORD_FULL];
		struct record *r = (struct record *)(void *)head;
		struct shape s = shape_of(e);
		fill(r, e, &s, NO_SLOT, key);
		r->word = WORD(PUBLISHED, s.size, s.writer);
		const struct iovec parts[] = {
			{ head, head_len(s.marks) },
			{ (void *)(uintptr_t)e->path, s.path_len },
			{ (void *)(uintptr_t)e->asked, asked_room(s.marks, s.asked_len) },
			{ (void *)(uintptr_t)zeros, s.size - s.used },
		};
		where = pt_file_append(*fd, parts, 4, s.size);
	}
	if (!where) {
		*fd = -1;
		append(ev, e, NO_SLOT, key, &where);
	}
	return where;
}

/* The chain of an image that was told through the map; 0: it is none. */
static uint64_t image_chain(struct pt_events *ev, uint32_t image)
{
	uint64_t offset = (uint64_t)image << 4;
	if (offset < sizeof(struct pt_events) || offset > ev->capacity - RECORD_FULL)
		return 0;
	ev = reach(ev, offset + RECORD_FULL);
	return ev && at(ev, offset)->kind == PT_EV_PROCESS ? details_of(at(ev, offset))->key : 0;
}

static uint64_t slot_at(int32_t pid)
{
	return offsetof(struct pt_events, execs) + (uint32_t)pid % EXEC_SLOTS * sizeof(struct exec_slot);
}

/* What the slot says of a process: which image it runs, or ran before its exec. All 0: not known here. */
static struct exec_note noted(const struct pt_events *ev, int fd, int32_t pid)
{
	struct exec_note n;
	if (pt_file_read(fd, &n, sizeof n, slot_at(pid)) != (ssize_t)sizeof n) {
		const struct exec_slot *slot = &ev->execs[(uint32_t)pid % EXEC_SLOTS];
		n.image = atomic_load_explicit(&slot->image, memory_order_acquire);
		n.chain = atomic_load_explicit(&slot->chain, memory_order_relaxed);
		n.record = atomic_load_explicit(&slot->record, memory_order_relaxed);
	}
	return (int32_t)(n.image >> 32) == pid ? n : (struct exec_note){ 0 };
}

static void note(struct pt_events *ev, int fd, int32_t pid, uint32_t image, uint64_t chain, uint64_t record)
{
	const struct exec_note n = { (uint64_t)(uint32_t)pid << 32 | image, chain, record };
	if (pt_file_write(fd, &n, sizeof n, slot_at(pid)))
		return;
	struct exec_slot *slot = &ev->execs[(uint32_t)pid % EXEC_SLOTS];
	atomic_store_explicit(&slot->chain, n.chain, memory_order_relaxed);
	atomic_store_explicit(&slot->record, n.record, memory_order_relaxed);
	atomic_store_explicit(&slot->image, n.image, memory_order_release);
}

uint64_t pt_events_opened(int fd, bool *room)
{
	uint64_t first[2], size;
	if (pt_file_read(fd, first, sizeof first, 0) != (ssize_t)sizeof first || first[0] != MAGIC || first[1] < PT_EVENTS_MIN)
		return 0;
	size = pt_file_size(fd);
	if (size < first[1])
		return 0;
	*room = size - first[1] < STARTS_MOST;
	return first[1];
}

uint32_t pt_events_image(struct pt_events *ev, int fd, struct pt_event *process)
{
	struct pt_event e = *process;
	uint32_t parent = e.image;
	uint64_t chain;
	if (parent) {
		chain = e.chain ? e.chain : image_chain(ev, parent);
	} else {
		struct exec_note n = noted(ev, fd, e.pid);
		if (!(uint32_t)n.image)   /* spawned: nobody could name our pid before */
			n = noted(ev, fd, e.ppid);
		parent = (uint32_t)n.image;
		chain = n.chain;
	}
	chain = mix_bytes(chain ? chain : 1, e.path, e.path_len);
	e.kind = PT_EV_PROCESS;
	e.image = 0;
	e.rule = parent;
	uint32_t image = (uint32_t)(tell(ev, &fd, &e, chain) >> 4);
	note(ev, fd, e.pid, image, chain, 0);
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
	/* each try in another page: a full one, which the first place of many findings is, stops none that comes to lie there */
	return (uint32_t)(((key >> 16) + (uint64_t)i * (PAGE_SLOTS + 1)) % FINDING_SLOTS);
}

static void count_again(_Atomic uint64_t *slot, uint64_t have)
{
	if ((have & COUNT_MASK) < COUNT_MOST)
		atomic_fetch_add_explicit(slot, 1, memory_order_relaxed);
}

static void put_finding(struct pt_events *ev, const struct pt_event *e)
{
	uint64_t image = e->chain ? e->chain : image_chain(ev, e->image), whose = image ? image : (uint64_t)e->pid;
	uint64_t key = mix(e->kind == PT_EV_USED ? 1 : whose,
			   (uint64_t)e->kind << 32 | (uint32_t)e->access << 16 | e->outcome);
	key = mix_bytes(key, e->path, e->path_len);
	if (!(key & ~COUNT_MASK))
		key |= COUNT_MASK + 1;
	uint64_t near = e->kind == PT_EV_USED ? mix_bytes(1, e->path, directory(e)) : mix(2, whose);
	uint32_t empty = NO_SLOT;
	/* a write before the first look: one page fault, not two */
	atomic_fetch_add_explicit(&ev->findings[slot_of(key, near, 0)], 0, memory_order_relaxed);
	for (uint32_t i = 0; i < 2 * PROBES; i++) {
		uint32_t n = slot_of(key, near, i);
		uint64_t have = atomic_load_explicit(&ev->findings[n], memory_order_acquire);
		if (slot_is_of(have, key)) {
			count_again(&ev->findings[n], have);
			return;
		}
		if (!have) {
			empty = n;
			break;
		}
	}
	/* The record first: a process that is killed between the two steps leaves a finding twice, never none. */
	uint64_t where, have = 0;
	struct record *r = append(ev, e, empty, key, &where);
	if (!r || empty == NO_SLOT || atomic_compare_exchange_strong(&ev->findings[empty], &have, (key & ~COUNT_MASK) | 1))
		return;
	if (slot_is_of(have, key)) {
		uint64_t word = atomic_load_explicit(&r->word, memory_order_relaxed);
		atomic_store_explicit(&r->word, (word & ~3ull) | WITHDRAWN, memory_order_release);
		count_again(&ev->findings[empty], have);
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
	if (e->kind == PT_EV_EXEC)
		return pt_events_told_exec(ev, -1, e);
	uint64_t where = 0;
	append(ev, e, NO_SLOT, 0, &where);
	return where;
}

uint64_t pt_events_told_exec(struct pt_events *ev, int fd, const struct pt_event *e)
{
	uint64_t where = tell(ev, &fd, e, 0), chain = e->chain ? e->chain : image_chain(ev, e->image);
	note(ev, fd, e->pid, e->image, chain ? chain : 1, e->error ? 0 : where);
	return where;
}

bool pt_events_exec(const struct pt_events *ev, int fd, int32_t pid, const char *asked, uint64_t *room, size_t size, struct pt_event *out)
{
	struct exec_note n = noted(ev, fd, pid);
	ssize_t got = n.record ? pt_file_read(fd, room, size, n.record) : 0;
	const struct record *r = (const struct record *)room;
	if (got < (ssize_t)RECORD_FULL)
		return false;
	uint64_t word = r->word, length = head_len(r->marks) + r->path_len + asked_room(r->marks, r->asked_len);
	if ((word & MARK_MASK) != MARK || WORD_STATE(word) != PUBLISHED || r->kind != PT_EV_EXEC || !(r->marks & DETAILED) ||
	    details_of(r)->pid != pid || !r->asked_len || (r->marks & ASKED_IS_END && r->asked_len > r->path_len) || length > (uint64_t)got)
		return false;
	out->image = (uint32_t)n.image;
	out->chain = n.chain;
	out->path = (const char *)r + head_len(r->marks);
	out->path_len = r->path_len;
	const char *given = out->path + r->path_len - (r->marks & ASKED_IS_END ? r->asked_len : 0);
	return strlen(asked) == r->asked_len && memcmp(asked, given, r->asked_len) == 0;
}

void pt_events_amend(struct pt_events *ev, uint64_t event, int error)
{
	if (event >= sizeof(struct pt_events) && event <= ev->capacity - RECORD_MIN && (ev = reach(ev, event + RECORD_MIN)))
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

void pt_events_move_begins(struct pt_events *ev)
{
	atomic_fetch_add(&ev->movers, 1);
}

void pt_events_move_ends(struct pt_events *ev)
{
	atomic_fetch_sub(&ev->movers, 1);
}

bool pt_events_unmoved(const struct pt_events *ev, uint64_t generation)
{
	return !atomic_load(&ev->movers) && atomic_load(&ev->generation) == generation;
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
