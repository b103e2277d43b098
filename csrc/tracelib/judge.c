/*
 * From a call's arguments to its verdict, and what is told about it.
 */
#ifdef __linux__
#include "exec.h"
#endif
#include "few.h"
#include "locate.h"

static bool is_dir(const char *path)
{
	struct stat st;
	return sys_lstat(*path ? path : "/", &st) == 0 && S_ISDIR(st.st_mode);
}

static bool exists(const char *path)
{
	struct stat st;
	return sys_lstat(*path ? path : "/", &st) == 0;
}

static const char *physical(const struct pt_at *at)
{
	return at->path == at->slab->physical ? at->slab->physical : at->real;
}

/* Of what is refused for reading: hidden, or not there anyway? */
static uint8_t hidden_or_absent(const struct pt_at *at)
{
	bool there = at->there == PT_THERE_UNKNOWN ? exists(physical(at)) : at->there == PT_THERE;
	return there ? PT_OUT_HIDE : PT_OUT_ABSENT;
}

/* Of a name by which the kernel speaks of an open file that has lost its own: the own one's length. */
static size_t former_len(const struct pt_at *at)
{
	static const char gone[] = " (deleted)";
	const size_t n = sizeof gone - 1;
	bool lost = at->magic && at->real_len > at->parent.real_len + 1 + n && !memcmp(at->real + at->real_len - n, gone, n) && !exists(at->real);
	return lost ? at->real_len - n : at->real_len;
}

static struct pt_verdict decide(const struct pt_at *at, enum pt_map map)
{
	struct pt_verdict v;
	if (!at->real_len) {
		v = pt_decide(pt.image, map, "/", 1);
		if (map == PT_READ && v.action == PT_DENY)
			v.flags |= PT_V_BELOW;
		return v;
	}
	size_t dir = at->parent.real_len, len = map == PT_READ ? former_len(at) : at->real_len;
	v = pt_decide_child(pt.image, at->parent.cursor[map], at->parent.hash, at->real + dir + 1, len - dir - 1);
	pt_rule_used(v.rule);
	if (unlikely(v.flags & PT_V_LIVE))
		pt_live_ask(map, at->real, at->real_len, &v);
	return v;
}

static bool readable(const struct pt_at *at, struct pt_verdict v)
{
	if (v.action != PT_DENY)
		return true;
	return (pt_by_itself(v) || (pt.flags & PT_IMG_DIRS_VISIBLE)) && is_dir(physical(at));
}

uint64_t pt_report(uint16_t op, const struct pt_at *at, uint8_t kind, uint8_t outcome, int error)
{
	if (!pt.events)
		return 0;
	struct pt_event e = {
		.kind = kind, .access = at->access, .outcome = outcome, .tier = 1, .op = op, .error = (int16_t)error,
		.pid = pt_pid(), .image = pt.index, .chain = pt.chain, .rule = at->verdict.rule, .port = at->verdict.port,
		.path = at->real_len ? at->real : "/", .path_len = at->real_len ? (uint32_t)at->real_len : 1,
	};
	size_t asked = at->asked ? strlen(at->asked) : 0;
	if (asked != e.path_len || memcmp(at->asked, e.path, asked) != 0) {
		e.asked = at->asked;
		e.asked_len = (uint32_t)asked;
	}
	return pt_events_put(pt.events, &e);
}


void pt_used(uint16_t op, uint8_t access, uint32_t port, uint32_t rule, uint64_t hash, const char *real, size_t len)
{
	struct pt_word told = pt_told(hash, access);
	if (likely(pt_word_known(told)) || !pt.events)
		return;
	pt_word_keep(told);
	struct pt_event e = {
		.kind = PT_EV_USED, .access = access, .tier = 1, .op = op, .pid = pt_pid(), .image = pt.index, .rule = rule,
		.port = port, .path = real, .path_len = (uint32_t)len,
	};
	pt_events_put(pt.events, &e);
}

/* A listing left out a file of an undeclared port: told once for each directory, by the directory's name. */
void pt_left_out(int fd, uint64_t hash, uint32_t port, uint32_t rule)
{
	const uint8_t access = PT_ACC_COUNT + PT_ACC_LIST;       /* of its own: a listing that was a use is told, too */
	struct pt_word told = pt_told(hash, access);
	struct pt_slab *s;
	struct pt_info info;
	if (likely(pt_word_known(told)) || !pt.events || !(s = pt_slab_take(PT_PATH_CAP)))
		return;
	if (pt_fd_dir(fd, &info, s->real, s->cap) == 0) {
		pt_word_keep(told);
		struct pt_event e = {
			.kind = PT_EV_USED, .access = PT_ACC_LIST, .outcome = PT_OUT_HIDE, .tier = 1, .pid = pt_pid(), .image = pt.index,
			.rule = rule, .port = port, .path = s->real, .path_len = info.real_len,
		};
		pt_events_put(pt.events, &e);
	}
	pt_slab_give(s);
}

/* Says no; in an audit it only remembers that it would have. */
static int refuse(uint16_t op, struct pt_at *at, uint8_t outcome, int error)
{
	at->outcome = outcome;
	if (!(at->verdict.flags & PT_V_SILENT) && !(pt.supervised && outcome == PT_OUT_ABSENT))
		pt_report(op, at, PT_EV_FINDING, outcome, error);
	return pt.flags & PT_IMG_AUDIT ? 0 : error;
}

/* Open, and without a name: it was made so (O_TMPFILE), and nothing is hidden in it. */
static bool nameless(const struct pt_at *at)
{
	static const char gone[] = " (deleted)";
	const size_t n = sizeof gone - 1;
	struct stat st;
	bool open = at->magic || (at->flags & PT_EMPTY && !at->path[0]);
	return open && at->real_len > n && !memcmp(at->real + at->real_len - n, gone, n) &&
	       (at->path[0] ? sys_fstatat(at->dirfd, at->path, &st, 0) : sys_fstat(at->dirfd, &st)) == 0 && !st.st_nlink;
}

int pt_judge_shown(uint16_t op, struct pt_at *from, const struct pt_at *to)
{
	if (!from->judged || !to->judged)
		return 0;
	struct pt_verdict read = decide(from, PT_READ);
	if (likely(read.action != PT_DENY))
		return 0;
	struct pt_verdict there = decide(to, PT_READ);
	if ((there.action == PT_DENY && !(there.flags & PT_V_BELOW)) || nameless(from))
		return 0;
	from->verdict = read;
	from->access = PT_ACC_READ;    /* what would have to be allowed */
	return refuse(op, from, hidden_or_absent(from), ENOENT);
}

/*
 * The directory of the name is missing: is what ends the walk in a hidden place? By the errno it must not show whether
 * a hidden directory is there, or that something hidden is a file. `real` is cut and restored.
 */
static bool ends_hidden(struct pt_at *at)
{
	struct stat st;
	if (pt.flags & (PT_IMG_AUDIT | PT_IMG_REDIRECTS))
		return false;
	for (size_t len = at->parent.real_len; len;) {
		char *end = at->slab->real + len, kept = *end;
		*end = 0;
		bool dir = sys_lstat(at->real, &st) == 0 && S_ISDIR(st.st_mode);
		*end = kept;
		struct pt_verdict v = pt_decide(pt.image, PT_READ, at->real, len);
		if (dir)
			return v.action == PT_DENY && !pt_by_itself(v) && !(pt.flags & PT_IMG_DIRS_VISIBLE);
		if (v.action == PT_DENY && !pt_by_itself(v))
			return true;
		while (len && at->real[--len] != '/')
			;
	}
	return false;
}

static int judge_write(uint16_t op, struct pt_at *at, struct pt_verdict read)
{
	struct pt_verdict write = decide(at, PT_WRITE);
	bool there = false, looked = false;
	if (at->flags & PT_NO_WRITE) {     /* O_RDONLY|O_CREAT: changes nothing that exists */
		there = exists(physical(at));
		looked = true;
		if (there) {
			at->access = PT_ACC_READ;
			at->verdict = read;
			if (readable(at, read))
				return 0;
			/* as it would be if it were not there, and had to be made */
			return refuse(op, at, PT_OUT_HIDE, write.action == PT_DENY ? EACCES : ENOENT);
		}
	}
	if (write.action != PT_DENY) {
		at->verdict = write;
		if (at->access == PT_ACC_RENAME && pt_rules_below(pt.image, PT_READ, at->real, at->real_len) && exists(physical(at)))
			return refuse(op, at, PT_OUT_DENY, EACCES);
#ifdef __linux__
		/* By their new names its files would be nobody's: the supervisor looks at each of them. */
		if (at->access == PT_ACC_RENAME && read.flags & (PT_V_ASKED | PT_V_LIVE) && !(pt.flags & PT_IMG_AUDIT) &&
		    is_dir(physical(at)) && !pt_supervise_all())
			return EACCES;
#endif
		if (!(at->flags & PT_ALSO_READ) || readable(at, read))
			return 0;
		at->verdict = read;
		return refuse(op, at, hidden_or_absent(at), ENOENT);
	}
	bool makes = at->access == PT_ACC_CREATE || (at->flags & PT_MAY_CREATE);
	if (at->parent.missing) {
		if (!ends_hidden(at))
			return 0;              /* nothing can be made or found there: ENOENT or ENOTDIR is the kernel's to say */
		at->verdict = makes ? write : read;
		return refuse(op, at, makes ? PT_OUT_DENY : PT_OUT_ABSENT, makes ? EACCES : ENOENT);
	}
	if (!looked)
		there = exists(physical(at));
	bool visible = there && readable(at, read);
	at->verdict = write;
	if (makes) {
		if (visible && (at->flags & PT_EXCL))
			return 0;                  /* EEXIST, from the kernel */
		if (visible && at->access == PT_ACC_CREATE && (at->flags & PT_MAY_CREATE))
			at->access = PT_ACC_WRITE;
		return refuse(op, at, PT_OUT_DENY, EACCES);
	}
	if (!there) {
		if (readable(at, read))
			return 0;                  /* ENOENT, from the kernel */
		at->verdict = read;
		return refuse(op, at, PT_OUT_ABSENT, ENOENT);
	}
	/* A directory that only the flag shows may be looked at; who would take it away finds nothing, as in MacPorts. */
	if (at->access == PT_ACC_DELETE && !pt_by_itself(read))
		visible = false;
	if (!visible) {
		at->verdict = read;
		return refuse(op, at, PT_OUT_HIDE, ENOENT);
	}
	return refuse(op, at, PT_OUT_DENY, EACCES);
}

/*
 * A redirect with a fallback shows another system to what is built. What runs here, and what it loads into itself,
 * is this system's where this system has it: the name is looked up once more, without redirects.
 */
bool pt_runs_own(struct pt_at *at)
{
	if (!at->judged || at->verdict.action != PT_REDIRECT || !(at->verdict.flags & PT_V_FALLBACK))
		return false;
	struct pt_slab *s = at->slab;
	struct stat st;
	int fd = sys_open(s->lex, PT_O_NAME | O_CLOEXEC);
	if (fd < 0)
		return false;
	ssize_t n = sys_fd_path(fd, s->extra, s->cap - 1);
	bool file = sys_fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
	sys_close(fd);
	if (!file || n <= 0 || s->extra[0] != '/')
		return false;
	s->extra[n] = 0;
	struct pt_verdict v = pt_decide(pt.image, PT_READ, s->extra, (size_t)n);
	if (v.action != PT_ALLOW && !(v.action == PT_REDIRECT && (v.flags & PT_V_FALLBACK)))
		return false;
	memcpy(s->physical, s->extra, (size_t)n + 1);
	at->path = s->physical;
	at->dirfd = AT_FDCWD;
	return true;
}

#ifdef __linux__
/* A process's memory, as a file. What is written there may be code: the supervisor says whose it may be. */
static bool is_memory(const struct pt_at *at)
{
	return at->real_len > 10 && !memcmp(at->real, "/proc/", 6) && !memcmp(at->real + at->real_len - 4, "/mem", 4);
}
#endif

int pt_judge(uint16_t op, struct pt_at *at)
{
	at->slab = NULL;
	at->judged = false;
	at->outcome = PT_OUT_ALLOW;
	at->asked = at->path;
	at->lost = 0;
	pt_prepare(at, NULL);
	if (!pt_on() || pt_bad_pointer(at->path))
		return 0;
	size_t length = strnlen(at->path, PT_ASKED_MAX);
	if (!length && !(at->flags & PT_EMPTY)) {
		at->path = "";
		return 0;
	}
	if (length >= PT_ASKED_MAX)
		return ENAMETOOLONG;
	size_t room = pt_usual_room();
	struct pt_slab *s = pt_slab_take(length < room ? room : length + 1);
	if (!s)
		return ENOMEM;
	/* Read once: what another thread writes there after our look must not be what the kernel sees. */
	memcpy(s->asked, at->path, length);
	s->asked[length] = 0;
	at->asked = at->path = s->asked;
	pt_prepare(at, s);
	s->passing = at->access == PT_ACC_EXEC;
	if (!s->passing)               /* a write before the first look: one page fault, not two */
		atomic_store_explicit(&pt.few->touched, true, memory_order_relaxed);
	int error = pt_locate(at);
	if (error == PT_NO_ROOM) {
		struct pt_slab *large = pt_slab_take(PT_PATH_CAP);
		if (!large)
			return ENOMEM;
		memcpy(large->asked, s->asked, length + 1);
		at->asked = at->path = large->asked;
		pt_prepare(at, large);
		pt_slab_give(s);
		error = pt_locate(at);
	}
	at->lost = (int16_t)error;
	if (error && at->final)
		return error;
	if (error && !at->parent.hidden) {
		/* the kernel finds the same; with any other it is we who do not know the path, and what is not known is not let through */
		bool same = error == EBADF || error == ENOTDIR || error == ELOOP || error == ENOENT;
		return same || (pt.flags & PT_IMG_AUDIT) ? 0 : error;
	}
	at->judged = true;
	if (error) {
		pt_split_real(at);             /* what is hidden is the whole of `real`, whose directory the walk has not kept */
		at->verdict = decide(at, PT_READ);
		return refuse(op, at, PT_OUT_HIDE, ENOENT);
	}
	at->verdict = decide(at, PT_READ);
	if (at->access > PT_ACC_READLINK)
		error = judge_write(op, at, at->verdict);
	else if (!readable(at, at->verdict))
		error = refuse(op, at, hidden_or_absent(at), ENOENT);
	else if ((at->flags & PT_PROBE_WRITE) && decide(at, PT_WRITE).action == PT_DENY && exists(physical(at)) && !(pt.flags & PT_IMG_AUDIT))
		error = EACCES;
#ifdef __linux__
	if (!error && at->access > PT_ACC_READLINK && is_memory(at) && !pt_supervise_all())
		return EACCES;
#endif
	/* Something on the way could not be looked at, and may be a link; by a path of its own the kernel has the same difficulty. */
	if (!error && at->unseen && !(pt.flags & PT_IMG_AUDIT))
		return at->unseen;
	if (!error && at->access == PT_ACC_EXEC && pt_runs_own(at))
		return 0;
	if (!error && at->verdict.action == PT_REDIRECT && at->outcome == PT_OUT_ALLOW)
		at->outcome = PT_OUT_REDIRECT;
	return error;
}

/*
 * A walk that came to an end on the way (".." out of what is not there, a file where a directory should be) has no real
 * path: what the log has is the name, from where the program stood.
 */
static void log_lost(uint16_t op, struct pt_at *at, int error)
{
	struct pt_slab *s = at->slab;
	size_t len = 0, n = strlen(at->asked);
	if (at->asked[0] != '/') {
		struct pt_info info;
		if (pt_fd_dir(at->dirfd, &info, s->real, s->cap) != 0)
			return;
		len = info.real_len;
		if (len + n + 2 > s->cap)
			return;
		s->real[len++] = '/';
	} else if (n + 1 > s->cap) {
		return;
	}
	memcpy(s->real + len, at->asked, n + 1);
	at->real = s->real;
	at->real_len = len + n;
	at->logged = pt_report(op, at, PT_EV_ACCESS, PT_OUT_ALLOW, error);
}

void pt_done(uint16_t op, struct pt_at *at, int error)
{
	if (!at->slab)
		return;
	if (at->judged) {
		if (!error && at->verdict.port != PT_NO_PORT && at->verdict.action == PT_ALLOW && at->access <= PT_ACC_READLINK &&
		    at->real_len) {
			size_t dir = at->parent.real_len;
			pt_used(op, at->access, at->verdict.port, at->verdict.rule,
				pt_hash_child(at->parent.hash, at->real + dir + 1, at->real_len - dir - 1), at->real, at->real_len);
		}
		if (!error && (at->verdict.flags & PT_V_UNOWNED) && at->outcome == PT_OUT_ALLOW && at->access <= PT_ACC_READLINK &&
		    !(at->verdict.flags & PT_V_SILENT)) {
			struct stat st;
			if (sys_lstat(physical(at), &st) == 0 && !S_ISDIR(st.st_mode)) {
				at->outcome = PT_OUT_UNOWNED;
				pt_report(op, at, PT_EV_FINDING, PT_OUT_UNOWNED, 0);
			}
		} else if (!error && at->outcome == PT_OUT_REDIRECT && (at->verdict.flags & PT_V_FALLBACK)) {
			/* the target lacks it, its own place has it; of neither having it there is nothing to say */
			if (at->path != at->slab->physical && !is_dir(at->real)) {
				at->outcome = PT_OUT_REDIRECTED_MISSING;
				pt_report(op, at, PT_EV_FINDING, PT_OUT_REDIRECTED_MISSING, 0);
			}
		} else if (error == ENOENT && at->outcome == PT_OUT_REDIRECT && !(at->verdict.flags & PT_V_FALLBACK) && exists(at->real)) {
			at->outcome = PT_OUT_REDIRECTED_MISSING;
			pt_report(op, at, PT_EV_FINDING, PT_OUT_REDIRECTED_MISSING, error);
		}
		if (pt.log)
			at->logged = pt_report(op, at, PT_EV_ACCESS, at->outcome, error);
	} else if (at->lost && error && at->lost != EBADF && pt.log) {
		log_lost(op, at, error);
	}
	pt_slab_give(at->slab);
	at->slab = NULL;
}

/* The loader has opened the program's libraries before us: those in the prefix are told afterwards. */
void pt_used_library(const char *name)
{
	const char *prefix = pt_image_label(pt.image, "prefix");
	size_t len = prefix ? strlen(prefix) : 0;
	struct pt_slab *s;
	if (!len || strncmp(name, prefix, len) != 0 || name[len] != '/' || !(s = pt_slab_take(PT_PATH_CAP)))
		return;
	struct pt_info info;
	pt_dir_resolve(name, strlen(name), s, &info);
	if (!info.error && !info.missing) {
		struct pt_verdict v = pt_decide(pt.image, PT_READ, s->real, info.real_len);
		if (v.port != PT_NO_PORT && v.action == PT_ALLOW)
			pt_used(0, PT_ACC_READ, v.port, v.rule, info.hash, s->real, info.real_len);
	}
	pt_slab_give(s);
}

/* Would this path be hidden? Tells nobody. */
bool pt_hides(int dirfd, const char *path)
{
	struct pt_at at = { .dirfd = dirfd, .path = path, .access = PT_ACC_STAT };
	if (!pt_on() || (pt.flags & PT_IMG_AUDIT) || pt_bad_pointer(path) || !*path || strnlen(path, 4096) >= 4096)
		return false;
	at.slab = pt_slab_take(pt_usual_room());
	if (!at.slab)
		return false;
	int error = pt_locate(&at);
	if (error == PT_NO_ROOM) {
		pt_slab_give(at.slab);
		pt_prepare(&at, pt_slab_take(PT_PATH_CAP));
		if (!at.slab)
			return false;
		error = pt_locate(&at);
	}
	bool hides = error ? at.parent.hidden : !readable(&at, decide(&at, PT_READ));
	pt_slab_give(at.slab);
	return hides;
}

void pt_changed(void)
{
	if (pt.events)
		pt_events_bump(pt.events);
}

void pt_move_begins(void)
{
	if (pt.events)
		pt_events_move_begins(pt.events);
}

void pt_move_ends(void)
{
	if (pt.events)
		pt_events_move_ends(pt.events);
}

bool pt_nothing_moved(uint64_t generation)
{
	return pt.events && pt_events_unmoved(pt.events, generation);
}

void pt_may_unlink(const struct pt_at *at)
{
	if (pt.events && at->judged && at->real_len) {
		size_t dir = at->parent.real_len;
		if (pt_events_maybe_link(pt.events, pt_hash_child(at->parent.hash, at->real + dir + 1, at->real_len - dir - 1)))
			pt_events_bump(pt.events);
	}
}

/* A directory or a link under a new name: what was resolved through the old or the replaced one is stale. */
void pt_renamed(const struct pt_at *first, const struct pt_at *last)
{
	struct stat st;
	pt_may_unlink(first);
	pt_may_unlink(last);
	if (last->slab && last->judged && sys_lstat(physical(last), &st) == 0 && (S_ISDIR(st.st_mode) || S_ISLNK(st.st_mode)))
		pt_changed();
}
