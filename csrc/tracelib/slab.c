/*
 * Buffers for the slow way. One word of bits says which are taken: no lock
 * that a fork or a signal handler could find closed. A thread that is
 * cancelled or longjmps out of a call leaves its slab taken; where all are
 * taken a mapping is made for the one call.
 */
#include <sys/mman.h>

#include "trace.h"

#define ALL ((1ull << PT_SLABS) - 1)

static _Atomic uint64_t taken;

static struct pt_slab *slab(unsigned n)
{
	return (struct pt_slab *)pt.slabs + n;
}

struct pt_slab *pt_slab_take(void)
{
	uint64_t now = 0;
	while (pt.slabs && ~now & ALL) {
		unsigned n = (unsigned)__builtin_ctzll(~now);
		if (atomic_compare_exchange_weak_explicit(&taken, &now, now | 1ull << n, memory_order_acquire, memory_order_relaxed)) {
			slab(n)->owner = NULL;
			return slab(n);
		}
	}
	return sys_mmap(sizeof(struct pt_slab), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
}

void pt_slab_give(struct pt_slab *s)
{
	if (!s)
		return;
	size_t n = (size_t)((char *)s - pt.slabs) / sizeof *s;
	if ((char *)s >= pt.slabs && n < PT_SLABS)
		atomic_fetch_and_explicit(&taken, ~(1ull << n), memory_order_release);
	else
		sys_munmap(s, sizeof *s);
}

/*
 * An exec that succeeds never gives its slab back. In a vfork child that is
 * the parent's slab, so each exec first takes back what an earlier one of the
 * same thread left: the thread runs again at the same depth or above, hence
 * that exec is over.
 */
struct pt_slab *pt_slab_exec(void *frame)
{
	void *self = sys_thread();
	uint64_t now = atomic_load_explicit(&taken, memory_order_relaxed);
	for (unsigned n = 0; pt.slabs && n < PT_SLABS; n++)
		if ((now >> n & 1) && slab(n)->owner == self && (char *)frame >= (char *)slab(n)->frame)
			pt_slab_give(slab(n));
	struct pt_slab *s = pt_slab_take();
	if (s) {
		s->frame = frame;
		s->owner = self;
	}
	return s;
}
