/*
 * The event file by calls and not through its map, for what the library's guests do once in their lives. Raw calls: they run
 * inside the injected library too. macOS takes the map for everything: what a fault costs there was not measured.
 */
#ifndef PORTTRACE_EVENT_IO_H
#define PORTTRACE_EVENT_IO_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#ifdef __linux__
#define PT_STARTS_BY_CALLS 1
#include <fcntl.h>

#include "sysraw.h"

static inline uint64_t pt_file_size(int fd)
{
	long end = pt_raw3(SYS_lseek, fd, 0, 2 /* SEEK_END, and not fstat: to be asked for its times makes a file write them anew */);
	return end < 0 ? 0 : (uint64_t)end;
}

static inline ssize_t pt_file_read(int fd, void *to, size_t size, uint64_t at)
{
	return fd < 0 ? -1 : pt_raw4(SYS_pread64, fd, to, size, at);
}

/*
 * Where the `size` bytes of all parts lie that are now the last of the file; 0: nothing whole was written. Not where the
 * program has a limit for the size of files, which would end it.
 */
static inline uint64_t pt_file_append(int fd, const struct iovec *parts, int count, size_t size)
{
	uint64_t limit[2];
	if (fd < 0 || pt_raw4(SYS_prlimit64, 0, 1 /* RLIMIT_FSIZE */, 0, limit) || limit[0] != UINT64_MAX)
		return 0;
	if (pt_raw3(SYS_writev, fd, parts, count) != (long)size)
		return 0;
	long end = pt_raw3(SYS_lseek, fd, 0, 1 /* SEEK_CUR: where just this ended, whoever else appends */);
	return end < (long)size ? 0 : (uint64_t)end - size;
}

/* Of what was opened for appending it makes a file that is written where one says: append to it first. */
static inline bool pt_file_write(int fd, const void *from, size_t size, uint64_t at)
{
	return fd >= 0 && !pt_raw3(SYS_fcntl, fd, F_SETFL, 0) && pt_raw4(SYS_pwrite64, fd, from, size, at) == (long)size;
}
#else
#define PT_STARTS_BY_CALLS 0

static inline uint64_t pt_file_size(int fd)
{
	(void)fd;
	return 0;
}

static inline ssize_t pt_file_read(int fd, void *to, size_t size, uint64_t at)
{
	(void)fd, (void)to, (void)size, (void)at;
	return -1;
}

static inline uint64_t pt_file_append(int fd, const struct iovec *parts, int count, size_t size)
{
	(void)fd, (void)parts, (void)count, (void)size;
	return 0;
}

static inline bool pt_file_write(int fd, const void *from, size_t size, uint64_t at)
{
	(void)fd, (void)from, (void)size, (void)at;
	return false;
}
#endif
#endif
