/*
 * The last directory that was found deeper than the kernel tells. To find it took a walk up, and a step from there down
 * or up is what a program does next (configure scripts make and remove a thousand directories in each other): from what
 * is remembered one look is enough. Guarded by a sequence number like the slots of dirs.c.
 */
#include "trace.h"

struct pt_deep {
	_Atomic uint32_t seq;          /* odd while it is written; 0: empty */
	uint32_t len;
	uint64_t generation, dev, ino;
	char text[PT_PATH_CAP];
};

_Static_assert(sizeof(struct pt_deep) <= PT_DEEP_SIZE, "its place in tables.c");

static struct pt_deep *slot(void)
{
	return (struct pt_deep *)(void *)pt.deep;
}

static uint64_t generation(void)
{
	return pt.events ? pt_events_generation(pt.events) : 0;
}

/* Length of what is remembered, its beginning copied to buf where that is not NULL; 0: nothing, or not true any more. */
static size_t recall(struct stat *st, char *buf, size_t size)
{
	struct pt_deep *d = slot();
	uint32_t seq = d ? atomic_load_explicit(&d->seq, memory_order_acquire) : 0;
	if (!seq || (seq & 1) || d->generation != generation())
		return 0;
	size_t len = d->len;
	if (len >= size || len >= sizeof d->text)
		return 0;
	memcpy(buf, d->text, len);
	buf[len] = 0;
	st->st_dev = (dev_t)d->dev;
	st->st_ino = (ino_t)d->ino;
	atomic_thread_fence(memory_order_acquire);
	return atomic_load_explicit(&d->seq, memory_order_relaxed) == seq ? len : 0;
}

static void remember(const struct stat *st, uint64_t begun, const char *text, size_t len)
{
	struct pt_deep *d = slot();
	uint32_t seq = d ? atomic_load_explicit(&d->seq, memory_order_relaxed) : 1;
	if ((seq & 1) || len >= sizeof d->text ||
	    !atomic_compare_exchange_strong_explicit(&d->seq, &seq, seq + 1, memory_order_acquire, memory_order_relaxed))
		return;
	atomic_thread_fence(memory_order_release);
	d->generation = begun;
	d->dev = (uint64_t)st->st_dev;
	d->ino = (uint64_t)st->st_ino;
	d->len = (uint32_t)len;
	memcpy(d->text, text, len);
	atomic_store_explicit(&d->seq, seq + 2 ? seq + 2 : 2, memory_order_release);
}

static ssize_t known(void *user, const struct stat *st, char *buf, size_t size)
{
	struct stat other;
	size_t len = recall(&other, buf, size);
	(void)user;
	return len && other.st_dev == st->st_dev && other.st_ino == st->st_ino ? (ssize_t)len : 0;
}

ssize_t pt_deep_name(int dir, char *buf, size_t size)
{
	struct stat st, other;
	uint64_t begun = generation();
	int error = sys_fstat(dir, &st);
	if (error || !S_ISDIR(st.st_mode))
		return error ? error : -ENOTDIR;
	size_t len = recall(&other, buf, size);
	ssize_t n = 0;
	if (len && other.st_dev == st.st_dev && other.st_ino == st.st_ino)
		return (ssize_t)len;
	while (len && buf[--len] != '/')       /* the one above it */
		;
	buf[len] = 0;
	if (len >= 4096 && sys_lstat(buf, &other) == 0 && other.st_dev == st.st_dev && other.st_ino == st.st_ino)
		n = (ssize_t)len;
	if (!n)
		n = pt_long_name(dir, buf, size, known, NULL);
	if (n >= 4096)
		remember(&st, begun, buf, (size_t)n);
	return n;
}

size_t pt_deep_part(const char *lex, size_t len, size_t room)
{
	struct pt_deep *d = slot();
	uint32_t seq = d && len >= 4096 ? atomic_load_explicit(&d->seq, memory_order_acquire) : 0;
	if (!seq || (seq & 1) || d->generation != generation() || d->len >= sizeof d->text)
		return 0;
	size_t n = d->len < len ? d->len : len;
	bool is = memcmp(d->text, lex, n) == 0;
	if (is && d->len > len)
		is = d->text[len] == '/';
	else if (is && d->len < len)
		is = lex[n] == '/';
	atomic_thread_fence(memory_order_acquire);
	return is && n < room && atomic_load_explicit(&d->seq, memory_order_relaxed) == seq ? n : 0;
}
