/* What the cases of guest.c and manners.c share. */
#ifndef GUEST_H
#define GUEST_H

#include <errno.h>
#include <sys/types.h>

extern char seen[4096], hidden[4096], dir[4096];
extern int slow;                       /* valgrind */

int rounds(int n);
void fail(const char *what);
void left_out(const char *what);       /* says that the case leaves something out here, and why */
void look(void);                       /* what is hidden is, what is not is not */
void reap(pid_t pid);

#define CHECK(x) do { if (!(x)) fail(#x); } while (0)

void case_errno_kept(void);
void case_stack_use(void);
void case_descriptors_of_calls(void);
void case_cancel_pending(void);
void case_vfork_numbers(void);
void case_cancel_children(void);
void case_end_inside(void);

#endif
