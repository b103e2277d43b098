/*
 * The quick way: an allowed path without surprises is decided by what the process knows, without a system call.
 */
#include "locate.h"

/* Where a clean absolute path's last slash is; false for anything else. */
static inline bool split_clean(const char *p, size_t *dir, size_t *len)
{
	size_t last = 0, i = 1;
	for (; p[i]; i++)
		if (p[i] == '/') {
			size_t n = i - last - 1;
			if (!n || (n < 3 && dots(p + last + 1, n)))
				return false;
			last = i;
			if (i >= 4096)
				return false;
		}
	size_t n = i - last - 1;
	if (!n || (n < 3 && dots(p + last + 1, n)))
		return false;
	*dir = last;
	*len = i;
	return i < 4096;
}

uint64_t pt_link_word(const struct pt_info *info, uint64_t hash, const char *name, size_t len)
{
	bool fixed = info->stable && !(pt.flags & PT_IMG_AUDIT) &&
		(info->uniform[PT_WRITE] ? info->all[PT_WRITE] :
		 pt_decide_child(pt.image, info->cursor[PT_WRITE], info->hash, name, len)).action == PT_DENY;
	uint64_t generation = fixed || !pt.events ? 0 : pt_events_generation(pt.events) + 1;
	return (hash ^ generation * 0x9e3779b97f4a7c15ull) | 1;
}

static inline bool was_told(uint64_t hash, uint8_t access)
{
	return atomic_load_explicit(&pt_told[(hash >> 8 ^ access) % PT_TOLD], memory_order_relaxed) == ((hash + access) | 1);
}

/* The real path of an access, for the log; false where there is no room for it. */
static bool take_note(struct pt_note *note, const struct pt_info *dir, const char *name, size_t len, struct pt_verdict v)
{
	if (dir->real_len + 1 + len >= sizeof note->real)
		return false;
	note->real[dir->real_len] = '/';
	memcpy(note->real + dir->real_len + 1, name, len);
	note->real_len = dir->real_len + 1 + len;
	note->verdict = v;
	return true;
}

void pt_note_log(uint16_t op, uint8_t access, const char *path, const struct pt_note *note, int error)
{
	struct pt_at at = { .access = access, .verdict = note->verdict, .asked = path, .real = (char *)(uintptr_t)note->real,
		.real_len = note->real_len };
	pt_report(op, &at, PT_EV_ACCESS, PT_OUT_ALLOW, error);
}

/* `note`: what a log needs; a call that has none to offer is not decided here where there is a log. */
static inline __attribute__((always_inline)) enum pt_held decided(int dirfd, const char *path, uint8_t access, bool follow, bool held, struct pt_note *note)
{
	enum pt_map map = access > PT_ACC_READLINK ? PT_WRITE : PT_READ;
	struct pt_info info;
	char buf[512];
	const char *name;
	size_t dir, len;
	bool one = false;                      /* below a directory that the kernel has in its hand */

	if (unlikely(!pt_on() || !pt.plain || (!note && pt.log) || pt_bad_pointer(path)))
		return PT_NOT_QUICK;
	if (path[0] == '/') {
		if (!split_clean(path, &dir, &len) || !pt_dir_cached(path, dir, &info, note ? note->real : NULL))
			return PT_NOT_QUICK;
		name = path + dir + 1;
		len -= dir + 1;
	} else {
		if (held && unlikely(pt_threads()))
			return PT_NOT_QUICK;           /* the descriptor may be another one meanwhile */
		while (path[0] == '.' && path[1] == '/' && path[2] != '/')
			path += 2;
		for (len = 0; path[len] && path[len] != '/'; len++)
			;
		if (!len || (len < 3 && dots(path, len)))
			return PT_NOT_QUICK;
		if (!path[len]) {
			if (len > 255 || pt_fd_dir(dirfd, &info, note ? note->real : NULL, note ? sizeof note->real : 0) != 0)
				return PT_NOT_QUICK;
			name = path;
			one = true;
		} else {
			size_t rest = len + strlen(path + len);
			char full[PT_DIR_TEXT + 1];
			struct pt_info base;
			if (rest > sizeof buf - PT_DIR_TEXT - 2 || !pt_fd_cached(dirfd, &base, full))
				return PT_NOT_QUICK;
			memcpy(buf, full, base.real_len);
			buf[base.real_len] = '/';
			memcpy(buf + base.real_len + 1, path, rest + 1);
			if (!split_clean(buf, &dir, &len) || !pt_dir_cached(buf, dir, &info, note ? note->real : NULL))
				return PT_NOT_QUICK;
			name = buf + dir + 1;
			len -= dir + 1;
		}
	}
	if (unlikely(info.error))
		return PT_NOT_QUICK;
	if (PT_NAMES_VARY && !info.uniform[map])
		return PT_NOT_QUICK;                  /* what a rule speaks of may be meant in other letters */
	struct pt_verdict v = info.uniform[map] ? info.all[map] : pt_decide_child(pt.image, info.cursor[map], info.hash, name, len);
	if (v.action != PT_ALLOW || (v.flags & ~PT_V_ASKED))
		return PT_NOT_QUICK;
	uint64_t hash = 0;
	if (follow || v.port != PT_NO_PORT)
		hash = pt_hash_child(info.hash, name, len);
	if (v.port != PT_NO_PORT && !was_told(hash, access))
		return PT_NOT_QUICK;                  /* a port's file, used for the first time */
	if (follow) {
		if (atomic_load_explicit(&pt_not_links[hash % PT_NOT_LINKS], memory_order_relaxed) != pt_link_word(&info, hash, name, len))
			return PT_NOT_QUICK;
	}
	if (note && !take_note(note, &info, name, len, v))
		return PT_NOT_QUICK;
	pt_rule_used(v.rule);
	return info.stable || one ? PT_FIXED : PT_MOVABLE;
}

PT_HOT static enum pt_held quick(int dirfd, const char *path, uint8_t access, bool follow, bool held)
{
	return decided(dirfd, path, access, follow, held, NULL);
}

PT_HOT bool pt_quick(int dirfd, const char *path, uint8_t access)
{
	return quick(dirfd, path, access, false, false) != PT_NOT_QUICK;
}

PT_HOT bool pt_quick_follow(int dirfd, const char *path, uint8_t access)
{
	return quick(dirfd, path, access, true, false) != PT_NOT_QUICK;
}

/* Apart, so that without a log nothing of it is paid for. */
static __attribute__((noinline)) enum pt_held quick_noted(int dirfd, const char *path, uint8_t access, bool follow, struct pt_note *note)
{
	return decided(dirfd, path, access, follow, true, note);
}

PT_HOT enum pt_held pt_quick_held(int dirfd, const char **path, uint8_t access, char copy[PT_COPY], bool follow, struct pt_note *note)
{
	if (unlikely(pt_bad_pointer(*path)))
		return PT_NOT_QUICK;
	size_t n = strnlen(*path, PT_COPY);
	if (unlikely(n >= PT_COPY))
		return PT_NOT_QUICK;
	memcpy(copy, *path, n);
	copy[n] = 0;
	enum pt_held held = likely(!pt.log) ? quick(dirfd, copy, access, follow, true) : quick_noted(dirfd, copy, access, follow, note);
	if (held != PT_NOT_QUICK)
		*path = copy;
	return held;
}
