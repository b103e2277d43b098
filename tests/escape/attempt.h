/*
 * The attempts' common part. An attempt gets BASE in $BASE: $BASE/hidden is hidden from it, $BASE/outside is visible
 * but not writable, $BASE/work is its own. `sys` is the system call itself: as libc's function, or with -DRAW as an
 * instruction of the program's own.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

extern char base[512];

/* "%s" stands for BASE in all of these; the answer lives until the eighth call after. */
const char *in(const char *name);
/* Goes to a directory in work whose own path is longer than the kernel tells; from there, the name of what lies in BASE. */
const char *deep(const char *name);
/* Shows what was read: the runner looks for the secret in it. */
int show_fd(int fd);
int show(const char *text);

/* Makes a program of these bytes; one whose loader is this, named at `place` in it. */
void put_program(const char *at, const void *bytes, size_t n);
void put_with_loader(const char *at, const char *loader, uint64_t place);

struct attempt {
	const char *name;
	int (*run)(const char *target); /* 0 or errno: what the program saw */
};
extern const struct attempt read_attempts[], loader_attempts[], kernel_read_attempts[], exist_attempts[], kernel_exist_attempts[],
	write_attempts[], kernel_write_attempts[], socket_read_attempts[], socket_exist_attempts[],
	race_read_attempts[], race_exist_attempts[], door_read_attempts[], door_exist_attempts[], door_write_attempts[],
	others_read_attempts[], start_read_attempts[], name_read_attempts[];

#ifdef RAW
#if defined(__x86_64__)
static inline long sys_(long n, long a, long b, long c, long d, long e, long f)
{
	long r;
	register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
	__asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
	if (r < 0 && r > -4096) {
		errno = (int)-r;
		return -1;
	}
	return r;
}
#else
static inline long sys_(long n, long a, long b, long c, long d, long e, long f)
{
	long r;
	(void)f;
	__asm__ volatile("int $0x80" : "=a"(r) : "0"(n), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e) : "memory");
	if (r < 0 && r > -4096) {
		errno = (int)-r;
		return -1;
	}
	return r;
}
#endif
#define SYS_PICK(n, a, b, c, d, e, f, ...) sys_(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define sys(...) SYS_PICK(__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0)
#else
#define sys(...) syscall(__VA_ARGS__)
#endif
