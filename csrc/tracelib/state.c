/*
 * Start: the library finds its own path, maps the policy and the event file
 * that lie beside it, and announces the process. Nothing else is done before
 * it is needed.
 */
#ifdef __linux__
#include <elf.h>
#endif
#include <sys/mman.h>

#include "exec.h"
#include "trace.h"

#ifndef O_NOATIME
#define O_NOATIME 0
#endif

struct pt_state pt;

/* No more than `part` bytes of it, where more can be had later. */
static void *map_file(const char *path, int flags, int protection, size_t part, size_t *size)
{
	/* What is written all the time would have its access time written at each look; whose it is not, may not say so. */
	int fd = sys_open(path, flags | O_CLOEXEC | O_NOFOLLOW);
	if (fd == -EPERM)
		fd = sys_open(path, (flags & ~O_NOATIME) | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return NULL;
	struct stat st;
	void *p = NULL;
	if (sys_fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0) {
		*size = (size_t)st.st_size;
		p = sys_mmap(sys_first_part(part, *size), protection, MAP_SHARED, fd);
	}
	sys_close(fd);
	return p;
}

#ifdef __GLIBC__
/*
 * A program built with gcc's AddressSanitizer does not start where another library comes before the sanitizer's. It may,
 * if that makes no call to the allocator; the sanitizer asks this function, which a program can still have of its own.
 */
PT_EXPORT const char *__asan_default_options(void);
PT_EXPORT const char *__asan_default_options(void)
{
	return "verify_asan_link_order=0";
}
#endif

pid_t pt_pid(void)
{
	if (!pt.own)
		return sys_getpid();
	pid_t pid = atomic_load_explicit(&pt.own->pid, memory_order_relaxed);
	if (unlikely(!pid)) {
		pid = sys_getpid();
		atomic_store_explicit(&pt.own->pid, pid, memory_order_relaxed);
	}
	return pid;
}

static _Atomic bool lent;              /* to a child, at some time: one that has vforked may be either */

void pt_lend(void)
{
	atomic_store_explicit(&lent, true, memory_order_relaxed);
}

bool pt_own_memory(void)
{
	if (likely(pt.own && !atomic_load_explicit(&lent, memory_order_relaxed)))
		return true;                   /* a forked child's memory is its own */
	pid_t now = sys_getpid();
	if (now == pt.first) {
		if (unlikely(!pt.own)) /* before the first child that this could be asked of */
			pt_find_own();
		if (pt.own)
			atomic_store_explicit(&pt.own->pid, now, memory_order_relaxed);
		return true;
	}
	return pt.own && pt_pid() == now;
}

/* `name` beside the library into buf; false where it does not fit. */
static bool beside(const char *own, const char *name, char *buf, size_t size)
{
	const char *slash = strrchr(own, '/');
	size_t dir = slash ? (size_t)(slash - own) + 1 : 0, len = strlen(name);
	if (!slash || dir + len + 1 > size)
		return false;
	memcpy(buf, own, dir);
	memcpy(buf + dir, name, len + 1);
	return true;
}

/*
 * The name by which the kernel was asked to start this program (AT_EXECFN), as the C library's loader gives us its
 * arguments; NULL: not known.
 */
static const char *started_as;

#ifdef __linux__
static char *const *environment;
#endif

static void find_name(char **argv)
{
#if defined(__linux__) && defined(__GLIBC__)
	while (*argv++)
		;
	environment = argv;
	while (*argv++)                /* the environment as it was at first */
		;
	for (const unsigned long *aux = (const unsigned long *)(void *)argv; aux[0] != AT_NULL; aux += 2)
		if (aux[0] == AT_EXECFN)
			started_as = (const char *)aux[1];
#else
	(void)argv;
#endif
}

/*
 * The program's path is in what its exec has told; asking /proc would be the dearest call of a start. A small buffer
 * first: each page that a short-lived process touches costs it a fault.
 */
static void announce(void)
{
	char small[256];
	struct pt_event e = { .kind = PT_EV_PROCESS, .tier = 1, .pid = pt.first, .ppid = sys_getppid(), .port = PT_NO_PORT };
	struct pt_slab *s = NULL;
	const char *name = small;
	ssize_t n;
	if (started_as && pt_events_exec(pt.events, e.pid, started_as, &e) && e.path_len < sizeof small) {
		n = (ssize_t)e.path_len;
		memcpy(small, e.path, e.path_len);
	} else {
		n = sys_exe(small, sizeof small);
	}
	if (n == (ssize_t)sizeof small && (s = pt_slab_take(PT_PATH_CAP))) {
		n = sys_exe(s->link, s->cap);
		name = s->link;
	}
	e.path = name;
	e.path_len = n > 0 ? (uint32_t)n : 0;
	pt.index = pt_events_image(pt.events, &e);
	pt.chain = e.chain;
	pt_slab_give(s);
}

static int ask_for_room(uint64_t from, uint64_t size)
{
	char name[sizeof pt.path];
	int fd = beside(pt.path, "events", name, sizeof name) ? sys_open(name, O_RDWR | O_CLOEXEC | O_NOFOLLOW) : -ENOENT;
	if (fd < 0)
		return fd;
	int error = sys_give_room(fd, from, size);
	sys_close(fd);
	return error;
}

static size_t events_size;

/* Two threads may come at once; the one that is later has a map too many for a moment. */
static struct pt_events *see_all(struct pt_events *part)
{
	static struct pt_events *_Atomic all;
	struct pt_events *have = atomic_load_explicit(&all, memory_order_acquire), *more;
	if (likely(have) || !(more = sys_map_more(part, events_size)))
		return have;
	if (atomic_compare_exchange_strong(&all, &have, more))
		return more;
	if (more != part)
		sys_munmap(more, events_size);
	return have;
}

/* One thread does it; whoever comes meanwhile (a signal handler, a thread of an early constructor) waits for nothing. */
bool pt_start(void)
{
	static _Atomic int begun;
	int expected = 0;
	if (!atomic_compare_exchange_strong(&begun, &expected, 1))
		return atomic_load_explicit(&pt.ready, memory_order_acquire) == 1;
	const char *own = pt_own_path();
	char name[sizeof pt.path];
	size_t size = 0, len = own ? strlen(own) : 0;
	bool ok = false;
	if (own && own[0] == '/' && len < sizeof pt.path && beside(own, "policy", name, sizeof name)) {
		memcpy(pt.path, own, len + 1);
		pt.path_len = (uint32_t)len;
		void *bytes = map_file(name, O_RDONLY, PROT_READ, SIZE_MAX, &size);
		const char *why;
		size_t where;
		pt.image = bytes ? pt_image_check(bytes, size, &why, &where) : NULL;
	}
	if (pt.image) {
		pt.seed = pt_image_seed(pt.image);
		pt.flags = pt_image_flags(pt.image);
		pt.plain = !(pt.flags & (PT_IMG_REDIRECTS | PT_IMG_AUDIT));
		pt.log = pt.flags & PT_IMG_LOG;
		pt_find_tables();
		if (beside(own, "events", name, sizeof name)) {
			size_t part = pt.log ? SIZE_MAX : PT_STARTS_END;
			pt.events = map_file(name, O_RDWR | O_NOATIME, PROT_READ | PROT_WRITE, part, &size);
			if (pt.events && size >= PT_EVENTS_MIN) {
				/* Else a disk that reads on fills its cache with the whole of the tables when the first page is touched. */
				sys_used_at_random(pt.events, sys_first_part(part, size));
				pt_events_touch(pt.events);
			}
			if (pt.events && !pt_events_check(pt.events, size))
				pt.events = NULL;
			pt_events_room_from(ask_for_room);
			if (!pt.log) {
				events_size = size;
				pt_events_all_from(see_all);
			}
			if (pt.events)
				pt.generation = pt_events_generation_at(pt.events);
		}
		ok = pt.slabs;
		pt.first = sys_getpid();
		/* Who is supervised was started by the launcher, or by us. */
		bool supervised = pt_is_supervised();
#ifdef __linux__
		if (!supervised)
			pt_enter_session();
#endif
		if (ok && pt.events) {
			announce();
			pt_used_libraries();
		}
		/* One decides, not two: under a supervisor our own looks would be judged and told as the program's. */
		if (supervised && !(pt.flags & PT_IMG_REDIRECTS))
			ok = false;
	}
#ifdef __linux__
	/* In a session, and too little memory (ulimit -v) to hold its policy: then the supervisor answers. */
	if (unlikely(!pt.slabs && pt.path_len) && !pt_is_supervised() && pt_has_supervisor()) {
		pt_enter_session();
		pt_supervise_all();
	}
#endif
	atomic_store_explicit(&pt.ready, ok ? 1 : 2, memory_order_release);
	return ok;
}

__attribute__((constructor)) static void start(int argc, char **argv)
{
	(void)argc;
	find_name(argv);
#ifdef __linux__
	if (pt_on() && pt.events)
		pt_start_again(environment ? argv : NULL, environment);
#else
	pt_on();
	if (pt.image)
		pt_enter_session();
#endif
}
