/*
 * The session's side of the event file: it makes the file, and reads what the build may have scribbled over. It
 * believes nothing.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1      /* fallocate */
#endif
#include "bytes.h"
#include "event_file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

int pt_events_begin(int fd, uint64_t capacity)
{
	if (capacity < PT_EVENTS_MIN)
		capacity = PT_EVENTS_MIN;
	uint64_t first[2] = { MAGIC, capacity };
	uint64_t head = sizeof(struct pt_events), starts = STARTS, backed = head + BACK_STEP;
	if (ftruncate(fd, (off_t)capacity) < 0)
		return -errno;
#ifdef __linux__
	if (fallocate(fd, 0, 0, (off_t)backed) < 0) {
		if (errno != EOPNOTSUPP)
			return -errno;
		backed = UINT64_MAX;
	}
#else
	backed = UINT64_MAX;   /* macOS gives room only at a file's end */
#endif
	if (pwrite(fd, first, sizeof first, 0) != (ssize_t)sizeof first ||
	    pwrite(fd, &backed, sizeof backed, offsetof(struct pt_events, backed)) != (ssize_t)sizeof backed ||
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

bool pt_events_rule_was_used(const struct pt_events *ev, uint32_t rule)
{
	if (rule >= PT_RULE_BITS)
		return true;
	const _Atomic uint64_t *word = rule < FIRST_RULES ? &ev->first_rules[rule / 64] : &ev->rules[rule / 64];
	return atomic_load_explicit(word, memory_order_relaxed) >> (rule % 64) & 1;
}

/*
 * The caller's cursor: bits 0-31 the offset in the arena in units of 16 bytes, 32-48 that among the starts, 49-53 how
 * many waits were in vain, 54-63 records dropped so far (saturating).
 */
struct cursor {
	uint64_t arena, starts, waits, drops;
};
_Static_assert(STARTS_END >> 4 <= 1u << 17, "17 bits");

static struct cursor cursor_read(uint64_t c)
{
	return (struct cursor){ (c & UINT32_MAX) << 4, (c >> 32 & 0x1ffff) << 4, c >> 49 & 0x1f, c >> 54 };
}

static uint64_t cursor_write(const struct cursor *c)
{
	uint64_t starts = c->starts < STARTS_END ? c->starts >> 4 : (STARTS_END >> 4) - 1;
	return (c->arena >> 4 & UINT32_MAX) | starts << 32 | (c->waits < 0x1f ? c->waits : 0x1f) << 49 |
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

static void read_details(const struct pt_events *ev, const struct details *d, struct pt_event *out)
{
	out->pid = d->pid;
	out->ppid = d->ppid;
	out->time = d->time;
	uint32_t slot = *(volatile const uint32_t *)&d->slot;
	uint64_t have = slot < FINDING_SLOTS ? atomic_load_explicit(&ev->findings[slot], memory_order_relaxed) : 0;
	if (have & COUNT_MASK && slot_is_of(have, d->key))
		out->count = (uint32_t)(have & COUNT_MASK);
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
		uint32_t path_len = *(volatile const uint16_t *)&r->path_len, asked_len = *(volatile const uint16_t *)&r->asked_len;
		uint8_t kind = *(volatile const uint8_t *)&r->kind, marks = *(volatile const uint8_t *)&r->marks;
		bool detailed = marks & DETAILED, is_end = marks & ASKED_IS_END;
		if (head_len(marks) + path_len + asked_room(marks, asked_len) > size || (is_end && asked_len > path_len) || kind < PT_EV_PROCESS ||
		    kind > PT_EV_USED || (!detailed && kind != PT_EV_ACCESS) || WORD_STATE(word) != PUBLISHED) {
			cur->drops++;
			offset += size;
			continue;
		}
		memset(out, 0, sizeof *out);
		out->kind = kind;
		out->access = r->access < PT_ACC_COUNT ? r->access : PT_ACC_READ;
		out->outcome = r->outcome <= PT_OUT_REDIRECTED_MISSING ? r->outcome : PT_OUT_ALLOW;
		out->tier = marks & TIER;
		out->op = r->op;
		out->error = r->error;
		out->pid = WORD_PID(word);
		out->image = kind == PT_EV_PROCESS ? (uint32_t)(offset >> 4) : r->image;
		out->rule = r->rule;
		out->port = r->port;
		out->time = offset;
		out->count = 1;
		if (detailed)
			read_details(ev, details_of(r), out);
		out->path = (const char *)r + head_len(marks);
		out->path_len = path_len;
		out->asked = out->path + path_len - (is_end ? asked_len : 0);
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

bool pt_events_ends_sound(const struct pt_events *ev)
{
	uint64_t starts = atomic_load_explicit(&ev->starts_head, memory_order_relaxed);
	uint64_t head = atomic_load_explicit(&ev->head, memory_order_relaxed);
	return starts >= STARTS && starts <= STARTS_END && head >= sizeof(struct pt_events) && head <= ev->capacity && !((starts | head) & 15);
}

/* Writes the pages of a piece that hold something. */
static int write_pages(int to, const unsigned char *piece, size_t len, uint64_t offset)
{
	for (size_t page = 4096, begin = 0, end; begin < len; begin = end) {
		for (end = begin; end < len; end += page) {
			size_t n = len - end < page ? len - end : page;
			if (!piece[end] && memcmp(piece + end, piece + end + 1, n - 1) == 0)
				break;
		}
		if (end > len)
			end = len;
		for (size_t done = begin; done < end; ) {
			ssize_t n = pwrite(to, piece + done, end - done, (off_t)(offset + done));
			if (n < 0)
				return -errno;
			done += (size_t)n;
		}
		if (end < len)
			end += page;
	}
	return 0;
}

int pt_events_copy(int from, int to, uint64_t size)
{
	/* Most of what the disk has given room for is zeros: to copy these, and to throw them away, cost more than all else. */
	unsigned char piece[64 << 10];
	if (ftruncate(to, (off_t)size) < 0)
		return -errno;
	for (uint64_t at = 0, end; at < size; at = end) {
		off_t begin = lseek(from, (off_t)at, SEEK_DATA);
		if (begin < 0 || (uint64_t)begin >= size)
			break;   /* nothing more */
		off_t hole = lseek(from, begin, SEEK_HOLE);
		end = hole < 0 || (uint64_t)hole > size ? size : (uint64_t)hole;
		for (at = (uint64_t)begin; at < end; ) {
			ssize_t n = pread(from, piece, end - at < sizeof piece ? end - at : sizeof piece, (off_t)at);
			if (n < 0)
				return -errno;
			if (!n)
				return 0;   /* somebody has cut it off */
			int error = write_pages(to, piece, (size_t)n, at);
			if (error)
				return error;
			at += (uint64_t)n;
		}
	}
	return 0;
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
