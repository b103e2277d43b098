/*
 * Buffers for the slow way: small ones, of which each is one page, and a few
 * for paths of any length. One word of bits says which are taken: no lock
 * that a fork or a signal handler could find closed. A thread that is
 * cancelled or longjmps out of a call leaves its slab taken; where all are
 * taken a mapping is made for the one call.
 */
#include <sys/mman.h>

#include "trace.h"

#define SMALL ((1ull << PT_SMALL_SLABS) - 1)
#define LARGE (((1ull << PT_LARGE_SLABS) - 1) << PT_SMALL_SLABS)
#define SMALL_CAP ((PT_SMALL_SIZE - sizeof(struct pt_slab) - sizeof(uint64_t)) / PT_SLAB_BUFFERS & ~(size_t)7)

/* In the page of the first slab, which is written with it: what a fork's child writes is copied for it page by page. */
static _Atomic uint64_t *taken(void)
{
	return (_Atomic uint64_t *)(void *)(pt.slabs + PT_SMALL_SIZE - sizeof(uint64_t));
}

static struct pt_slab *slab(unsigned n)
{
	char *p = pt.slabs + (size_t)n * PT_SMALL_SIZE;
	if (n >= PT_SMALL_SLABS)
		p = pt.slabs + PT_SMALL_SLABS * PT_SMALL_SIZE + (size_t)(n - PT_SMALL_SLABS) * PT_LARGE_SIZE;
	return (struct pt_slab *)(void *)p;
}

static struct pt_slab *lay_out(struct pt_slab *s, size_t cap)
{
	char *p = (char *)(s + 1);
	s->owner = NULL;
	s->passing = false;
	s->cap = cap;
	s->lex = p;
	s->real = p + cap;
	s->pending = p + 2 * cap;
	s->link = p + 3 * cap;
	s->physical = p + 4 * cap;
	s->extra = p + 5 * cap;
	s->asked = p + 6 * cap;
	return s;
}

struct pt_slab *pt_slab_take(size_t room)
{
	uint64_t now = 0, which = room <= SMALL_CAP ? SMALL : LARGE;
	while (pt.slabs && ~now & which) {
		unsigned n = (unsigned)__builtin_ctzll(~now & which);
		if (atomic_compare_exchange_weak_explicit(taken(), &now, now | 1ull << n, memory_order_acquire, memory_order_relaxed))
			return lay_out(slab(n), n < PT_SMALL_SLABS ? SMALL_CAP : PT_PATH_CAP);
	}
	struct pt_slab *s = sys_mmap(PT_LARGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
	return s ? lay_out(s, PT_PATH_CAP) : NULL;
}

void pt_slab_give(struct pt_slab *s)
{
	if (!s)
		return;
	size_t at = (size_t)((char *)s - pt.slabs), small = PT_SMALL_SLABS * PT_SMALL_SIZE;
	if ((char *)s >= pt.slabs && at < small)
		atomic_fetch_and_explicit(taken(), ~(1ull << at / PT_SMALL_SIZE), memory_order_release);
	else if ((char *)s >= pt.slabs && at < small + PT_LARGE_SLABS * PT_LARGE_SIZE)
		atomic_fetch_and_explicit(taken(), ~(1ull << (PT_SMALL_SLABS + (at - small) / PT_LARGE_SIZE)), memory_order_release);
	else
		sys_munmap(s, PT_LARGE_SIZE);
}

/*
 * An exec that succeeds never gives its slab back. In a vfork child that is
 * the parent's slab, so each exec first takes back what an earlier one of the
 * same thread left: the thread runs again at the same depth or above, hence
 * that exec is over.
 */
struct pt_slab *pt_slab_exec(void *frame, size_t room)
{
	void *self = sys_thread();
	uint64_t now = pt.slabs ? atomic_load_explicit(taken(), memory_order_relaxed) : 0;
	for (unsigned n = 0; now && n < PT_SMALL_SLABS + PT_LARGE_SLABS; n++)
		if ((now >> n & 1) && slab(n)->owner == self && (char *)frame >= (char *)slab(n)->frame)
			pt_slab_give(slab(n));
	struct pt_slab *s = pt_slab_take(room);
	if (s) {
		s->frame = frame;
		s->owner = self;
	}
	return s;
}
