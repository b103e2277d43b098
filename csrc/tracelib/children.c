/*
 * Children that have something in common with their parent: descriptors, or its memory. What is remembered of a
 * process must not be believed of the other.
 */
#include <sched.h>
#include <stdarg.h>

#include "headers.h"

void pt_cloning(unsigned long flags)
{
	if ((flags & CLONE_FILES) && !(flags & CLONE_VM))
		pt_fds_shared();
	if ((flags & CLONE_VM) && !(flags & CLONE_THREAD))
		pt_lend();
}

int clone(int (*run)(void *), void *stack, int flags, void *argument, ...);
PT_EXPORT int clone(int (*run)(void *), void *stack, int flags, void *argument, ...)
{
	typedef int real_t(int (*)(void *), void *, int, void *, ...);
	va_list ap;
	va_start(ap, argument);
	void *parent = va_arg(ap, void *), *tls = va_arg(ap, void *), *child = va_arg(ap, void *);
	va_end(ap);
	pt_cloning((unsigned long)flags);
	return PT_REAL(real_t, clone)(run, stack, flags, argument, parent, tls, child);
}
PT_ALIASES_clone

/*
 * vfork returns twice, and a wrapper's frame would be gone the second time: so this one has none when the C
 * library's is jumped to.
 */
__attribute__((visibility("hidden"), used)) void *pt_vforking(void);
void *pt_vforking(void)
{
	typedef pid_t real_t(void);
	pt_lend();
	real_t *real = PT_REAL(real_t, vfork);
	return real ? (void *)real : (void *)fork;
}

#if defined(__x86_64__)
__asm__(".text\n"
	".globl vfork\n"
	".type vfork, @function\n"
	"vfork:\n"
	"	endbr64\n"
	"	sub $8, %rsp\n"
	"	call pt_vforking\n"
	"	add $8, %rsp\n"
	"	jmp *%rax\n"
	".size vfork, . - vfork");
#elif defined(__aarch64__)
__asm__(".text\n"
	".globl vfork\n"
	".type vfork, %function\n"
	"vfork:\n"
	"	hint #34\n"                      /* bti c */
	"	stp x29, x30, [sp, #-16]!\n"
	"	bl pt_vforking\n"
	"	mov x16, x0\n"
	"	ldp x29, x30, [sp], #16\n"
	"	br x16\n"
	".size vfork, . - vfork");
#else
#error "vfork has to be written for this processor"
#endif
PT_ALIASES_vfork
