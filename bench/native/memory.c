/*
 * Preloaded behind the library that is looked at: when a program ends it appends to the file MEMORY_OUT how much of that
 * library's memory is the process's own, in KiB, and the program's name. Its own is what is no page of a file, in the
 * library's data and in the zeroed room behind them: its code and the session's files are there once for all.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PRESENT (1ull << 63 | 1ull << 62)      /* or swapped out */
#define OF_A_FILE (1ull << 61)

struct range {
	const char *library;
	uintptr_t from, to;
};

static int find(struct dl_phdr_info *info, size_t size, void *data)
{
	struct range *r = data;
	(void)size;
	if (!info->dlpi_name || strcmp(info->dlpi_name, r->library) != 0)
		return 0;
	r->from = UINTPTR_MAX;
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		uintptr_t at = info->dlpi_addr + p->p_vaddr;
		if (p->p_type != PT_LOAD)
			continue;
		r->from = at < r->from ? at : r->from;
		r->to = at + p->p_memsz > r->to ? at + p->p_memsz : r->to;
	}
	return 1;
}

static void tell(void)
{
	static bool told;
	const char *out = getenv("MEMORY_OUT");
	struct range r = { .library = getenv("MEMORY_OF") };
	const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	char text[256];
	unsigned long pages = 0;
	if (told || !out || !r.library || !dl_iterate_phdr(find, &r))
		return;
	told = true;
	int map = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC), fd = open(out, O_WRONLY | O_APPEND | O_CLOEXEC);
	for (uintptr_t at = r.from / page; at * page < r.to; at++) {
		uint64_t entry = 0;
		if (pread(map, &entry, sizeof entry, (off_t)(at * sizeof entry)) == sizeof entry && (entry & PRESENT) && !(entry & OF_A_FILE))
			pages++;
	}
	int n = snprintf(text, sizeof text, "%lu %s\n", pages * page / 1024, program_invocation_short_name);
	if (fd >= 0)
		(void)!write(fd, text, (size_t)n);
	close(fd);
	close(map);
}

__attribute__((destructor)) static void at_exit(void)
{
	tell();
}

void _exit(int status)
{
	tell();
	for (;;)
		syscall(SYS_exit_group, status);
}
