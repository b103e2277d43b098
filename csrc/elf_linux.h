/*
 * Can the injected library enter a program? Looked up when it is about to be
 * executed. No malloc, no libc state: the launcher and the injected library use it.
 */
#ifndef PORTTRACE_ELF_LINUX_H
#define PORTTRACE_ELF_LINUX_H

#include <stdbool.h>
#include <stddef.h>

enum pt_entry {
	PT_ENTRY_TRACELIB,  /* dynamic, of this machine, with a loader that takes LD_PRELOAD */
	PT_ENTRY_SCRIPT,    /* "#!": `interpreter` holds the program that counts */
	PT_ENTRY_STATIC,    /* no loader (static and static-pie) */
	PT_ENTRY_FOREIGN,   /* another ABI (32 bit), or a loader of another libc: supervised, and without LD_PRELOAD */
	PT_ENTRY_RAW,       /* dynamic, but with system call instructions of its own: supervised as well */
	PT_ENTRY_NONE,      /* not a program that the kernel would start, or not readable */
};

/*
 * `scan`: also look for system call instructions in the code. Wanted for programs that a build can have made itself:
 * ordinary programs leave system calls to libc. A chance hit costs time, never correctness.
 * `musl` says whether its C library is musl, whose programs take a library of their own.
 * `interpreter` gets a script's interpreter (NUL-terminated; PT_ENTRY_NONE where it does not fit).
 */
enum pt_entry pt_elf_entry(const char *path, bool scan, bool *musl, char *interpreter, size_t cap);
enum pt_entry pt_elf_entry_fd(int fd, bool scan, bool *musl, char *interpreter, size_t cap);

/* The same for a shared object that is about to be loaded: does it make system calls of its own? */
bool pt_elf_raw_calls(int fd);

#endif
