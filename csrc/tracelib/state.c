/*
 * Start: the library finds its own path, maps the policy and the event file
 * that lie beside it, and announces the process. Nothing else is done before
 * it is needed.
 */
#ifdef __linux__
#include <elf.h>
#endif
#include <sys/mman.h>

#include "../event_io.h"
#include "exec.h"
#include "trace.h"

#ifndef O_NOATIME
#define O_NOATIME 0
#endif

struct pt_state pt;


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

/* What lies beside the library. Descriptor or -errno. */
static int open_beside(const char *name, int flags)
{
	char path[sizeof pt.path];
	size_t dir = pt.path_len, len = strlen(name);
	while (dir && pt.path[dir - 1] != '/')
		dir--;
	if (!dir || dir + len + 1 > sizeof path)
		return -ENOENT;
	memcpy(path, pt.path, dir);
	memcpy(path + dir, name, len + 1);
	int fd = sys_open(path, flags | O_NOATIME | O_CLOEXEC | O_NOFOLLOW);
	/* What is written all the time would have its access time written at each look; whose it is not, may not say so. */
	return fd == -EPERM && O_NOATIME != 0 ? sys_open(path, flags | O_CLOEXEC | O_NOFOLLOW) : fd;
}

/* Of an open regular file; 0: it is none. */
static size_t size_of(int fd)
{
	struct stat st;
	return fd >= 0 && sys_fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0 ? (size_t)st.st_size : 0;
}

static const void *map_policy(size_t *size)
{
	int fd = open_beside("policy", O_RDONLY);
#ifdef __linux__
	uint64_t limit[2];
	if (unlikely(fd == -EMFILE) && sys_lift_descriptors(limit)) {  /* of a program that has used them up: as far as it goes */
		fd = open_beside("policy", O_RDONLY);
		sys_limit_descriptors(limit, NULL);
	}
#endif
	*size = size_of(fd);
	const void *p = *size ? sys_mmap(*size, PROT_READ, MAP_SHARED, fd) : NULL;
	pt_let_go(fd);
	return p;
}

#ifdef __linux__
/* All of the image, mapped where somebody asks whose a file is: most programs that a build starts live without. NULL: not to be had. */
static const struct pt_image *see_whole(void)
{
	static const struct pt_image *_Atomic whole;
	const struct pt_image *have = atomic_load_explicit(&whole, memory_order_acquire), *none = NULL;
	size_t size;
	if (likely(have))
		return have;
	const void *bytes = map_policy(&size);
	have = bytes ? pt_image_check(bytes, size, NULL, NULL) : NULL;
	if (have && pt_image_seed(have) != pt.seed)
		have = NULL;
	if (!have || atomic_compare_exchange_strong(&whole, &none, have)) {
		if (!have && bytes)
			sys_munmap((void *)(uintptr_t)bytes, size);
		return have;
	}
	sys_munmap((void *)(uintptr_t)bytes, size);
	return none;
}

void pt_see_policy(void)
{
	if (pt_on() && pt.image == (const void *)&pt_room)
		see_whole();
}
#endif

/* The policy: its beginning in the library itself, which the loader has mapped, or the file beside it. */
static const struct pt_image *find_policy(void)
{
	size_t size;
#ifdef __linux__
	const struct pt_image *front = pt_image_check_front(&pt_room, sizeof pt_room);
	if (likely(front)) {
		pt_image_whole_from(see_whole);
		return front;
	}
#endif
	const void *bytes = map_policy(&size);
	return bytes ? pt_image_check(bytes, size, NULL, NULL) : NULL;
}

static bool unfiltered;                /* a filter of its calls is none of its own: it is ours, or all of the session has it */

/*
 * Not where another thread could take the descriptor's number for its own meanwhile, and not where the program has
 * filtered its system calls: it may be ended by one that it does not make itself.
 */
int pt_open_events(void)
{
	return pt.starts_by_calls && !pt_threads() && (unfiltered || !sys_filtered()) ? open_beside("events", O_RDWR | O_APPEND) : -1;
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
static void announce(int fd)
{
	uint64_t small[48];
	struct pt_event e = { .kind = PT_EV_PROCESS, .tier = 1, .pid = pt.first, .ppid = sys_getppid(), .port = PT_NO_PORT };
	struct pt_slab *s = NULL;
	if (!started_as || !pt_events_exec(pt.events, fd, e.pid, started_as, small, sizeof small, &e)) {
		char *name = (char *)small;
		ssize_t n = sys_exe(name, sizeof small);
		if (n == (ssize_t)sizeof small && (s = pt_slab_take(PT_PATH_CAP)))
			n = sys_exe(name = s->link, s->cap);
		e.path = name;
		e.path_len = n > 0 ? (uint32_t)n : 0;
	}
	pt.index = pt_events_image(pt.events, fd, &e);
	pt.chain = e.chain;
	pt_slab_give(s);
}

static int ask_for_room(uint64_t from, uint64_t size)
{
	int fd = open_beside("events", O_RDWR);
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

/* The descriptor by which its start is to be told, and which is to be closed then; below 0: none. */
static int map_events(bool by_calls)
{
	int fd = open_beside("events", O_RDWR | O_APPEND);
	bool room = false;
	/* Not both: to be asked for its times makes a file write them anew. */
	uint64_t capacity = fd < 0 || !by_calls ? 0 : pt_events_opened(fd, &room);
	size_t size = by_calls ? capacity : size_of(fd), part = sys_first_part(pt.log ? SIZE_MAX : PT_EVENTS_PART, size);
	if (size)
		pt.events = sys_mmap(part, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	if (pt.events && !by_calls && !(capacity = pt_events_capacity(pt.events, size)))
		pt.events = NULL;
	if (pt.events) {
		/* Else a disk that reads on fills its cache with the whole of the tables when the first page is touched. */
		sys_used_at_random(pt.events, part);
		pt_events_room_from(ask_for_room);
		if (!pt.log) {
			events_size = capacity;
			pt_events_all_from(see_all);
		}
		pt.generation = pt_events_generation_at(pt.events);
		pt.starts_by_calls = room;
	}
	if (pt.starts_by_calls)
		return fd;
	pt_let_go(fd);
	return -1;
}

/* One thread does it; whoever comes meanwhile (a signal handler, a thread of an early constructor) waits for nothing. */
bool pt_start(void)
{
	static _Atomic int begun;
	int expected = 0, events = -1;
	if (!atomic_compare_exchange_strong(&begun, &expected, 1))
		return atomic_load_explicit(&pt.ready, memory_order_acquire) == 1;
	const char *own = pt_own_path();
	size_t len = own ? strlen(own) : 0;
	bool ok = false;
	if (own && own[0] == '/' && len < sizeof pt.path) {
		memcpy(pt.path, own, len + 1);
		pt.path_len = (uint32_t)len;
		pt.image = find_policy();
	}
	if (pt.image) {
		pt.seed = pt_image_seed(pt.image);
		pt.flags = pt_image_flags(pt.image);
		pt.plain = !(pt.flags & (PT_IMG_REDIRECTS | PT_IMG_AUDIT));
		pt.log = pt.flags & PT_IMG_LOG;
		pt_find_tables();
		ok = pt.slabs;
		pt.first = sys_getpid();
		/* Who is supervised was started by the launcher, or by us. */
		bool filter = sys_filtered(), supervised = filter && pt_is_supervised();
		unfiltered = supervised || pt.flags & PT_IMG_FILTERED;
		events = map_events(PT_STARTS_BY_CALLS && (!filter || unfiltered));
#ifdef __linux__
		if (!supervised)
			pt_enter_session();
#endif
		if (ok && pt.events) {
			announce(events);
			pt_used_libraries();
		}
		pt_let_go(events);
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
