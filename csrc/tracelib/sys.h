/*
 * What the platform-neutral half asks of the kernel. Nothing here disturbs
 * errno, allocates, is a cancellation point or meets a wrapper of the library's
 * own. Results are the kernel's: negative errno on failure.
 */
#ifndef PORTTRACE_SYS_H
#define PORTTRACE_SYS_H

#include <stddef.h>
#include <sys/types.h>
#include <sys/un.h>

#ifdef __APPLE__
#include "sys_darwin.h"
#else
#include "sys_linux.h"
#endif

/* One question to the session's socket (csrc/ask.h): length of the answer, or -errno. No descriptor is kept. */
ssize_t sys_ask(const struct sockaddr_un *to, const void *question, size_t size, void *answer, size_t room,
		int timeout_ms);

#endif
