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
	PT_ENTRY_SCRIPT,    /* "#!": its interpreter is the program that counts */
	PT_ENTRY_STATIC,    /* no loader (static and static-pie) */
	PT_ENTRY_FOREIGN,   /* another ABI (32 bit), or a loader of another libc: supervised, and without LD_PRELOAD */
	PT_ENTRY_RAW,       /* dynamic, but with system call instructions of its own: supervised as well */
	PT_ENTRY_OWN_CALLS, /* the same of a program of Go's, whose runtime makes them on purpose, whoever the program belongs to */
	PT_ENTRY_NONE,      /* not a program that the kernel would start, or not readable */
};

#define PT_SHEBANG 256  /* so much of a script the kernel looks at (BINPRM_BUF_SIZE of <linux/binfmts.h>) */
#define PT_WORDS (PT_SHEBANG + 2)
/*
 * The first `n` bytes of a file that begins with "#!". false: the kernel takes it for no script. `interpreter` is what it
 * starts; `words`: that and the argument, if there is one, each with its NUL, and an empty one. They are empty where the
 * line has no end in sight, or a NUL: the kernel makes something of it, which is not repeated here.
 */
bool pt_script_line(const char *head, size_t n, char interpreter[PT_SHEBANG], char words[PT_WORDS]);

/*
 * `scan`: also look for system call instructions in the code. Wanted for programs that a build can have made itself:
 * ordinary programs leave system calls to libc. A chance hit costs time, never correctness.
 * `musl` says whether its C library is musl, whose programs take a library of their own.
 * `interpreter` and `words`: of a script, see above; both may be NULL.
 */
enum pt_entry pt_elf_entry(const char *path, bool scan, bool *musl, char *interpreter, char *words);
enum pt_entry pt_elf_entry_fd(int fd, bool scan, bool *musl, char *interpreter, char *words);

/* Notes of a program (PT_NOTE): has Go's linker left its own there? Where C is linked in, its programs are dynamic ones. */
bool pt_elf_go_note(const unsigned char *notes, size_t size);

/* The same for a shared object that is about to be loaded: does it make system calls of its own? */
bool pt_elf_raw_calls(int fd);

#endif
