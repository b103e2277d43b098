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
	uint64_t head = sizeof(struct pt_events), backed = head + BACK_STEP;
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
	    pwrite(fd, &head, sizeof head, offsetof(struct pt_events, head)) != (ssize_t)sizeof head)
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

/* The record of `size` bytes whose header has been copied to `head`, and whose bytes lie at `bytes`. false: it is not sound. */
static bool take(const struct pt_events *ev, const struct record *head, const unsigned char *bytes, uint64_t offset, uint64_t size,
		 struct pt_event *out)
{
	uint32_t path_len = head->path_len, asked_len = head->asked_len;
	uint8_t kind = head->kind, marks = head->marks;
	bool detailed = marks & DETAILED, is_end = marks & ASKED_IS_END;
	if (head_len(marks) + path_len + asked_room(marks, asked_len) > size || (is_end && asked_len > path_len) || kind < PT_EV_PROCESS ||
	    kind > PT_EV_USED || (!detailed && kind != PT_EV_ACCESS))
		return false;
	*out = (struct pt_event){ .kind = kind, .access = head->access < PT_ACC_COUNT ? head->access : PT_ACC_READ,
		.outcome = head->outcome <= PT_OUT_REDIRECTED_MISSING ? head->outcome : PT_OUT_ALLOW, .tier = marks & TIER,
		.op = head->op, .error = head->error, .pid = WORD_PID(head->word),
		.image = kind == PT_EV_PROCESS ? (uint32_t)(offset >> 4) : head->image, .rule = head->rule, .port = head->port,
		.time = offset, .count = 1 };
	if (detailed) {
		struct details d;
		memcpy(&d, bytes + sizeof(struct record), sizeof d);
		out->pid = d.pid;
		out->ppid = d.ppid;
		if (d.time)
			out->time = d.time;
		uint64_t have = d.slot < FINDING_SLOTS ? atomic_load_explicit(&ev->findings[d.slot], memory_order_relaxed) : 0;
		if (have & COUNT_MASK && slot_is_of(have, d.key))
			out->count = (uint32_t)(have & COUNT_MASK);
	}
	out->path = (const char *)bytes + head_len(marks);
	out->path_len = path_len;
	out->asked = out->path + path_len - (is_end ? asked_len : 0);
	out->asked_len = asked_len;
	return true;
}

static bool is_record(uint64_t word)
{
	return (word & MARK_MASK) == MARK && WORD_SIZE(word) >= RECORD_MIN && WORD_SIZE(word) <= RECORD_MAX;
}

static bool next_in_arena(const struct pt_events *ev, uint64_t end, struct pt_reading *cur, struct pt_event *out)
{
	uint64_t offset = cur->arena ? cur->arena : sizeof(struct pt_events);
	bool more = false;
	while (!more && !(offset & 15) && offset >= sizeof(struct pt_events) && offset + RECORD_MIN <= end) {
		const struct record *r = at(ev, offset);
		/* The head first: a record that is claimed between the two looks is not there yet, and no broken chain. */
		uint64_t claimed = atomic_load_explicit(&ev->head, memory_order_acquire);
		uint64_t word = atomic_load_explicit(&r->word, memory_order_acquire), size = WORD_SIZE(word);
		if (!word && offset >= claimed)
			break;
		if (!is_record(word) || size > end - offset) {
			/* lost the way: the next mark below the head, if any */
			uint64_t limit = claimed < end - RECORD_MIN ? claimed : end - RECORD_MIN;
			cur->drops++;
			do
				offset += 16;
			while (offset < limit && (at(ev, offset)->word & MARK_MASK) != MARK);
			if (offset >= limit)
				break;
			continue;
		}
		if (WORD_STATE(word) == RESERVED && cur->waits < 20) {
			if (await(r, word))
				continue;
			cur->waits++;
		}
		if (WORD_STATE(word) == PUBLISHED) {
			struct record head;
			memcpy(&head, r, sizeof head);
			more = take(ev, &head, (const unsigned char *)r, offset, size, out);
		}
		cur->drops += !more && WORD_STATE(word) != WITHDRAWN;
		offset += size;
	}
	cur->arena = offset;
	return more;
}

/* The starts are appended by calls: what is there is whole, but for what a writer that was killed has left, at any place. */
static bool next_start(const struct pt_events *ev, uint64_t begin, uint64_t end, struct pt_reading *cur, struct pt_event *out)
{
	uint64_t offset = cur->starts > begin ? cur->starts : begin;
	bool more = false, lost = false;
	while (!more && offset < end && end - offset >= RECORD_MIN) {
		const unsigned char *bytes = (const unsigned char *)ev + offset;
		struct record head;
		memcpy(&head, bytes, sizeof head);
		uint64_t size = WORD_SIZE(head.word);
		if (is_record(head.word) && size > end - offset && !cur->last)
			break;         /* the rest is still being written */
		more = is_record(head.word) && size <= end - offset && WORD_STATE(head.word) == PUBLISHED && take(ev, &head, bytes, offset, size, out);
		cur->drops += !more && !lost;
		lost = !more;
		offset += more ? size : 1;
	}
	cur->starts = offset;
	return more;
}

bool pt_events_next(const struct pt_events *ev, size_t mapped_size, struct pt_reading *cursor, struct pt_event *out)
{
	uint64_t capacity = pt_events_capacity(ev, mapped_size);
	return capacity && (next_start(ev, capacity, mapped_size, cursor, out) ||
			    next_in_arena(ev, capacity & ~15ull, cursor, out));
}

uint64_t pt_events_extent(uint64_t capacity, uint64_t found)
{
	return found < capacity ? capacity : found - capacity < STARTS_MOST ? found : capacity + STARTS_MOST;
}

bool pt_events_ends(int fd, uint64_t ends[2])
{
	off_t end = lseek(fd, 0, SEEK_END); /* not fstat: event_io.h says why */
	ends[0] = end < 0 ? 0 : (uint64_t)end;
	return end >= 0 && pread(fd, &ends[1], sizeof ends[1], offsetof(struct pt_events, head)) == (ssize_t)sizeof ends[1];
}

bool pt_events_ends_sound(const struct pt_events *ev, size_t size)
{
	uint64_t head = atomic_load_explicit(&ev->head, memory_order_relaxed);
	for (unsigned i = 0; i < EXEC_SLOTS; i++) {
		uint64_t image = atomic_load_explicit(&ev->execs[i].image, memory_order_relaxed);
		/* who was told lies in the file, if nobody has cut that off */
		if ((image & UINT32_MAX) << 4 >= size || atomic_load_explicit(&ev->execs[i].record, memory_order_relaxed) >= size)
			return false;
	}
	return head >= sizeof(struct pt_events) && head <= ev->capacity && !(head & 15);
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
