/*
 * System calls without libc: the library must not disturb errno, allocate,
 * be a cancellation point or meet another wrapper of its own. Results are the
 * kernel's: negative errno on failure.
 */
#ifndef PORTTRACE_SYS_H
#define PORTTRACE_SYS_H

#include <fcntl.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>

#if defined(__x86_64__) && !defined(__ILP32__)
static inline long pt_sys6(long n, long a, long b, long c, long d, long e, long f)
{
	long r;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	__asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
	return r;
}
#elif defined(__aarch64__)
static inline long pt_sys6(long n, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = n;
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
#error "tracelib: system calls of this machine are not written yet"
#endif

#define PT_SYS0(n) pt_sys6(n, 0, 0, 0, 0, 0, 0)
#define PT_SYS1(n, a) pt_sys6(n, (long)(a), 0, 0, 0, 0, 0)
#define PT_SYS2(n, a, b) pt_sys6(n, (long)(a), (long)(b), 0, 0, 0, 0)
#define PT_SYS3(n, a, b, c) pt_sys6(n, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define PT_SYS4(n, a, b, c, d) pt_sys6(n, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define PT_SYS5(n, a, b, c, d, e) pt_sys6(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)
#define PT_SYS6(n, a, b, c, d, e, f) pt_sys6(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

static inline ssize_t sys_readlink(const char *path, char *buf, size_t size)
{
	return PT_SYS4(SYS_readlinkat, AT_FDCWD, path, buf, size);
}

/* struct stat of the C library is the kernel's on the 64-bit machines we know. */
static inline int sys_fstatat(int fd, const char *path, struct stat *st, int flags)
{
	return (int)PT_SYS4(SYS_newfstatat, fd, path, st, flags);
}

static inline int sys_lstat(const char *path, struct stat *st)
{
	return sys_fstatat(AT_FDCWD, path, st, AT_SYMLINK_NOFOLLOW);
}

static inline int sys_open(const char *path, int flags)
{
	return (int)PT_SYS4(SYS_openat, AT_FDCWD, path, flags, 0);
}

static inline void sys_close(int fd)
{
	PT_SYS1(SYS_close, fd);
}

static inline pid_t sys_getpid(void)
{
	return (pid_t)PT_SYS0(SYS_getpid);
}

static inline pid_t sys_getppid(void)
{
	return (pid_t)PT_SYS0(SYS_getppid);
}

#endif
