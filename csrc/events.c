/*
 * The event file's writers: the injected library, in any process and signal handler, and the supervisor. They never
 * wait and never fail.
 */
#include "bytes.h"
#include "event_file.h"

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

void pt_events_touch(struct pt_events *ev)
{
	atomic_fetch_add_explicit(&ev->touched, 0, memory_order_relaxed);
}

bool pt_events_check(const struct pt_events *ev, size_t mapped_size)
{
	return mapped_size >= PT_EVENTS_MIN && ev->magic == MAGIC && ev->capacity <= mapped_size &&
		ev->capacity >= PT_EVENTS_MIN;
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
	return end <= STARTS_END || !ask_for_all ? ev : ask_for_all(ev);
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

/* Claims room for a record below `end`; NULL when there is none. */
static struct record *reserve(struct pt_events *ev, _Atomic uint64_t *first_free, uint64_t begin, uint64_t end, size_t size, int32_t pid)
{
	uint64_t head = atomic_load_explicit(first_free, memory_order_acquire);
	/* Bounded, because another process may scribble over the head: better one event lost than a host that hangs. */
	for (int tries = 0; tries < 100000; tries++) {
		if (head < begin || (head & 15) || head > end || end - head < size + RECORD_MIN)
			break;
		/* The word of the next record, too: it is looked at before that has asked. */
		if (begin != STARTS && !back(ev, head + size + RECORD_MIN))
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

/* Where it is in the file goes to `*where`: more of the file may be seen for it, at another address. */
static struct record *place(struct pt_events *ev, uint8_t kind, size_t size, int32_t pid, uint64_t *where)
{
	struct record *r = NULL;
	size = (size + 15) & ~(size_t)15;
	if (kind == PT_EV_PROCESS || kind == PT_EV_EXEC)
		r = reserve(ev, &ev->starts_head, STARTS, STARTS_END, size, pid);
	struct pt_events *all = r ? ev : reach(ev, UINT64_MAX);
	if (!r && all)
		r = reserve(all, &all->head, sizeof(struct pt_events), all->capacity, size, pid);
	if (r)
		*where = (uint64_t)((char *)r - (char *)all);
	else
		lose(ev);
	return r;
}

/* Has a record nothing that its short form lacks? */
static bool is_short(const struct pt_event *e, int32_t writer)
{
	return e->kind == PT_EV_ACCESS && e->pid == writer && WORD_PID(WORD(0, 0, writer)) == writer && !e->ppid && !e->time;
}

static struct record *append(struct pt_events *ev, const struct pt_event *e, uint32_t slot, uint64_t key, uint64_t *where)
{
	uint32_t path_len = e->path_len < STRING_MAX ? e->path_len : STRING_MAX;
	uint32_t asked_len = e->asked_len < STRING_MAX ? e->asked_len : STRING_MAX;
	bool is_end = asked_len && asked_len <= path_len && memcmp(e->path + path_len - asked_len, e->asked, asked_len) == 0;
	/* Who writes, for a reader that waits: the supervisor tells of others, who may be gone by now. */
	int32_t writer = e->tier == 2 ? getpid() : e->pid;
	unsigned marks = (e->tier & TIER) | (is_short(e, writer) ? 0 : DETAILED) | (is_end ? ASKED_IS_END : 0);
	size_t size = head_len(marks) + path_len + asked_room(marks, asked_len);
	struct record *r = place(ev, e->kind, size, writer, where);
	if (!r)
		return NULL;
	r->kind = e->kind;
	r->access = e->access;
	r->outcome = e->outcome;
	r->marks = (uint8_t)marks;
	r->op = e->op;
	r->error = e->error;
	r->image = e->image;
	r->rule = e->rule;
	r->port = e->port;
	r->path_len = (uint16_t)path_len;
	r->asked_len = (uint16_t)asked_len;
	/* later records lie behind: no clock needed */
	if (marks & DETAILED)
		*details_of(r) = (struct details){ .pid = e->pid, .ppid = e->ppid, .time = e->time ? e->time : *where, .key = key, .slot = slot };
	char *bytes = (char *)r + head_len(marks);
	if (path_len)
		memcpy(bytes, e->path, path_len);
	if (asked_len && !is_end)
		memcpy(bytes + path_len, e->asked, asked_len);
	atomic_store_explicit(&r->word, WORD(PUBLISHED, (size + 15) & ~(size_t)15, writer), memory_order_release);
	return r;
}

/* The chain of an image, where the index is one; 0: it is none. */
static uint64_t image_chain(struct pt_events *ev, uint32_t image)
{
	uint64_t offset = (uint64_t)image << 4;
	if (offset < STARTS || (offset > STARTS_END - RECORD_FULL && offset < sizeof(struct pt_events)) || offset > ev->capacity - RECORD_FULL)
		return 0;
	ev = reach(ev, offset + RECORD_FULL);
	return ev && at(ev, offset)->kind == PT_EV_PROCESS ? details_of(at(ev, offset))->key : 0;
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
		uint64_t above = image_chain(ev, parent);
		chain = above ? above : 1;
	} else {
		parent = current_image(ev, e.pid, &chain);
		if (!parent)   /* spawned: nobody could name our pid before */
			parent = current_image(ev, e.ppid, &chain);
	}
	chain = mix_bytes(chain, e.path, e.path_len);
	e.kind = PT_EV_PROCESS;
	e.image = 0;
	e.rule = parent;
	uint64_t where = 0;
	append(ev, &e, NO_SLOT, chain, &where);
	uint32_t image = (uint32_t)(where >> 4);
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
	uint64_t where = 0;
	append(ev, e, NO_SLOT, 0, &where);
	if (e->kind == PT_EV_EXEC) {
		uint64_t chain = e->chain;
		if (!chain) {
			uint64_t image = image_chain(ev, e->image);
			chain = image ? image : 1;
		}
		note_image(ev, e->pid, e->image, chain, e->error ? 0 : where);
	}
	return where;
}

bool pt_events_exec(struct pt_events *ev, int32_t pid, const char *asked, struct pt_event *out)
{
	const struct exec_slot *slot = &ev->execs[(uint32_t)pid % EXEC_SLOTS];
	uint64_t where = atomic_load_explicit(&slot->record, memory_order_relaxed);
	/* No further than the disk has room: it is written to, and anybody may have put a number there. */
	if ((int32_t)(atomic_load_explicit(&slot->image, memory_order_acquire) >> 32) != pid || where < STARTS || (where & 15) ||
	    where > ev->capacity - RECORD_FULL || where + RECORD_FULL > atomic_load_explicit(&ev->backed, memory_order_relaxed))
		return false;
	/* None of those in the first part goes beyond it. */
	uint64_t end = where < STARTS_END ? STARTS_END : ev->capacity;
	if (where > end - RECORD_FULL || !(ev = reach(ev, end)))
		return false;
	struct record *r = at(ev, where);
	/* a write before the first look: our own record will mostly lie in the same page */
	uint64_t word = atomic_fetch_add_explicit(&r->word, 0, memory_order_acquire), size = WORD_SIZE(word);
	uint32_t path_len = r->path_len, asked_len = r->asked_len;
	uint8_t marks = r->marks;
	bool is_end = marks & ASKED_IS_END;
	if ((word & MARK_MASK) != MARK || WORD_STATE(word) != PUBLISHED || size > RECORD_MAX || size > end - where || r->kind != PT_EV_EXEC ||
	    !(marks & DETAILED) || details_of(r)->pid != pid || !asked_len || (is_end && asked_len > path_len) ||
	    head_len(marks) + path_len + asked_room(marks, asked_len) > size)
		return false;
	out->path = (const char *)r + head_len(marks);
	out->path_len = path_len;
	return strlen(asked) == asked_len && memcmp(asked, out->path + path_len - (is_end ? asked_len : 0), asked_len) == 0;
}

void pt_events_amend(struct pt_events *ev, uint64_t event, int error)
{
	if (event >= STARTS && event <= ev->capacity - RECORD_MIN && (ev = reach(ev, event + RECORD_MIN)))
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
