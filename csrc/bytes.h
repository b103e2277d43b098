/*
 * <string.h>, and what the compiler knows of its functions. The library is compiled as freestanding code, so that
 * nothing is made into a call that nobody wrote; a copy of known size should be a few moves all the same.
 */
#ifndef PORTTRACE_BYTES_H
#define PORTTRACE_BYTES_H

#include <string.h>

/* macOS' header has macros of its own, which look at bounds */
#undef memcpy
#undef memset
#undef memcmp
#define memcpy(to, from, size) __builtin_memcpy(to, from, size)
#define memset(to, byte, size) __builtin_memset(to, byte, size)
#define memcmp(a, b, size) __builtin_memcmp(a, b, size)

#endif
