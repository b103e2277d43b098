/*
 * What is known of directories: real path, where both filemaps stand after it,
 * whether that knowledge can go stale.
 *
 * A cache of fixed slots, each guarded by a sequence number: a writer that
 * finds a slot busy leaves it alone, a reader that is overtaken calls it a
 * miss. So nothing waits, whatever a fork or a signal handler interrupts.
 */
#include <dirent.h>

#include "trace.h"

#define MAX_LINKS 40

static uint64_t text_key(const char *s, size_t len)
{
	uint64_t h = len * 0x9e3779b97f4a7c15ull + 1;
	for (; len >= 8; len -= 8, s += 8) {
		uint64_t v;
		memcpy(&v, s, 8);
		h = (h ^ v) * 0x9e3779b97f4a7c15ull;
		h ^= h >> 32;
	}
	uint64_t v = 0;
	for (; len; len--)
		v = v << 8 | (unsigned char)*s++;
	h = (h ^ v) * 0x9e3779b97f4a7c15ull;
	return (h ^ h >> 32) | 1;
}

static uint64_t generation(void)
{
	return pt.generation ? atomic_load_explicit(pt.generation, memory_order_acquire) : 0;
}

/* A slot's contents where they are `key`'s (0: whatever is there) and still true. */
static inline bool slot_read(struct pt_dir *d, uint64_t key, const char *lex, size_t len, struct pt_info *info, char *real)
{
	uint32_t seq = atomic_load_explicit(&d->seq, memory_order_acquire);
	if (!seq || (seq & 1) || d->key != key)
		return false;
	memcpy(info, &d->info, sizeof *info);
	if (lex && (info->lex_len != len || len > PT_DIR_TEXT || memcmp(d->text, lex, len) != 0))
		return false;
	if (real) {
		uint32_t at = d->real_at;
		if (at > PT_DIR_TEXT || info->real_len > PT_DIR_TEXT - at)
			return false;
		memcpy(real, d->text + at, info->real_len);
		real[info->real_len] = 0;
	}
	atomic_thread_fence(memory_order_acquire);
	if (atomic_load_explicit(&d->seq, memory_order_relaxed) != seq)
		return false;
	return info->stable || info->generation == generation();
}

/* Lexical and real path must fit; a real path equal to the lexical one is kept once. */
static void slot_write(struct pt_dir *d, uint64_t key, const char *lex, size_t len, const struct pt_info *info, const char *real)
{
	bool same = len == info->real_len && memcmp(lex, real, len) == 0;
	if (len + (same ? 0 : info->real_len) > PT_DIR_TEXT)
		return;
	uint32_t seq = 0;              /* a fresh slot is written without a look at it, which would cost a fault of its own */
	if (!atomic_compare_exchange_strong_explicit(&d->seq, &seq, 1, memory_order_acquire, memory_order_relaxed) &&
	    ((seq & 1) || !atomic_compare_exchange_strong_explicit(&d->seq, &seq, seq + 1, memory_order_acquire, memory_order_relaxed)))
		return;
	atomic_thread_fence(memory_order_release);
	d->key = key;
	memcpy(&d->info, info, sizeof *info);
	d->info.lex_len = (uint16_t)len;
	d->real_at = same ? 0 : (uint32_t)len;
	memcpy(d->text, lex, len);
	memcpy(d->text + d->real_at, real, info->real_len);
	atomic_store_explicit(&d->seq, seq + 2 ? seq + 2 : 2, memory_order_release);
}

/* The slots in the order in which they came into use: a process that knows few directories touches few pages. */
static _Atomic uint16_t slot_at[PT_DIRS], slots_used;

static inline struct pt_dir *slot(uint32_t n)
{
	uint16_t i = atomic_load_explicit(&slot_at[n], memory_order_relaxed);
	return i ? &pt.dirs[i - 1] : NULL;
}

static struct pt_dir *slot_for(uint32_t n)
{
	struct pt_dir *d = slot(n);
	if (d || atomic_load_explicit(&slots_used, memory_order_relaxed) >= PT_DIRS)
		return d;
	uint16_t i = atomic_fetch_add_explicit(&slots_used, 1, memory_order_relaxed), none = 0;
	if (i >= PT_DIRS)
		return NULL;
	atomic_compare_exchange_strong_explicit(&slot_at[n], &none, i + 1, memory_order_relaxed, memory_order_relaxed);
	return slot(n);
}

static inline uint32_t first_way(uint64_t key)
{
	return (key >> 32) % (PT_DIRS / 2) * 2;
}

bool pt_dir_cached(const char *lex, size_t len, struct pt_info *info, char *real)
{
	uint64_t key = text_key(lex, len);
	uint32_t n = first_way(key);
	struct pt_dir *d = slot(n);
	if (d && slot_read(d, key, lex, len, info, real))
		return true;
	d = slot(n + 1);
	return d && slot_read(d, key, lex, len, info, real);
}

static void keep(const char *lex, size_t len, const struct pt_info *info, const char *real)
{
	/* /proc/self means another directory in each process, and a cache is inherited by a forked child. */
	if (info->magic || (info->real_len >= 5 && memcmp(real, "/proc", 5) == 0) || (len >= 5 && memcmp(lex, "/proc", 5) == 0))
		return;
	uint64_t key = text_key(lex, len);
	uint32_t n = first_way(key);
	struct pt_dir *a = slot(n), *b = slot(n + 1);
	if (a && a->key != key && (!b || b->key == key || (key & 0x10000)))
		n++;
	struct pt_dir *d = slot_for(n);
	if (d)
		slot_write(d, key, lex, len, info, real);
}

/* ---- the walk ---- */

/* Of a path that a slab has no room for. */
static int16_t too_long(const struct pt_slab *s)
{
	return s->cap < PT_PATH_CAP ? PT_NO_ROOM : ENAMETOOLONG;
}

static void settle(struct pt_info *info)
{
	for (int map = PT_READ; map <= PT_WRITE; map++) {
		info->uniform[map] = 0;
		struct pt_rule_view rule;
		bool known = info->cursor[map].rule == PT_NO_RULE || pt_image_rule(pt.image, info->cursor[map].rule, &rule);
		bool asked = known && info->cursor[map].rule != PT_NO_RULE && (rule.action == PT_ASK || rule.action == PT_REDIRECT || rule.live);
		if (known && !asked && pt_cursor_uniform(pt.image, info->cursor[map])) {
			info->uniform[map] = 1;
			info->all[map] = pt_decide_child(pt.image, info->cursor[map], info->hash, "-", 1);
		}
	}
	info->children = (uint8_t)pt_children(pt.image, info->cursor[PT_READ], info->hash);
	info->filter = info->children != PT_CHILDREN_ALLOWED && !(pt.flags & PT_IMG_AUDIT);
}

static void info_root(struct pt_info *info)
{
	memset(info, 0, sizeof *info);
	info->cursor[PT_READ] = pt_cursor_root(pt.image, PT_READ);
	info->cursor[PT_WRITE] = pt_cursor_root(pt.image, PT_WRITE);
	info->hash = pt_hash_dir(pt.seed, "", 0);
	info->stable = !(pt.flags & PT_IMG_AUDIT);
	info->generation = generation();
}

/* Steps down to a child that is no link; its path has real_len bytes. Settled later. */
static void info_child(struct pt_info *info, const char *name, size_t len, size_t real_len)
{
	if (info->stable && pt_decide_child(pt.image, info->cursor[PT_WRITE], info->hash, name, len).action != PT_DENY)
		info->stable = 0;
	for (int map = PT_READ; map <= PT_WRITE; map++)
		info->cursor[map] = pt_cursor_descend(pt.image, info->cursor[map], name, len);
	info->real_len = (uint16_t)real_len;
	info->hash = pt_hash_child(info->hash, name, len);
}

void pt_info_of_real(const char *real, size_t len, struct pt_info *info)
{
	size_t pos = len;
	while (pos && real[--pos] != '/')
		;
	/* mostly the directory above is known by its own path: one step from there */
	if (!pos || !pt_dir_cached(real, pos, info, NULL) || info->real_len != pos || info->linked || info->error || info->missing) {
		info_root(info);
		pos = 0;
	}
	while (pos < len) {
		size_t start = pos + 1, end = start;
		while (end < len && real[end] != '/')
			end++;
		info_child(info, real + start, end - start, end);
		pos = end;
	}
	settle(info);
}

/*
 * A directory of the base system by the image's word, without a question to the kernel. Only where nobody in the
 * session could have changed what the path means: neither the directories on the way nor the link at its end.
 */
static bool known_place(const char *lex, size_t len, struct pt_slab *s, struct pt_info *info)
{
	size_t n = 0;
	if (PT_NAMES_VARY || (pt.flags & (PT_IMG_AUDIT | PT_IMG_REDIRECTS)))
		return false;
	const char *real = pt_image_place(pt.image, lex, len, &n);
	if (!real || n >= s->cap)
		return false;
	bool linked = n != len || memcmp(real, lex, n) != 0;
	if (linked && pt_decide(pt.image, PT_WRITE, lex, len).action != PT_DENY)
		return false;
	memcpy(s->real, real, n);
	s->real[n] = 0;
	pt_info_of_real(s->real, n, info);
	info->linked = linked;
	return info->stable;
}

int pt_not_passable(const char *real, size_t len, struct pt_info *info)
{
	struct stat st;

	if (!len || (pt.flags & PT_IMG_REDIRECTS))  /* core's resolver looks by itself */
		return 0;
	int error = sys_lstat(real, &st);
	struct pt_verdict v = pt_decide(pt.image, PT_READ, real, len);
	bool hidden = v.action == PT_DENY && !(v.flags & PT_V_BELOW) && !(pt.flags & PT_IMG_AUDIT);
	struct pt_rule_view rule;
	if (hidden && !error && S_ISDIR(st.st_mode) && v.rule != PT_NO_RULE && pt_image_rule(pt.image, v.rule, &rule))
		hidden = rule.action != PT_ASK;  /* no directory is refused by ask */
	if (hidden && !error && S_ISDIR(st.st_mode) && (pt.flags & PT_IMG_DIRS_VISIBLE))
		hidden = false;
	info->hidden = hidden;
	if (error || hidden)
		return error == -ENOTDIR && !hidden ? ENOTDIR : ENOENT;
	return S_ISDIR(st.st_mode) ? 0 : ENOTDIR;
}

void pt_dir_resolve(const char *lex, size_t len, struct pt_slab *s, struct pt_info *info)
{
	char *real = s->real;
	size_t pos = len, real_len;
	uint64_t begun = generation();

	if (pt_dir_cached(lex, len, info, real))
		return;
	if (known_place(lex, len, s, info)) {
		if (!s->passing)
			keep(lex, len, info, real);
		return;
	}
	size_t deep = pt_deep_part(lex, len, s->cap);
	if (deep) {
		memcpy(real, lex, deep);
		real[deep] = 0;
		pt_info_of_real(real, deep, info);
		info->generation = begun;
		if (deep == len)
			return;
		pos = deep;
	} else if (pos > PT_DIR_TEXT) {
		pos = PT_DIR_TEXT + 1;         /* longer ones are not kept */
	}
	while (!deep) { /* the longest part that is known */
		while (pos && lex[pos - 1] != '/')
			pos--;
		if (!pos) {
			info_root(info);
			break;
		}
		pos--;
		if (pt_dir_cached(lex, pos, info, real) || known_place(lex, pos, s, info))
			break;
	}
	real_len = info->real_len;
	bool stable_links = info->stable, hidden = false, linked = false;
	uint8_t magic = 0;
	int16_t unseen = 0;
	int links = 0;
	/* what remains: lex[pos..] at first, pending after a link */
	const char *rest = lex + pos;
	size_t rest_len = len - pos;
	while (rest_len) {
		if (*rest == '/') {
			rest++, rest_len--;
			continue;
		}
		size_t n = 0;
		while (n < rest_len && rest[n] != '/')
			n++;
		bool up = n == 2 && rest[0] == '.' && rest[1] == '.';
		if (up || (n == 1 && rest[0] == '.' && rest != s->pending)) {
			info->error = pt_not_passable(real, real_len, info);
			hidden = info->hidden;
			if (info->error)
				break;
		}
		if (n == 1 && rest[0] == '.') {
			rest++, rest_len--;
			continue;
		}
		if (up) {
			while (real_len && real[--real_len] != '/')
				;
			real[real_len] = 0;
			uint8_t missing = info->missing;
			pt_info_of_real(real, real_len, info);
			info->missing = missing;
			rest += 2, rest_len -= 2;
			continue;
		}
		if (real_len + n + 2 > s->cap) {
			info->error = too_long(s);
			break;
		}
		real[real_len] = '/';
		memcpy(real + real_len + 1, rest, n);
		real[real_len + 1 + n] = 0;
		ssize_t got = info->missing ? -ENOENT : sys_alias(real, real_len + 1 + n, s->link, s->cap - 1);
		bool alias = got > 0;          /* the same place by another name, not a link that could be hidden */
		if (!got)
			got = sys_readlink(real, s->link, s->cap - 1);
		if (got == (ssize_t)s->cap - 1) {
			info->error = too_long(s);
			break;
		}
		if (got > 0) {
			if (!magic && real_len >= 5 && memcmp(real, "/proc", 5) == 0 && (real_len == 5 || real[5] == '/'))
				magic = stable_links && info->stable ? PT_MAGIC_FIXED : PT_MAGIC;
			linked = true;
			struct pt_verdict v = pt_decide_child(pt.image, info->cursor[PT_READ], info->hash, real + real_len + 1, n);
			if (v.action == PT_DENY && !alias && !(pt.flags & PT_IMG_AUDIT)) {
				hidden = true;
				real_len += n + 1;
				break;
			}
			pt_rule_used(v.rule);
			if (v.port != PT_NO_PORT && v.action == PT_ALLOW)  /* whoever goes through a link uses its port, too */
				pt_used(0, PT_ACC_READLINK, v.port, v.rule, pt_hash_child(info->hash, real + real_len + 1, n),
					real, real_len + n + 1);
			if (++links > MAX_LINKS) {
				info->error = ELOOP;
				break;
			}
			if (pt_decide_child(pt.image, info->cursor[PT_WRITE], info->hash, real + real_len + 1, n).action != PT_DENY)
				stable_links = false;
			if (pt.events)
				pt_events_link_seen(pt.events, pt_hash_child(info->hash, real + real_len + 1, n));
			rest += n, rest_len -= n;
			if ((size_t)got + rest_len + 1 > s->cap) {
				info->error = too_long(s);
				break;
			}
			/* `rest` may lie in `pending` itself: move it to its place first */
			memmove(s->pending + got, rest, rest_len);
			memcpy(s->pending, s->link, (size_t)got);
			rest = s->pending, rest_len += (size_t)got;
			if (s->link[0] == '/') {
				real_len = 0;
				info_root(info);
			}
			real[real_len] = 0;
			continue;
		}
		if (got == -ENOENT || got == -ENOTDIR)
			info->missing = 1;
		else if (got < 0 && got != -EINVAL && !unseen)
			unseen = (int16_t)-got;
		rest += n, rest_len -= n;
		if (!info->missing)
			n = sys_true_name(real, real_len, n);
		real_len += n + 1;
		info_child(info, real + real_len - n, n, real_len);
		stable_links = stable_links && info->stable;
		if (!links && rest_len && !info->missing && !unseen) {
			settle(info);
			info->generation = begun;
			keep(real, real_len, info, real);
		}
	}
	real[real_len] = 0;
	info->real_len = (uint16_t)real_len;
	info->stable = info->stable && stable_links && !info->missing;
	info->generation = begun;
	info->magic = magic;
	info->linked = info->linked || linked;
	info->unseen = unseen;
	if (hidden) {
		info->hidden = 1;
		info->error = ENOENT;
		return;
	}
	if (info->error)
		return;
	settle(info);
	if (!unseen)
		keep(lex, len, info, real);
}

/* ---- descriptors and the working directory ---- */

/*
 * What is known of a descriptor: the directory behind it, that its listings need a look at each entry, that it was
 * opened for writing.
 */
enum { KNOWN = 1, FILTERED = 2, WRITER = 4 };
static _Atomic uint8_t facts[PT_FDS];
static _Atomic bool shared;            /* with a process that has memory of its own: nothing that is remembered would hold */
/*
 * A vfork child has the parent's memory, yet a working directory of its own:
 * once one of them has changed it, the slot is believed only by the process
 * that filled it.
 */
static _Atomic int cwd_by_pid;
static _Atomic pid_t cwd_pid;

#define FILE_KEY 2                      /* of a descriptor's slot: a file that was opened for writing; a directory's is 1 */

static inline uint8_t facts_of(int fd)
{
	return likely((unsigned)fd < PT_FDS) ? atomic_load_explicit(&facts[fd], memory_order_relaxed) : 0;
}

static void add_fact(int fd, uint8_t fact)
{
	atomic_fetch_or_explicit(&facts[fd], fact, memory_order_relaxed);
}

bool pt_fd_filtered(int fd)
{
	struct pt_info info;
	uint8_t known = facts_of(fd);
	if (likely(known & KNOWN))
		return known & FILTERED;
	return pt_on() && (pt_fd_dir(fd, &info, NULL, 0) != 0 || info.filter);
}

void pt_fd_forget(int fd)
{
	if (unlikely(facts_of(fd)))
		atomic_store_explicit(&facts[fd], 0, memory_order_relaxed);
}

void pt_fds_shared(void)
{
	atomic_store(&shared, true);
	pt_fd_forget_range(0, PT_FDS - 1);
}

/* A vfork child has descriptors of its own, and this memory is its parent's. */
static bool may_remember(int fd)
{
	return fd >= 0 && fd < (int)PT_FDS && !atomic_load_explicit(&shared, memory_order_relaxed) && pt_own_memory();
}

void pt_fd_wrote(int fd, const struct pt_at *at)
{
	if (!may_remember(fd))
		return;
	if ((pt.flags & PT_IMG_LOG) && at && at->judged) {
		struct pt_info info = { .real_len = (uint16_t)at->real_len };
		slot_write(&pt.fds[fd], FILE_KEY, at->real, at->real_len, &info, at->real);
	}
	add_fact(fd, WRITER);
}

bool pt_fd_writer(int fd, struct pt_info *info, char *real)
{
	return (facts_of(fd) & WRITER) && (!real || slot_read(&pt.fds[fd], FILE_KEY, NULL, 0, info, real));
}

void pt_fd_forget_range(unsigned first, unsigned last)
{
	for (unsigned fd = first; fd <= last && fd < PT_FDS; fd++)
		pt_fd_forget((int)fd);
}

void pt_fd_set(int fd, const char *real, size_t len)
{
	if (len > PT_DIR_TEXT || !may_remember(fd))
		return;
	struct pt_info info;
	uint64_t begun = generation();
	if (!pt_dir_cached(real, len, &info, NULL) || info.real_len != len)
		pt_info_of_real(real, len, &info);
	info.generation = begun;
	info.missing = 0;
	slot_write(&pt.fds[fd], 1, real, len, &info, real);
	add_fact(fd, info.filter ? KNOWN | FILTERED : KNOWN);
}

void pt_cwd_forget(void)
{
	if (!pt.own || sys_getpid() != pt_pid())
		atomic_store(&cwd_by_pid, 1);
	struct pt_dir *d = &pt.fds[PT_FDS];
	uint32_t seq = atomic_load_explicit(&d->seq, memory_order_relaxed);
	if (seq && !(seq & 1))
		d->key = 0;
}

static bool cwd_slot_mine(void)
{
	return !atomic_load_explicit(&cwd_by_pid, memory_order_relaxed) || sys_getpid() == atomic_load(&cwd_pid);
}

bool pt_fd_cached(int fd, struct pt_info *info, char *real)
{
	if (fd == AT_FDCWD)
		return cwd_slot_mine() && slot_read(&pt.fds[PT_FDS], 1, NULL, 0, info, real);
	return (facts_of(fd) & KNOWN) && slot_read(&pt.fds[fd], 1, NULL, 0, info, real);
}

size_t pt_own_name(char *path, size_t len, size_t cap)
{
	if (!(pt.flags & PT_IMG_REDIRECTS))
		return len;
	struct pt_slab *s = pt_slab_take(PT_PATH_CAP);
	if (!s)
		return len;
	size_t n = pt_unredirect(pt.image, path, len, s->extra, s->cap);
	if (n && n < cap) {
		memcpy(path, s->extra, n);
		path[len = n] = 0;
	}
	pt_slab_give(s);
	return len;
}

int pt_fd_dir(int fd, struct pt_info *info, char *real, size_t cap)
{
	struct pt_slab *s = NULL;
	ssize_t n;
	struct pt_dir *d = NULL;

	if (fd == AT_FDCWD) {
		d = &pt.fds[PT_FDS];
		if (cwd_slot_mine() && slot_read(d, 1, NULL, 0, info, real))
			return 0;
	} else if (fd < 0) {
		return EBADF;
	} else if (fd < (int)PT_FDS) {
		d = &pt.fds[fd];
		if ((facts_of(fd) & KNOWN) && slot_read(d, 1, NULL, 0, info, real))
			return 0;
	}
	uint64_t begun = generation();
	char *buf = real;
again:
	if (!real) {
		s = pt_slab_take(cap ? cap : pt_usual_room());
		if (!s)
			return ENOMEM;
		buf = s->link;
		cap = s->cap;
	}
	n = fd == AT_FDCWD ? sys_cwd(buf, cap) : sys_fd_path(fd, buf, cap - 1);
	if (n == -ERANGE || n == (ssize_t)cap - 1) {
		if (cap < PT_PATH_CAP) {
			if (real)
				return PT_NO_ROOM;
			pt_slab_give(s);
			cap = PT_PATH_CAP;
			goto again;
		}
		n = -ENAMETOOLONG;
	}
	int error = 0;
	if (n <= 0) {
		error = n < 0 ? (int)-n : ENOENT;
	} else if (buf[0] != '/') {
		error = ENOTDIR;                                 /* a pipe or socket */
	} else {
		buf[n] = 0;
		n = (ssize_t)pt_own_name(buf, (size_t)n, cap);
		if (n == 1)
			buf[n = 0] = 0;
		pt_info_of_real(buf, (size_t)n, info);
		info->generation = begun;
		if (d && fd == AT_FDCWD) {
			info->stable = info->stable && !(pt.flags & PT_IMG_AUDIT);
			atomic_store(&cwd_pid, sys_getpid());
			slot_write(d, 1, buf, (size_t)n, info, buf);
		} else if (d) {
			pt_fd_set(fd, buf, (size_t)n);
		}
	}
	pt_slab_give(s);
	return error;
}

/* The most of a listing: allowed without a doubt. The descriptor is known. */
static inline bool entry_allowed(int fd, const char *name, size_t len)
{
	struct pt_dir *d = &pt.fds[fd];
	uint32_t seq = atomic_load_explicit(&d->seq, memory_order_acquire);
	uint64_t hash = d->info.hash;
	bool sure = d->key == 1 && d->info.children == PT_CHILDREN_OWNED && (d->info.stable || d->info.generation == generation());
	atomic_thread_fence(memory_order_acquire);
	return sure && seq && !(seq & 1) && atomic_load_explicit(&d->seq, memory_order_relaxed) == seq &&
		pt_owned_child_allowed(pt.image, hash, name, len);
}

/* The verdict on an entry, from the few things that it depends on: it is asked for each name of a listing. */
static bool entry_verdict(int fd, const char *name, size_t len, struct pt_verdict *v, uint64_t *dir)
{
	struct pt_dir *d = facts_of(fd) & KNOWN ? &pt.fds[fd] : NULL;
	uint32_t seq = d ? atomic_load_explicit(&d->seq, memory_order_acquire) : 0;
	if (seq && !(seq & 1) && d->key == 1 && (d->info.stable || d->info.generation == generation())) {
		uint64_t hash = d->info.hash;
		struct pt_cursor cursor = d->info.cursor[PT_READ];
		bool uniform = d->info.uniform[PT_READ];
		if (uniform)
			*v = d->info.all[PT_READ];
		atomic_thread_fence(memory_order_acquire);
		if (likely(atomic_load_explicit(&d->seq, memory_order_relaxed) == seq)) {
			if (!uniform)
				*v = pt_decide_child(pt.image, cursor, hash, name, len);
			*dir = hash;
			return true;
		}
	}
	struct pt_info info;
	if (pt_fd_dir(fd, &info, NULL, 0) != 0)
		return false;
	*v = info.uniform[PT_READ] ? info.all[PT_READ] : pt_decide_child(pt.image, info.cursor[PT_READ], info.hash, name, len);
	*dir = info.hash;
	return true;
}

static __attribute__((noinline)) bool entry_shown(int fd, const char *name, size_t len, unsigned char type)
{
	struct pt_verdict v;
	uint64_t dir;
	if (name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2])))
		return true;
	if (!entry_verdict(fd, name, len, &v, &dir))
		return pt.flags & PT_IMG_AUDIT;       /* where the directory lies cannot be learnt */
	if (v.action != PT_DENY)
		return true;
	if (!(v.flags & (PT_V_ASKED | PT_V_BELOW))) {
		pt_rule_used(v.rule);
		return false;
	}
	if (type == DT_UNKNOWN) {
		struct stat st;
		type = sys_fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode) ? DT_DIR : DT_REG;
	}
	if (type != DT_DIR && v.port != PT_NO_PORT)
		pt_left_out(fd, dir, v.port, v.rule);
	return type == DT_DIR;
}

PT_HOT bool pt_shown(int fd, const char *name, size_t len, unsigned char type)
{
	return ((facts_of(fd) & KNOWN) && entry_allowed(fd, name, len)) || entry_shown(fd, name, len, type);
}

static __attribute__((noinline)) bool unknown_listed(int fd, const char *name, size_t len, unsigned char type)
{
	return !pt_fd_filtered(fd) || entry_shown(fd, name, len, type);
}

PT_HOT bool pt_listed(int fd, const char *name, size_t len, unsigned char type)
{
	uint8_t known = facts_of(fd);
	if (unlikely(!(known & KNOWN)))
		return unknown_listed(fd, name, len, type);
	return !(known & FILTERED) || likely(entry_allowed(fd, name, len)) || entry_shown(fd, name, len, type);
}
