/*
 * What has to be undone where a thread ends inside a wrapper: it was cancelled, or called pthread_exit in a function that
 * the program had given to us. glibc's own macro would bind the library to the version in which it last changed: what
 * the macro calls is looked up.
 */
#include <pthread.h>

#include "headers.h"

#ifdef __GLIBC__
typedef void step_t(__pthread_unwind_buf_t *);
struct steps {
	step_t *enter, *leave, *go_on;
};
/* As the macro has it: only the first part of a jmp_buf is there. */
int pt_mark(void *buf, int mask) __asm__("__sigsetjmp") __attribute__((returns_twice));

static __attribute__((noinline)) void guarded(const struct steps *c_library, void (*work)(void *), void (*undo)(void *), void *what)
{
	__pthread_unwind_buf_t here;
	if (pt_mark(here.__cancel_jmp_buf, 0)) {
		undo(what);
		c_library->go_on(&here);
	}
	c_library->enter(&here);
	work(what);
	c_library->leave(&here);
}

void pt_ending(void (*work)(void *), void (*undo)(void *), void *what)
{
	struct steps steps = { PT_REAL(step_t, __pthread_register_cancel), PT_REAL(step_t, __pthread_unregister_cancel),
		PT_REAL(step_t, __pthread_unwind_next) };
	if (steps.enter && steps.leave && steps.go_on)
		guarded(&steps, work, undo, what);
	else                           /* a program without threads, where the C library has them apart */
		work(what);
}
#else
void pt_ending(void (*work)(void *), void (*undo)(void *), void *what)
{
	pthread_cleanup_push(undo, what);
	work(what);
	pthread_cleanup_pop(0);
}
#endif
