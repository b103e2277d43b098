/* The objects of loader.c's attempts, one for each -D; all show the secret without the C library's open. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
static inline long call3(long n, long a, long b, long c)
{
	long r;
	__asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
	return r;
}

/* No C library is needed: the loader may call before it is ready. */
static inline void tell(const char *path)
{
	char text[64];
	long fd = call3(SYS_open, (long)path, O_RDONLY, 0);
	long n = fd < 0 ? 0 : call3(SYS_read, fd, (long)text, sizeof text);
	if (n > 0)
		call3(SYS_write, 1, (long)text, n);
}
#endif

#ifdef SECRET_LIBRARY /* lies in the hidden place: that it is loaded is the secret */
__attribute__((constructor)) static void start(void) { (void)!write(1, "secret contents\n", 16); }
unsigned la_version(unsigned v) { return v; }
int secret_number(void) { return 4; }
#endif

#ifdef EVIL /* -DEVIL='"/path/of/the/secret"' */
__attribute__((constructor)) static void start(void) { tell(EVIL); }
unsigned la_version(unsigned v) { tell(EVIL); return v; }
int secret_number(void) { return 4; }
int gconv_init(void *step) { (void)step; tell(EVIL); return 1; }
int gconv(void) { return 1; }
#endif

#ifdef QUIET /* the C library's own instruction: no suspicious byte in the file */
extern char **environ;
__attribute__((constructor)) static void start(void)
{
	const unsigned char *at = (const unsigned char *)(void *)strtoul;
	unsigned char first = (unsigned char)(0x0e + (environ != 0));
	for (; !(at[0] == first && at[1] == 5 && at[2] == 0xc3); at++)
		;
	char text[64];
	register long a __asm__("rax") = 2;
	__asm__ volatile("call *%1" : "+a"(a) : "r"(at), "D"(QUIET), "S"(0L), "d"(0L) : "rcx", "r11", "memory");
	ssize_t n = a < 0 ? 0 : read((int)a, text, sizeof text);
	if (n > 0)
		(void)!write(1, text, (size_t)n);
}
#endif

#ifdef IFUNC
static int number(void) { return 4; }
static int (*resolve(void))(void) { tell(IFUNC); return number; }
int secret_number(void) __attribute__((ifunc("resolve")));
#endif

#ifdef NEEDS
int secret_number(void);
int main(void) { return secret_number() - 4; }
#endif

#ifdef STACK /* -z execstack: the bytes are decoded where they may be run */
static const volatile unsigned char code[] = { 0xe2, 0x58, 0x5a, 0x5a, 0x5a, 0x6b, 0xac, 0x55, 0x5f, 0x99 };
int main(void)
{
	volatile unsigned char here[16];
	char text[64];
	for (unsigned i = 0; i < sizeof code; i++)
		here[i] = code[i] ^ 0x5a;
	int fd = ((int (*)(const char *))(unsigned long)here)(STACK);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text);
	return n > 0 ? (int)write(1, text, (size_t)n) - (int)n : 1;
}
#endif

#ifdef TEXT /* a section that is writable and executable from the start */
__attribute__((section(".both,\"awx\"#"))) unsigned char code[] = { 0xe2, 0x58, 0x5a, 0x5a, 0x5a, 0x6b, 0xac, 0x55, 0x5f, 0x99 };
int main(void)
{
	char text[64];
	for (unsigned i = 0; i < sizeof code; i++)
		code[i] ^= 0x5a;
	int fd = ((int (*)(const char *))code)(TEXT);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text);
	return n > 0 ? (int)write(1, text, (size_t)n) - (int)n : 1;
}
#endif

#ifdef LOADER /* static: what another program names as its loader */
void _start(void)
{
	tell(LOADER);
	call3(SYS_exit, 0, 0, 0);
}
#endif

#ifdef TELLER /* what the library cannot enter */
int main(void) { tell(TELLER); return 0; }
#endif

#ifdef SAYS_ALONE /* lies in the hidden place, and needs no file to say what it has to say */
void _start(void)
{
	call3(SYS_write, 1, (long)"secret contents\n", 16);
	call3(SYS_exit, 0, 0, 0);
}
#endif

#ifdef SAYS /* likewise, with a C library that needs none */
int main(void) { return write(1, "secret contents\n", 16) != 16; }
#endif
