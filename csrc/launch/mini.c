/*
 * The few functions of the C library that the launcher needs. A static glibc
 * program spends 300 us on finding out about the processor before main; a
 * launcher that stands before every command cannot. Linked with -nostdlib.
 * Only what is used is here, and only as far as it is used.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "sysraw.h"

static int error_number;
char **environ;

int main(int, char **);
__attribute__((used, noreturn)) void mini_start(long *stack);

#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall mini_start\n");
#elif defined(__aarch64__)
__asm__(".globl _start\n_start:\n\tmov x29, #0\n\tmov x0, sp\n\tb mini_start\n");
#endif

void mini_start(long *stack)
{
	char **argv = (char **)(stack + 1);
	environ = argv + *stack + 1;
	_exit(main((int)*stack, argv));
}

int *__errno_location(void)
{
	return &error_number;
}

static long answer(long r)
{
	if (r < 0 && r > -4096) {
		errno = (int)-r;
		return -1;
	}
	return r;
}

void _exit(int status)
{
	for (;;)
		pt_raw1(SYS_exit_group, status);
}

ssize_t write(int fd, const void *from, size_t n) { return answer(pt_raw3(SYS_write, fd, from, n)); }
int chdir(const char *path) { return (int)answer(pt_raw1(SYS_chdir, path)); }
int access(const char *path, int mode) { return (int)answer(pt_raw3(SYS_faccessat, AT_FDCWD, path, mode)); }
int getresuid(uid_t *r, uid_t *e, uid_t *s) { return (int)answer(pt_raw3(SYS_getresuid, r, e, s)); }
int getresgid(gid_t *r, gid_t *e, gid_t *s) { return (int)answer(pt_raw3(SYS_getresgid, r, e, s)); }
int setresuid(uid_t r, uid_t e, uid_t s) { return (int)answer(pt_raw3(SYS_setresuid, r, e, s)); }
int setresgid(gid_t r, gid_t e, gid_t s) { return (int)answer(pt_raw3(SYS_setresgid, r, e, s)); }
int setgroups(size_t n, const gid_t *list) { return (int)answer(pt_raw2(SYS_setgroups, n, list)); }
int getgroups(int n, gid_t list[]) { return (int)answer(pt_raw2(SYS_getgroups, n, list)); }
pid_t getpid(void) { return (pid_t)pt_raw0(SYS_getpid); }
uid_t geteuid(void) { return (uid_t)pt_raw1(SYS_geteuid, 0); }

int prctl(int option, ...)
{
	long a[4];
	va_list args;
	va_start(args, option);
	for (int i = 0; i < 4; i++)
		a[i] = va_arg(args, int); /* the launcher passes numbers only */
	va_end(args);
	return (int)answer(pt_raw5(SYS_prctl, option, a[0], a[1], a[2], a[3]));
}

/* ---- memory and text ---- */

void *malloc(size_t n) /* never given back: the next thing is an exec */
{
	long at = pt_raw6(SYS_mmap, 0, (long)n, 3, 0x22, -1, 0); /* private, anonymous, read and write */
	return at < 0 && at > -4096 ? NULL : (void *)at;
}

__attribute__((optimize("no-tree-loop-distribute-patterns"))) void *memcpy(void *restrict to, const void *restrict from, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((char *)to)[i] = ((const char *)from)[i];
	return to;
}

__attribute__((optimize("no-tree-loop-distribute-patterns"))) void *memset(void *to, int c, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((char *)to)[i] = (char)c;
	return to;
}

void *mempcpy(void *restrict to, const void *restrict from, size_t n) { return (char *)memcpy(to, from, n) + n; }

int memcmp(const void *a, const void *b, size_t n)
{
	const unsigned char *p = a, *q = b;
	for (size_t i = 0; i < n; i++)
		if (p[i] != q[i])
			return p[i] - q[i];
	return 0;
}

__attribute__((optimize("no-tree-loop-distribute-patterns"))) size_t strlen(const char *s)
{
	size_t n = 0;
	while (s[n])
		n++;
	return n;
}

int strncmp(const char *a, const char *b, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (a[i] != b[i])
			return (unsigned char)a[i] - (unsigned char)b[i];
		if (!a[i])
			break;
	}
	return 0;
}

int strcmp(const char *a, const char *b) { return strncmp(a, b, SIZE_MAX); }

char *(strchr)(const char *s, int c)
{
	for (;; s++) {
		if (*s == (char)c)
			return (char *)(uintptr_t)s;
		if (!*s)
			return NULL;
	}
}

static size_t span(const char *s, const char *set, bool in)
{
	size_t n = 0;
	while (s[n] && (strchr(set, s[n]) != NULL) == in)
		n++;
	return n;
}

size_t strspn(const char *s, const char *set) { return span(s, set, true); }
size_t strcspn(const char *s, const char *set) { return span(s, set, false); }

char *(strpbrk)(const char *s, const char *set)
{
	s += strcspn(s, set);
	return *s ? (char *)(uintptr_t)s : NULL;
}

char *stpcpy(char *restrict to, const char *restrict from)
{
	size_t n = strlen(from);
	memcpy(to, from, n + 1);
	return to + n;
}

/* Since glibc 2.38 its header has this function, for who calls it and here, be __isoc23_strtoul. */
unsigned long strtoul(const char *restrict s, char **restrict end, int base)
{
	unsigned long value = 0;
	(void)base; /* decimal digits, as the options have them */
	for (; *s >= '0' && *s <= '9'; s++) {
		if (value > UINT32_MAX)
			errno = ERANGE;
		value = value * 10 + (unsigned long)(*s - '0');
	}
	*end = (char *)(uintptr_t)s;
	return value;
}

/* ---- printing: %s, %.*s, %d ---- */

int vsnprintf(char *restrict out, size_t cap, const char *restrict format, va_list args)
{
	size_t n = 0;
	char digits[12];
	for (; *format; format++) {
		const char *text = format;
		size_t len = 1;
		if (*format == '%') {
			int limit = -1;
			format++;
			if (*format == '.') {
				limit = va_arg(args, int);
				format += 2;
			}
			if (*format == 's') {
				text = va_arg(args, const char *);
				for (len = 0; text[len] && (limit < 0 || len < (size_t)limit); len++)
					;
			} else {
				int value = va_arg(args, int);
				unsigned left = value < 0 ? 0u - (unsigned)value : (unsigned)value;
				size_t at = sizeof digits;
				do
					digits[--at] = (char)('0' + left % 10);
				while (left /= 10);
				if (value < 0)
					digits[--at] = '-';
				text = digits + at;
				len = sizeof digits - at;
			}
		}
		for (size_t i = 0; i < len; i++, n++)
			if (n + 1 < cap)
				out[n] = text[i];
	}
	if (cap)
		out[n < cap ? n : cap - 1] = 0;
	return (int)n;
}

int snprintf(char *restrict out, size_t cap, const char *restrict format, ...)
{
	va_list args;
	va_start(args, format);
	int n = vsnprintf(out, cap, format, args);
	va_end(args);
	return n;
}

char *strerror(int number)
{
	static char other[32];
	switch (number) {
	case EPERM: return (char *)(uintptr_t)"Operation not permitted";
	case ENOENT: return (char *)(uintptr_t)"No such file or directory";
	case E2BIG: return (char *)(uintptr_t)"Argument list too long";
	case ENOEXEC: return (char *)(uintptr_t)"Exec format error";
	case ENOMEM: return (char *)(uintptr_t)"Cannot allocate memory";
	case EACCES: return (char *)(uintptr_t)"Permission denied";
	case EBUSY: return (char *)(uintptr_t)"Device or resource busy";
	case ENOTDIR: return (char *)(uintptr_t)"Not a directory";
	case EISDIR: return (char *)(uintptr_t)"Is a directory";
	case EINVAL: return (char *)(uintptr_t)"Invalid argument";
	case ETXTBSY: return (char *)(uintptr_t)"Text file busy";
	case ENAMETOOLONG: return (char *)(uintptr_t)"File name too long";
	case ENOSYS: return (char *)(uintptr_t)"Function not implemented";
	case ELOOP: return (char *)(uintptr_t)"Too many levels of symbolic links";
	case ECONNREFUSED: return (char *)(uintptr_t)"Connection refused";
	case EAGAIN: return (char *)(uintptr_t)"Resource temporarily unavailable";
	default: snprintf(other, sizeof other, "error %d", number); return other;
	}
}

/* ---- environment and exec ---- */

char *getenv(const char *name)
{
	size_t n = strlen(name);
	for (char **e = environ; *e; e++)
		if (!strncmp(*e, name, n) && (*e)[n] == '=')
			return *e + n + 1;
	return NULL;
}

int unsetenv(const char *name)
{
	size_t n = strlen(name);
	char **to = environ;
	for (char **e = environ; *e; e++)
		if (strncmp(*e, name, n) || (*e)[n] != '=')
			*to++ = *e;
	*to = NULL;
	return 0;
}

int setenv(const char *name, const char *value, int replace)
{
	size_t count = 0;
	(void)replace;
	unsetenv(name);
	while (environ[count])
		count++;
	char **list = malloc((count + 2) * sizeof *list), *entry = malloc(strlen(name) + strlen(value) + 2);
	if (!list || !entry)
		return -1;
	stpcpy(stpcpy(stpcpy(entry, name), "="), value);
	memcpy(list, environ, count * sizeof *list);
	list[count] = entry;
	list[count + 1] = NULL;
	environ = list;
	return 0;
}

int execv(const char *path, char *const argv[]) { return (int)answer(pt_raw3(SYS_execve, path, argv, environ)); }

/* What the kernel does not know is given to the shell, as execvp(3) does. */
static void try(const char *path, char *const argv[])
{
	execv(path, argv);
	if (errno != ENOEXEC)
		return;
	size_t count = 0;
	while (argv[count])
		count++;
	char **words = malloc((count + 2) * sizeof *words);
	if (!words)
		return;
	words[0] = (char *)(uintptr_t)"/bin/sh";
	words[1] = (char *)(uintptr_t)path;
	memcpy(words + 2, argv + 1, count * sizeof *words);
	execv(words[0], words);
}

int execvp(const char *file, char *const argv[])
{
	bool denied = false;
	const char *list = getenv("PATH");
	if (!*file) {
		errno = ENOENT;
		return -1;
	}
	if (strchr(file, '/')) {
		try(file, argv);
		return -1;
	}
	for (list = list ? list : "/bin:/usr/bin";; list++) {
		size_t len = strcspn(list, ":");
		char *path = malloc(len + strlen(file) + 2);
		if (!path)
			return -1;
		memcpy(path, list, len);
		stpcpy(path + len, len ? "/" : "");
		stpcpy(path + len + (len != 0), file);
		try(path, argv);
		if (errno == EACCES)
			denied = true;
		else if (errno != ENOENT && errno != ENOTDIR && errno != ENAMETOOLONG)
			return -1;
		list += len;
		if (!*list)
			break;
	}
	errno = denied ? EACCES : ENOENT;
	return -1;
}
