/*
 * What is known of directories: real path, where both filemaps stand after it,
 * whether that knowledge can go stale.
 */
#include "dircache.h"

#define MAX_LINKS 40

static _Atomic uint16_t slots_used;

static struct pt_dir *slot_for(uint32_t n)
{
	struct pt_dir *d = pt_dir_slot(n);
	if (d || atomic_load_explicit(&slots_used, memory_order_relaxed) >= PT_DIRS)
		return d;
	uint16_t i = atomic_fetch_add_explicit(&slots_used, 1, memory_order_relaxed), none = 0;
	if (i >= PT_DIRS)
		return NULL;
	atomic_compare_exchange_strong_explicit(&pt.few->dir_slots[n], &none, i + 1, memory_order_relaxed, memory_order_relaxed);
	return pt_dir_slot(n);
}

bool pt_dir_cached(const char *lex, size_t len, struct pt_info *info, char *real)
{
	uint64_t key = pt_text_key(lex, len);
	uint32_t n = pt_first_way(key);
	struct pt_dir *d = pt_dir_slot(n);
	if (d && slot_read(d, key, lex, len, info, real))
		return true;
	d = pt_dir_slot(n + 1);
	return d && slot_read(d, key, lex, len, info, real);
}

static void keep(const char *lex, size_t len, const struct pt_info *info, const char *real)
{
	/* /proc/self means another directory in each process, and a cache is inherited by a forked child. */
	if (sys_second_names(real, info->real_len)) /* a child of it may be a place elsewhere: looked at each time */
		return;
	if (info->magic || (info->real_len >= 5 && memcmp(real, "/proc", 5) == 0) || (len >= 5 && memcmp(lex, "/proc", 5) == 0))
		return;
	if (unlikely(len > PT_DIR_TEXT || len + info->real_len > PT_DIR_TEXT)) {
		if (len > PT_DIR_TEXT || len != info->real_len || memcmp(lex, real, len) != 0) {
			pt_far_keep(lex, len, info, real);
			return;
		}
	}
	uint64_t key = pt_text_key(lex, len);
	uint32_t n = pt_first_way(key);
	struct pt_dir *a = pt_dir_slot(n), *b = pt_dir_slot(n + 1);
	if (a && a->key != key && (!b || b->key == key || (key & 0x10000)))
		n++;
	struct pt_dir *d = slot_for(n);
	if (d)
		slot_write(d, key, lex, len, info, real);
}

void pt_dir_keep(const char *lex, size_t len, const struct pt_info *info, const char *real)
{
	if (len + info->real_len <= PT_DIR_TEXT)
		keep(lex, len, info, real);
}

/* ---- the walk ---- */

/* Of a path that a slab has no room for. */
static int16_t too_long(const struct pt_slab *s)
{
	return s->cap < PT_PATH_CAP ? PT_NO_ROOM : ENAMETOOLONG;
}

/* What is one for all children of the directory above is so for all of this one's, too. */
static void settle(struct pt_info *info)
{
	bool alike = info->uniform[PT_READ];
	for (int map = PT_READ; map <= PT_WRITE; map++) {
		if (info->uniform[map])
			continue;
		struct pt_rule_view rule;
		bool known = info->cursor[map].rule == PT_NO_RULE || pt_image_rule(pt.image, info->cursor[map].rule, &rule);
		bool asked = known && info->cursor[map].rule != PT_NO_RULE && (rule.action == PT_ASK || rule.action == PT_REDIRECT || rule.live);
		if (known && !asked && pt_cursor_uniform(pt.image, info->cursor[map])) {
			info->uniform[map] = 1;
			info->all[map] = pt_decide_child(pt.image, info->cursor[map], info->hash, "-", 1);
		}
	}
	if (alike)
		return;
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

void pt_info_child(struct pt_info *info, const char *name, size_t len, size_t real_len)
{
	info_child(info, name, len, real_len);
	settle(info);
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

/*
 * Directories are never refused by ask, so that what is taken for one here is passed. A file of a port that may not be
 * seen must not show by ENOTDIR.
 */
static bool is_asked_file(const struct pt_info *info, const char *real, size_t len, size_t name)
{
	struct stat st;
	struct pt_verdict v = pt_decide_child(pt.image, info->cursor[PT_READ], info->hash, real + len - name, name);
	if ((v.action != PT_DENY && !(v.flags & PT_V_LIVE)) || !(v.flags & (PT_V_ASKED | PT_V_LIVE)) ||
	    (pt.flags & (PT_IMG_AUDIT | PT_IMG_REDIRECTS)))
		return false;
	if (sys_lstat(real, &st) < 0 || S_ISDIR(st.st_mode))
		return false;
	if (v.flags & PT_V_LIVE)
		pt_live_ask(PT_READ, real, len, &v);
	return v.action == PT_DENY && !(v.flags & PT_V_BELOW);
}

void pt_dir_resolve(const char *lex, size_t len, struct pt_slab *s, struct pt_info *info)
{
	char *real = s->real;
	size_t pos = len, real_len;
	uint64_t begun = generation();

	if (pt_dir_cached(lex, len, info, real) || pt_far_cached(lex, len, info, real, s->cap))
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
	} else if (pos > PT_DIR_TEXT && !pt_far_used()) {
		pos = PT_DIR_TEXT + 1;         /* of longer ones nothing is kept */
	}
	while (!deep) { /* the longest part that is known */
		while (pos && lex[pos - 1] != '/')
			pos--;
		if (!pos) {
			info_root(info);
			break;
		}
		pos--;
		if (pt_dir_cached(lex, pos, info, real) || pt_far_cached(lex, pos, info, real, s->cap) || known_place(lex, pos, s, info))
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
		/* The same place by another name, not a link that could be hidden. What lies above it need not be there: /.vol/DEVICE. */
		ssize_t got = PT_NAMES_VARY ? sys_alias(real, real_len + 1 + n, s->link, s->cap - 1) : 0;
		bool alias = got > 0;
		if (!got)
			got = info->missing ? -ENOENT : sys_readlink(real, s->link, s->cap - 1);
		if (got == (ssize_t)s->cap - 1) {
			info->error = too_long(s);
			break;
		}
		/* Rules speak of names as they stand on the disk: a link's, too, is asked before it is judged. */
		size_t named = alias || info->missing || got == -ENOENT || got == -ENOTDIR ? n : sys_true_name(real, real_len, n);
		if (got > 0) {
			if (!magic && real_len >= 5 && memcmp(real, "/proc", 5) == 0 && (real_len == 5 || real[5] == '/'))
				magic = stable_links && info->stable ? PT_MAGIC_FIXED : PT_MAGIC;
			linked = true;
			struct pt_verdict v = pt_decide_child(pt.image, info->cursor[PT_READ], info->hash, real + real_len + 1, named);
			if (v.action == PT_DENY && !alias && !(pt.flags & PT_IMG_AUDIT)) {
				hidden = true;
				real_len += named + 1;
				break;
			}
			pt_rule_used(v.rule);
			if (v.port != PT_NO_PORT && v.action == PT_ALLOW)  /* whoever goes through a link uses its port, too */
				pt_used(0, PT_ACC_READLINK, v.port, v.rule, pt_hash_child(info->hash, real + real_len + 1, named),
					real, real_len + named + 1);
			if (++links > MAX_LINKS) {
				info->error = ELOOP;
				break;
			}
			if (pt_decide_child(pt.image, info->cursor[PT_WRITE], info->hash, real + real_len + 1, named).action != PT_DENY)
				stable_links = false;
			if (pt.events)
				pt_events_link_seen(pt.events, pt_hash_child(info->hash, real + real_len + 1, named));
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
				if (alias)
					unseen = 0;
			}
			real[real_len] = 0;
			continue;
		}
		if (got == -ENOENT || got == -ENOTDIR)
			info->missing = 1;
		else if (got < 0 && got != -EINVAL && !unseen)
			unseen = (int16_t)-got;
		if (got == -EINVAL && is_asked_file(info, real, real_len + 1 + named, named)) {
			hidden = true;
			real_len += named + 1;
			break;
		}
		rest += n, rest_len -= n;
		real_len += named + 1;
		info_child(info, real + real_len - named, named, real_len);
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
