/*
 * The C library's functions for bytes and strings, for this library alone (they are hidden). glibc's are chosen by
 * processor when a program starts: each would cost every process a lookup, a call, and the pages on which it lies.
 * Ours are for paths: short, and mostly in the cache already.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define HERE __attribute__((visibility("hidden"), used))

typedef uint64_t __attribute__((may_alias, aligned(1))) word_t;  /* wherever it lies */
typedef char __attribute__((vector_size(16), may_alias, aligned(1))) block_t;
#define LOW 0x0101010101010101ull
#define HIGH 0x8080808080808080ull
#define PAGE_ROOM(p) (4096 - ((uintptr_t)(p) & 4095))           /* bytes that can be read without a fault of their own */

static inline word_t word(const void *p)
{
	return *(const word_t *)p;
}

static inline void set_word(void *p, word_t v)
{
	*(word_t *)p = v;
}

/* Up to sixteen bytes, by two moves that may overlap. */
static inline void copy_short(char *to, const char *from, size_t n)
{
	if (n >= 8) {
		word_t a = word(from), b = word(from + n - 8);
		set_word(to, a);
		set_word(to + n - 8, b);
		return;
	}
	if (n >= 4) {
		typedef uint32_t __attribute__((may_alias, aligned(1))) half_t;
		half_t a = *(const half_t *)from, b = *(const half_t *)(from + n - 4);
		*(half_t *)to = a;
		*(half_t *)(to + n - 4) = b;
		return;
	}
	if (n) {
		char a = from[0], b = from[n / 2], c = from[n - 1];
		to[0] = a;
		to[n / 2] = b;
		to[n - 1] = c;
	}
}

HERE void *memmove(void *to, const void *from, size_t n)
{
	char *t = to;
	const char *f = from;
	if (n <= 16) {
		copy_short(t, f, n);
	} else if ((uintptr_t)t - (uintptr_t)f >= n) {       /* forwards: the target does not begin inside the source */
		block_t last = *(const block_t *)(f + n - 16);
		for (size_t i = 0; i + 16 < n; i += 16)
			*(block_t *)(t + i) = *(const block_t *)(f + i);
		*(block_t *)(t + n - 16) = last;
	} else {
		block_t first = *(const block_t *)f;
		for (; n > 16; n -= 16)
			*(block_t *)(t + n - 16) = *(const block_t *)(f + n - 16);
		*(block_t *)t = first;
	}
	return to;
}

HERE void *memcpy(void *restrict to, const void *restrict from, size_t n)
{
	return memmove(to, from, n);
}

HERE void *memset(void *to, int c, size_t n)
{
	char *t = to;
	word_t v = (unsigned char)c * LOW;
	if (n < 8) {
		while (n)
			t[--n] = (char)c;
		return to;
	}
	for (size_t i = 0; i + 8 < n; i += 8)
		set_word(t + i, v);
	set_word(t + n - 8, v);
	return to;
}

HERE int memcmp(const void *a, const void *b, size_t n)
{
	const unsigned char *x = a, *y = b;
	for (; n >= 16; n -= 16, x += 16, y += 16)
		if ((word(x) ^ word(y)) | (word(x + 8) ^ word(y + 8)))
			break;
	for (; n >= 8; n -= 8, x += 8, y += 8)
		if (word(x) != word(y))
			break;
	for (; n; n--, x++, y++)
		if (*x != *y)
			return *x - *y;
	return 0;
}

HERE void *(memchr)(const void *p, int c, size_t n)
{
	for (const unsigned char *s = p; n; n--, s++)
		if (*s == (unsigned char)c)
			return (void *)(uintptr_t)s;
	return NULL;
}

HERE void *(memrchr)(const void *p, int c, size_t n)
{
	const unsigned char *s = p;
	while (n)
		if (s[--n] == (unsigned char)c)
			return (void *)(uintptr_t)(s + n);
	return NULL;
}

/* Eight bytes at a time, none of them on a page that the string may not reach. */
HERE __attribute__((no_sanitize("address"))) size_t strnlen(const char *s, size_t max)
{
	size_t n = 0;
	while (max - n >= 8) {
		if (PAGE_ROOM(s + n) < 8) {
			for (size_t end = n + 8; n < end; n++)
				if (!s[n])
					return n;
			continue;
		}
		uint64_t v = word(s + n), zero = (v - LOW) & ~v & HIGH;
		if (zero) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
			return n + (size_t)__builtin_ctzll(zero) / 8;
#else
			break;
#endif
		}
		n += 8;
	}
	for (; n < max && s[n]; n++)
		;
	return n;
}

HERE size_t strlen(const char *s)
{
	return strnlen(s, SIZE_MAX);
}

HERE char *(strchr)(const char *s, int c)
{
	for (;; s++) {
		if (*s == (char)c)
			return (char *)(uintptr_t)s;
		if (!*s)
			return NULL;
	}
}

HERE char *(strrchr)(const char *s, int c)
{
	const char *last = NULL;
	for (;; s++) {
		if (*s == (char)c)
			last = s;
		if (!*s)
			return (char *)(uintptr_t)last;
	}
}

HERE int strncmp(const char *a, const char *b, size_t n)
{
	for (; n; n--, a++, b++)
		if (*a != *b || !*a)
			return (unsigned char)*a - (unsigned char)*b;
	return 0;
}

HERE int strcmp(const char *a, const char *b)
{
	return strncmp(a, b, SIZE_MAX);
}

HERE size_t strcspn(const char *s, const char *reject)
{
	size_t n = 0;
	while (s[n] && !strchr(reject, s[n]))
		n++;
	return n;
}

HERE char *(strstr)(const char *s, const char *what)
{
	for (size_t n = strlen(what);; s++) {
		if (strncmp(s, what, n) == 0)
			return (char *)(uintptr_t)s;
		if (!*s)
			return NULL;
	}
}
