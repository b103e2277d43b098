#include "eventlog.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

size_t pt_eventlog_collect(const struct pt_events *ev, size_t mapped_size, struct pt_reading *cursor, uint32_t kinds,
			   struct pt_event *out, size_t room)
{
	size_t n = 0;
	while (n < room && pt_events_next(ev, mapped_size, cursor, &out[n]))
		if (out[n].kind < 32 && kinds & (1u << out[n].kind))
			n++;
	return n;
}

/* ---- output ---- */

struct sink {
	int fd;
	int error;
	size_t used;
	char bytes[1 << 18];
};

static void flush(struct sink *s)
{
	size_t done = 0;
	while (done < s->used && !s->error) {
		ssize_t n = write(s->fd, s->bytes + done, s->used - done);
		if (n >= 0)
			done += (size_t)n;
		else if (errno != EINTR)
			s->error = errno;
	}
	s->used = 0;
}

static void put(struct sink *s, const char *bytes, size_t len)
{
	if (len > sizeof s->bytes - s->used)
		flush(s);
	memcpy(s->bytes + s->used, bytes, len);
	s->used += len;
}

#define PUT(s, literal) put((s), (literal), sizeof(literal) - 1)

static void put_number(struct sink *s, int64_t value)
{
	char digits[24];
	size_t at = sizeof digits;
	uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
	do
		digits[--at] = (char)('0' + rest % 10);
	while (rest /= 10);
	if (value < 0)
		digits[--at] = '-';
	put(s, digits + at, sizeof digits - at);
}

/* Length of the UTF-8 sequence at p (shortest form, no surrogates), 0 where there is none. */
static size_t utf8(const unsigned char *p, size_t left)
{
	if (p[0] < 0x80)
		return 1;
	size_t n = p[0] >= 0xc2 && p[0] <= 0xdf ? 2 : (p[0] & 0xf0) == 0xe0 ? 3 : p[0] >= 0xf0 && p[0] <= 0xf4 ? 4 : 0;
	if (!n || n > left)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
	    (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return n;
}

static void put_string(struct sink *s, const char *bytes, size_t len)
{
	static const char hex[] = "0123456789abcdef";
	const unsigned char *p = (const unsigned char *)bytes, *end = p + len;
	PUT(s, "\"");
	while (p < end) {
		const unsigned char *plain = p;
		size_t n = 0;
		while (p < end && *p >= 0x20 && *p != '"' && *p != '\\' && (n = utf8(p, (size_t)(end - p))))
			p += n;
		for (size_t left = (size_t)(p - plain); left; ) {
			size_t part = left < 4096 ? left : 4096;
			put(s, (const char *)plain, part);
			plain += part;
			left -= part;
		}
		if (p == end)
			break;
		if (*p == '"' || *p == '\\') {
			const char escape[2] = { '\\', (char)*p };
			put(s, escape, 2);
		} else {
			const char *lead = *p >= 0x80 ? "\\udc" : "\\u00";
			const char low[2] = { hex[*p >> 4], hex[*p & 15] };
			put(s, lead, 4);
			put(s, low, 2);
		}
		p++;
	}
	PUT(s, "\"");
}

static void put_name(struct sink *s, const struct pt_names *names, uint32_t n)
{
	if (n < names->count && names->names[n])
		put_string(s, names->names[n], strlen(names->names[n]));
	else
		PUT(s, "null");
}

/* ---- the log ---- */

struct access_at {
	uint64_t time, cursor;
};

struct image_at {
	uint32_t image;
	int32_t ppid;
	uint32_t len;
	const char *path;
};

static int by_time(const void *a, const void *b)
{
	const struct access_at *x = a, *y = b;
	if (x->time != y->time)
		return x->time < y->time ? -1 : 1;
	return x->cursor < y->cursor ? -1 : x->cursor > y->cursor;
}

static int by_image(const void *a, const void *b)
{
	const struct image_at *x = a, *y = b;
	return x->image < y->image ? -1 : x->image > y->image;
}

static bool grow(void **array, size_t *room, size_t used, size_t item)
{
	if (used < *room)
		return true;
	size_t wanted = *room ? *room * 2 : 1024;
	void *bigger = wanted > SIZE_MAX / item ? NULL : realloc(*array, wanted * item);
	if (!bigger)
		return false;
	*array = bigger;
	*room = wanted;
	return true;
}

static void put_access(struct sink *s, const struct pt_event *e, const struct image_at *image, const struct pt_names *ops,
		       const struct pt_names *ports)
{
	static const char *const accesses[PT_ACC_COUNT] = { "read", "stat", "exec", "list", "readlink", "write", "create",
							    "delete", "rename", "link", "attributes" };
	/* A redirect that met a missing file fell back or failed: errno says which. */
	static const char *const outcomes[] = { "allow", "hide", "deny", "redirect", "unowned", "absent", "redirect" };
	PUT(s, "{\"pid\":");
	put_number(s, e->pid);
	PUT(s, ",\"ppid\":");
	put_number(s, e->ppid ? e->ppid : image ? image->ppid : 0);
	PUT(s, ",\"exe\":");
	if (image)
		put_string(s, image->path, image->len);
	else
		PUT(s, "null");
	PUT(s, ",\"op\":");
	put_name(s, ops, e->op);
	PUT(s, ",\"access\":\"");
	const char *word = accesses[e->access < PT_ACC_COUNT ? e->access : 0];
	put(s, word, strlen(word));
	PUT(s, "\",\"path\":");
	put_string(s, e->path, e->path_len);
	if (e->asked_len && (e->asked_len != e->path_len || memcmp(e->asked, e->path, e->path_len) != 0)) {
		PUT(s, ",\"asked\":");
		put_string(s, e->asked, e->asked_len);
	}
	PUT(s, ",\"verdict\":\"");
	word = outcomes[e->outcome < sizeof outcomes / sizeof *outcomes ? e->outcome : 0];
	put(s, word, strlen(word));
	PUT(s, "\",\"port\":");
	put_name(s, ports, e->port);
	PUT(s, ",\"errno\":");
	put_number(s, e->error);
	PUT(s, "}\n");
}

int64_t pt_eventlog_json(const struct pt_events *ev, size_t mapped_size, int fd, const struct pt_names *ops,
			 const struct pt_names *ports)
{
	struct access_at *accesses = NULL;
	struct image_at *images = NULL;
	size_t naccesses = 0, access_room = 0, nimages = 0, image_room = 0;
	struct pt_reading cursor = { 0 };
	uint64_t before = 0, last = 0;
	struct pt_event e;
	bool sorted = true, memory = true;
	struct sink *s = malloc(sizeof *s);

	if (!s)
		return -ENOMEM;
	s->fd = fd;
	s->error = 0;
	s->used = 0;
	for (; memory && pt_events_next(ev, mapped_size, &cursor, &e); before = cursor.arena) {
		if (e.kind == PT_EV_PROCESS) {
			memory = grow((void **)&images, &image_room, nimages, sizeof *images);
			if (memory)
				images[nimages++] = (struct image_at){ e.image, e.ppid, e.path_len, e.path };
		} else if (e.kind == PT_EV_ACCESS) {
			memory = grow((void **)&accesses, &access_room, naccesses, sizeof *accesses);
			if (memory)
				accesses[naccesses++] = (struct access_at){ e.time, before };
			sorted = sorted && e.time >= last;
			last = e.time;
		}
	}
	if (!sorted)
		qsort(accesses, naccesses, sizeof *accesses, by_time);
	if (nimages)
		qsort(images, nimages, sizeof *images, by_image);
	int64_t lines = 0;
	for (size_t i = 0; memory && i < naccesses && !s->error; i++) {
		struct pt_reading at = { .starts = UINT64_MAX, .arena = accesses[i].cursor };
		/* `at` may stand before records of other kinds that were dropped: the next access is the one meant. */
		while (pt_events_next(ev, mapped_size, &at, &e) && e.kind != PT_EV_ACCESS)
			;
		const struct image_at key = { .image = e.image };
		const struct image_at *image =
			nimages ? bsearch(&key, images, nimages, sizeof *images, by_image) : NULL;
		put_access(s, &e, image, ops, ports);
		lines++;
	}
	flush(s);
	int error = !memory ? ENOMEM : s->error;
	free(accesses);
	free(images);
	free(s);
	return error ? -error : lines;
}
