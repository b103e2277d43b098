/* What the launcher tells the report of a program that nobody will follow. */
#ifndef PORTTRACE_LAUNCH_WORD_H
#define PORTTRACE_LAUNCH_WORD_H

#include <sys/stat.h>

#include "elf_linux.h"

/* `path`: the program, `asked`: the command as it was given. Nothing where the library gets in by itself. */
void pt_word_of_exec(const char *session, const char *path, const char *asked, enum pt_entry entry);
/* The exec came back. */
void pt_word_of_failure(int error);

#endif
