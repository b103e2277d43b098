/*
 * System calls without libc: for code that also runs inside the injected
 * library, where `syscall` itself is intercepted and errno belongs to the host.
 * Returns the value or -errno.
 */
#ifndef PORTTRACE_SYSRAW_H
#define PORTTRACE_SYSRAW_H

#include <sys/syscall.h>

#if defined(__x86_64__) && !defined(__ILP32__)
static inline long pt_raw6(long nr, long a, long b, long c, long d, long e, long f)
{
	long ret;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	__asm__ volatile("syscall" : "=a"(ret) : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}
#elif defined(__aarch64__)
static inline long pt_raw6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
	return x0;
}
#else
#error "no raw system calls for this machine yet"
#endif

#define pt_raw5(nr, a, b, c, d, e) pt_raw6(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)
#define pt_raw4(nr, a, b, c, d) pt_raw6(nr, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define pt_raw3(nr, a, b, c) pt_raw6(nr, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define pt_raw2(nr, a, b) pt_raw6(nr, (long)(a), (long)(b), 0, 0, 0, 0)
#define pt_raw1(nr, a) pt_raw6(nr, (long)(a), 0, 0, 0, 0, 0)
#define pt_raw0(nr) pt_raw6(nr, 0, 0, 0, 0, 0, 0)

#endif
