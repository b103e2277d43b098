/* What a command starts in the end, and how that is held. */
#ifndef PORTTRACE_LAUNCH_PROGRAM_H
#define PORTTRACE_LAUNCH_PROGRAM_H

#include <stdbool.h>

#include "elf_linux.h"

#define LIBRARY "tracelib.so"
#define MUSL_LIBRARY "tracelib-musl.so" /* for programs whose C library is musl; not every session has it */
#define PATH_CAP 4096

struct pt_command {
	enum pt_entry entry;
	bool supervise;             /* the library cannot enter it, or what it will be is not settled: it belongs under a supervisor */
	const char *library;        /* what is to be injected, NULL: nothing */
	char path[PATH_CAP];        /* the program that counts, scripts followed to their interpreter; empty: none was found */
	/*
	 * Where the build can make the command's name mean another file before the kernel reads it, and nobody supervises that:
	 * what was looked at is started in its place. `file` NULL: the command as it was given.
	 */
	const char *file;
	char **words;               /* its arguments then */
	int error;                  /* errno with which the kernel would refuse the script */
};

/* `fence`: the list of places that the build can write, or NULL. */
void pt_command_of(struct pt_command *, const char *command, char **argv, const char *session, const char *fence);
/* DIR/NAME, never given back. */
const char *pt_beside(const char *dir, const char *name);

#endif
