/*
 * What is known of descriptors and of the working directory: the directory behind them, what its listings may show,
 * and which were opened for writing.
 */
#include <dirent.h>

#include "dircache.h"

static _Atomic bool shared;            /* with a process that has memory of its own: nothing that is remembered would hold */
/*
 * A vfork child has the parent's memory, yet a working directory of its own:
 * once one of them has changed it, the slot is believed only by the process
 * that filled it.
 */
static _Atomic int cwd_by_pid;
static _Atomic pid_t cwd_pid;

static void add_fact(int fd, uint8_t fact)
{
	atomic_fetch_or_explicit(&pt_fd_facts[fd], fact, memory_order_relaxed);
}

bool pt_fd_filtered(int fd)
{
	struct pt_info info;
	uint8_t known = pt_facts_of(fd);
	if (likely(known & PT_FD_KNOWN))
		return known & PT_FD_FILTERED;
	return pt_on() && (pt_fd_dir(fd, &info, NULL, 0) != 0 || info.filter);
}

void pt_fd_forget(int fd)
{
	if (unlikely(pt_facts_of(fd)))
		atomic_store_explicit(&pt_fd_facts[fd], 0, memory_order_relaxed);
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

void pt_fd_wrote(int fd, const char *real, size_t len)
{
	if (!may_remember(fd))
		return;
	if (pt.log && real) {
		struct pt_info info = { .real_len = (uint16_t)len, .generation = generation() };
		slot_write(pt_slot_of(fd), pt_file_key(fd), real, len, &info, real);
	}
	add_fact(fd, PT_FD_WRITER);
}

bool pt_fd_writer(int fd, struct pt_info *info, char *real)
{
	return (pt_facts_of(fd) & PT_FD_WRITER) && (!real || slot_read(pt_slot_of(fd), pt_file_key(fd), NULL, 0, info, real));
}

void pt_fd_forget_range(unsigned first, unsigned last)
{
	for (unsigned fd = first; fd <= last && fd < PT_FDS; fd++)
		pt_fd_forget((int)fd);
}

static void remember(int fd, const struct pt_info *info, const char *real)
{
	slot_write(pt_slot_of(fd), pt_dir_key(fd), real, info->real_len, info, real);
	add_fact(fd, info->filter ? PT_FD_KNOWN | PT_FD_FILTERED : PT_FD_KNOWN);
}

void pt_fd_set(int fd, const char *real, size_t len)
{
	if (!may_remember(fd))
		return;
	struct pt_info info;
	uint64_t begun = generation();
	if (!pt_dir_cached(real, len, &info, NULL) || info.real_len != len)
		pt_info_of_real(real, len, &info);
	info.generation = begun;
	info.missing = 0;
	remember(fd, &info, real);
}

void pt_fd_set_child(int fd, int dirfd, const char *path)
{
	char real[PT_DIR_TEXT + 1];
	struct pt_info info;
	const char *slash = strrchr(path, '/');
	uint64_t begun = generation();
	if (PT_NAMES_VARY || !may_remember(fd) || (slash && path[0] != '/') ||
	    !(slash ? pt_dir_cached(path, (size_t)(slash - path), &info, real) : pt_fd_cached(dirfd, &info, real)))
		return;
	const char *name = slash ? slash + 1 : path;
	size_t len = strlen(name), whole = info.real_len + 1u + len;
	if (whole > PT_DIR_TEXT || info.error || info.missing || info.magic)
		return;
	real[info.real_len] = '/';
	memcpy(real + info.real_len + 1, name, len);
	pt_info_child(&info, name, len, whole);
	info.generation = begun;
	info.linked = 0;
	remember(fd, &info, real);
}

void pt_fd_same(int fd, int old)
{
	char real[PT_DIR_TEXT + 1];
	struct pt_info info;
	if (fd < 0)
		return;
	pt_fd_forget(fd);
	if (!(pt_facts_of(old) & PT_FD_KNOWN) || !may_remember(fd) || !pt_fd_cached(old, &info, real))
		return;
	remember(fd, &info, real);
}

void pt_cwd_forget(void)
{
	if (!pt.own || sys_getpid() != pt_pid())
		atomic_fetch_or(&cwd_by_pid, 1);
	struct pt_dir *d = pt_slot_of(AT_FDCWD);
	uint32_t seq = atomic_load_explicit(&d->seq, memory_order_relaxed);
	if (seq && !(seq & 1))
		d->key = 0;
}

#ifdef __APPLE__
/* A thread of its own working directory: what is remembered of the process' is no longer believed at all. */
void pt_cwd_of_thread(void)
{
	atomic_fetch_or(&cwd_by_pid, 2);
}
#endif

static bool cwd_slot_mine(void)
{
	int by_pid = atomic_load_explicit(&cwd_by_pid, memory_order_relaxed);
	return likely(!by_pid) || (by_pid == 1 && sys_getpid() == atomic_load(&cwd_pid));
}

struct pt_dir *pt_cwd_slot(void)
{
	return likely(cwd_slot_mine()) ? pt_slot_of(AT_FDCWD) : NULL;
}

bool pt_fd_cached(int fd, struct pt_info *info, char *real)
{
	struct pt_dir *d = pt_fd_slot(fd);
	return d && slot_read(d, pt_dir_key(fd), NULL, 0, info, real);
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
		d = pt_slot_of(AT_FDCWD);
		if (cwd_slot_mine() && slot_read(d, pt_dir_key(fd), NULL, 0, info, real))
			return 0;
	} else if (fd < 0) {
		return EBADF;
	} else if (fd < (int)PT_FDS) {
		d = pt_slot_of(fd);
		if ((pt_facts_of(fd) & PT_FD_KNOWN) && slot_read(d, pt_dir_key(fd), NULL, 0, info, real))
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
			slot_write(d, pt_dir_key(fd), buf, (size_t)n, info, buf);
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
	struct pt_dir *d = pt_slot_of(fd);
	uint32_t seq = atomic_load_explicit(&d->seq, memory_order_acquire);
	uint64_t hash = d->info.hash;
	bool sure = d->key == pt_dir_key(fd) && d->info.children == PT_CHILDREN_OWNED && (d->info.stable || d->info.generation == generation());
	atomic_thread_fence(memory_order_acquire);
	return sure && seq && !(seq & 1) && atomic_load_explicit(&d->seq, memory_order_relaxed) == seq &&
		pt_owned_child_allowed(pt.image, hash, name, len);
}

/* The verdict on an entry, from the few things that it depends on: it is asked for each name of a listing. */
static bool entry_verdict(int fd, const char *name, size_t len, struct pt_verdict *v, uint64_t *dir)
{
	struct pt_dir *d = pt_facts_of(fd) & PT_FD_KNOWN ? pt_slot_of(fd) : NULL;
	uint32_t seq = d ? atomic_load_explicit(&d->seq, memory_order_acquire) : 0;
	if (seq && !(seq & 1) && d->key == pt_dir_key(fd) && (d->info.stable || d->info.generation == generation())) {
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
	return ((pt_facts_of(fd) & PT_FD_KNOWN) && entry_allowed(fd, name, len)) || entry_shown(fd, name, len, type);
}

static __attribute__((noinline)) bool unknown_listed(int fd, const char *name, size_t len, unsigned char type)
{
	return !pt_fd_filtered(fd) || entry_shown(fd, name, len, type);
}

PT_HOT bool pt_listed(int fd, const char *name, size_t len, unsigned char type)
{
	uint8_t known = pt_facts_of(fd);
	if (unlikely(!(known & PT_FD_KNOWN)))
		return unknown_listed(fd, name, len, type);
	return !(known & PT_FD_FILTERED) || likely(entry_allowed(fd, name, len)) || entry_shown(fd, name, len, type);
}
