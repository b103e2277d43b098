/*
 * The quick way: an allowed path without surprises is decided by what the process knows, without a system call.
 */
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "dircache.h"
#include "locate.h"

/* A path as it was when it was read: what another thread writes there later has no effect. */
struct taken {
	const char *text;
	size_t len, cut;               /* cut: where its last slash is, or NO_SLASH */
};
#define NO_SLASH SIZE_MAX

/*
 * Some part is empty or begins with a dot. True: none of them is "", "." or ".." but for "./" at the very beginning, which
 * goes; or the path is from the root and its last part is a plain name, then it may be known as it is written (see
 * pt_dir_keep).
 */
static __attribute__((noinline)) bool tidy(struct taken *t)
{
	while (t->len > 2 && t->text[0] == '.' && t->text[1] == '/' && t->text[2] != '/')
		t->text += 2, t->len -= 2;
	t->cut = NO_SLASH;
	bool plain = true, all = true;
	for (size_t at = t->text[0] == '/', n = 0; at <= t->len; at += n + 1) {
		for (n = 0; at + n < t->len && t->text[at + n] != '/'; n++)
			;
		plain = n && !(n < 3 && dots(t->text + at, n));
		all = all && plain;
		if (at)
			t->cut = at - 1;
	}
	return all || (plain && t->text[0] == '/');
}

/*
 * Copies a path and finds its end and its last slash in the same pass; false: it is too long for this, or has a part
 * that is no plain name. Blocks that are aligned reach no page that the path does not reach.
 */
#ifdef __SSE2__
static inline __attribute__((no_sanitize("address"))) bool take(const char *path, char copy[PT_COPY], struct taken *t)
{
	const __m128i slashes = _mm_set1_epi8('/'), dotted = _mm_set1_epi8('.');
	size_t off = (uintptr_t)path & 15, at = 0;
	const __m128i *from = (const __m128i *)(const void *)(path - off);
	uint32_t mask = 0xffffu << off & 0xffff, first = 1u << off, after = 0, untidy = 0;
	t->cut = NO_SLASH;
	for (;; at += 16, mask = 0xffff, first = 0) {
		if (unlikely(at + 16 > PT_COPY))
			return false;
		__m128i block = _mm_load_si128(from++);
		_mm_storeu_si128((__m128i *)(void *)(copy + at), block);
		uint32_t end = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(block, _mm_setzero_si128())) & mask;
		uint32_t slash = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(block, slashes)) & mask;
		uint32_t dot = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(block, dotted));
		uint32_t n = (uint32_t)__builtin_ctz(end | 1u << 16);
		slash &= (1u << n) - 1;        /* what is behind the end has no say; valgrind sees that, written so */
		dot &= (1u << n) - 1;
		after |= slash << 1;           /* where a part begins */
		untidy |= (after & (slash | dot)) | (first & dot);
		if (slash)
			t->cut = at + 31 - (uint32_t)__builtin_clz(slash);
		if (n < 16) {
			t->len = at + n - off;
			break;
		}
		after >>= 16;
	}
	t->text = copy + off;
	if (t->cut != NO_SLASH)
		t->cut -= off;
	if (unlikely(!t->len || t->cut + 1 == t->len))
		return false;
	return likely(!untidy) || tidy(t);
}
#else
static inline bool take(const char *path, char copy[PT_COPY], struct taken *t)
{
	bool begins = true, untidy = false;
	size_t n = 0;
	t->text = copy;
	t->cut = NO_SLASH;
	for (; n < PT_COPY && (copy[n] = path[n]); n++) {
		bool slash = copy[n] == '/';
		untidy = untidy || (begins && n && slash) || (begins && copy[n] == '.');
		begins = slash;
		if (slash)
			t->cut = n;
	}
	t->len = n;
	if (unlikely(!n || n == PT_COPY || begins))
		return false;
	return likely(!untidy) || tidy(t);
}
#endif

/* Can nobody in the session give the name to something else? */
static inline bool name_fixed(const struct pt_info *info, const char *name, size_t len)
{
	return info->stable && !(pt.flags & PT_IMG_AUDIT) &&
		(info->uniform[PT_WRITE] ? info->all[PT_WRITE] :
		 pt_decide_child(pt.image, info->cursor[PT_WRITE], info->hash, name, len)).action == PT_DENY;
}

/* What is known of a name that is fixed (`moves` 0) stays so, of another as long as the generation does that `moves` is one above. */
static inline uint64_t link_word(uint64_t hash, uint64_t moves)
{
	return (hash ^ moves * 0x9e3779b97f4a7c15ull) | 1;
}

static inline uint64_t moves_of(bool fixed)
{
	return fixed || !pt.events ? 0 : pt_events_generation(pt.events) + 1;
}

uint64_t pt_link_word(const struct pt_info *info, uint64_t hash, const char *name, size_t len)
{
	return link_word(hash, moves_of(name_fixed(info, name, len)));
}

/* The real path of an access, for the log: the directory's is there already. False where there is no room for it. */
static bool take_note(struct pt_note *note, size_t dir, const char *name, size_t len, struct pt_verdict v)
{
	if (dir + 1 + len >= sizeof note->real)
		return false;
	note->real[dir] = '/';
	memcpy(note->real + dir + 1, name, len);
	note->real_len = dir + 1 + len;
	note->verdict = v;
	return true;
}

void pt_note_log(uint16_t op, uint8_t access, const char *path, const struct pt_note *note, int error)
{
	struct pt_at at = { .access = access, .verdict = note->verdict, .asked = path, .real = (char *)(uintptr_t)note->real,
		.real_len = note->real_len };
	pt_report(op, &at, PT_EV_ACCESS, PT_OUT_ALLOW, error);
}

/* For most accesses of a process one rule decides, which has been told. */
static inline void rule_used(uint32_t rule)
{
	static _Atomic uint32_t last = PT_NO_RULE;
	if (unlikely(rule != atomic_load_explicit(&last, memory_order_relaxed))) {
		pt_rule_used(rule);
		atomic_store_explicit(&last, rule, memory_order_relaxed);
	}
}

/* A relative path of more than one part, from the root; false where that is not known. */
static __attribute__((noinline)) bool whole(int dirfd, struct taken *t, char buf[PT_DIR_TEXT + 1 + PT_COPY])
{
	struct pt_info base;
	if (!pt_fd_cached(dirfd, &base, buf))
		return false;
	buf[base.real_len] = '/';
	memcpy(buf + base.real_len + 1, t->text, t->len);
	t->text = buf;
	t->len += base.real_len + 1u;
	t->cut += base.real_len + 1u;
	return true;
}

/* `note`: what a log needs; a call that has none to offer is not decided here where there is a log. */
static inline __attribute__((always_inline)) enum pt_held decided(int dirfd, struct taken *t, uint8_t access, bool follow, bool held,
	struct pt_note *note, uint64_t *generation)
{
	enum pt_map map = access > PT_ACC_READLINK ? PT_WRITE : PT_READ;
	struct pt_info info;
	char buf[PT_DIR_TEXT + 1 + PT_COPY], *real = note ? note->real : NULL;
	bool one = t->cut == NO_SLASH;         /* below a directory that the kernel has in its hand */

	if (t->text[0] != '/') {
		if (held && unlikely(pt_threads()))
			return PT_NOT_QUICK;           /* the descriptor may be another one meanwhile */
		if (!one && !whole(dirfd, t, buf))
			return PT_NOT_QUICK;
	}
	if (one) {
		struct pt_dir *d = pt_fd_slot(dirfd);
		if (unlikely(!d || !slot_glance(d, pt_dir_key(dirfd), NULL, 0, map, follow, &info, real)) &&
		    pt_fd_dir(dirfd, &info, real, note ? sizeof note->real : 0) != 0)
			return PT_NOT_QUICK;
	} else {
		uint64_t key = pt_text_key(t->text, t->cut);
		uint32_t n = pt_first_way(key);
		struct pt_dir *d = pt_dir_slot(n);
		if (unlikely(!d || !slot_glance(d, key, t->text, t->cut, map, follow, &info, real))) {
			d = pt_dir_slot(n + 1);
			if (!d || !slot_glance(d, key, t->text, t->cut, map, follow, &info, real))
				return PT_NOT_QUICK;
		}
	}
	const char *name = one ? t->text : t->text + t->cut + 1;
	size_t len = one ? t->len : t->len - t->cut - 1;
	if (unlikely(info.error || len > 255))
		return PT_NOT_QUICK;
	if (PT_NAMES_VARY && !info.uniform[map])
		return PT_NOT_QUICK;                  /* what a rule speaks of may be meant in other letters */
	struct pt_verdict v = info.uniform[map] ? info.all[map] : pt_decide_child(pt.image, info.cursor[map], info.hash, name, len);
	if (v.action != PT_ALLOW || (v.flags & ~PT_V_ASKED))
		return PT_NOT_QUICK;
	uint64_t hash = 0;
	if (follow || v.port != PT_NO_PORT)
		hash = pt_hash_child(info.hash, name, len);
	if (v.port != PT_NO_PORT && !pt_word_known(pt_told(hash, access)))
		return PT_NOT_QUICK;                  /* a port's file, used for the first time */
	bool fixed = !follow ? info.stable || one : name_fixed(&info, name, len);
	uint64_t moves = follow ? moves_of(fixed) : 0;
	if (follow && !pt_word_known(pt_not_link(hash, link_word(hash, moves))))
		return PT_NOT_QUICK;
	if (note && !take_note(note, info.real_len, name, len, v))
		return PT_NOT_QUICK;
	rule_used(v.rule);
	if (generation)
		*generation = info.stable ? moves - 1 : info.generation; /* that of the last name, or the directory's, which is no younger */
	return fixed ? PT_FIXED : PT_MOVABLE;
}

static inline __attribute__((always_inline)) bool quick(int dirfd, const char *path, uint8_t access, bool follow)
{
	char copy[PT_COPY];
	struct taken t;
	return likely(pt_on() && pt.plain && !pt.log) && !pt_bad_pointer(path) && take(path, copy, &t) &&
		decided(dirfd, &t, access, follow, false, NULL, NULL) != PT_NOT_QUICK;
}

PT_HOT bool pt_quick(int dirfd, const char *path, uint8_t access)
{
	return quick(dirfd, path, access, false);
}

PT_HOT bool pt_quick_follow(int dirfd, const char *path, uint8_t access)
{
	return quick(dirfd, path, access, true);
}

/* Apart, so that without a log nothing of it is paid for. */
static __attribute__((noinline)) enum pt_held held_noted(int dirfd, struct taken *t, uint8_t access, struct pt_note *note, uint64_t *generation)
{
	return decided(dirfd, t, access, false, true, note, generation);
}

PT_HOT enum pt_held pt_quick_held(int dirfd, const char **path, uint8_t access, char copy[PT_COPY], struct pt_note *note, uint64_t *generation)
{
	struct taken t;
	if (unlikely(!pt_on() || !pt.plain || pt_bad_pointer(*path) || !take(*path, copy, &t)))
		return PT_NOT_QUICK;
	const char *text = t.text;
	enum pt_held held = likely(!pt.log) ? decided(dirfd, &t, access, false, true, NULL, generation)
					    : held_noted(dirfd, &t, access, note, generation);
	if (held != PT_NOT_QUICK)
		*path = text;
	return held;
}

static inline __attribute__((always_inline)) enum pt_held held_follow(int dirfd, const char **path, uint8_t access, char copy[PT_COPY], uint64_t *generation)
{
	struct taken t;
	if (!likely(pt_on() && pt.plain && !pt.log) || pt_bad_pointer(*path) || !take(*path, copy, &t))
		return PT_NOT_QUICK;
	const char *text = t.text;
	enum pt_held held = decided(dirfd, &t, access, true, true, NULL, generation);
	if (held != PT_NOT_QUICK)
		*path = text;
	return held;
}

PT_HOT enum pt_held pt_quick_held_follow(int dirfd, const char **path, uint8_t access, char copy[PT_COPY], uint64_t *generation)
{
	return held_follow(dirfd, path, access, copy, generation);
}

PT_HOT bool pt_quick_fixed(const char **path, uint8_t access, char copy[PT_COPY])
{
	return held_follow(AT_FDCWD, path, access, copy, NULL) == PT_FIXED;
}
