/* What the system tells of a process: Linux in /proc/PID/stat (proc(5)), and the text of the other files there; macOS by calls. */
#ifndef PORTTRACE_PROCSTAT_H
#define PORTTRACE_PROCSTAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct pt_process {
	int32_t pid, ppid, group, session;
	uint32_t terminal; /* device number; 0: none */
	int32_t threads;
	uint64_t started;  /* clock ticks after boot; macOS: microseconds of the clock on the wall */
	uint64_t memory;   /* bytes of address space; 0: it is the kernel's, or has ended but for being waited for */
	uint64_t env_end;  /* where its environment ends; 0: amid an exec, or not for us to know */
	char state;
	char name[64];     /* of its program, cut short by the kernel */
};

/* The text of /proc/PID/stat. false: it is none. */
bool pt_process_parse(const char *text, struct pt_process *out);
/* false: there is no such process. */
bool pt_process_look(int32_t pid, struct pt_process *out);
/* Its real user; -1: there is no such process. */
int64_t pt_process_user(int32_t pid);
/* The ids of all processes, `room` at most. Their number. */
size_t pt_process_all(int32_t *pids, size_t room);
/* The path of its program, without a NUL where there is no room for it. The length, or -errno. */
ssize_t pt_process_exe(int32_t pid, char *path, size_t room);
/*
 * macOS: at most `room` bytes of the environment that it was started with. Their number, or -errno. And where that begins in
 * what KERN_PROCARGS2 gives: the number of words, the path of the program, NULs, the words, the environment.
 */
ssize_t pt_process_environment(int32_t pid, char *text, size_t room);
size_t pt_words_environment(const char *block, size_t n);
/* At most `room` - 1 bytes of a file below /proc, and a NUL. Their number, or -errno. */
ssize_t pt_proc_text(const char *path, char *text, size_t room);
/* The same of /proc/PID/NAME. */
ssize_t pt_process_file(int32_t pid, const char *name, char *text, size_t room);
/* Linux: the limit that holds a tag (tag_linux.h); UINT64_MAX: it has none. Also a process without memory has limits, until it has been waited for. */
uint64_t pt_process_tag(int32_t pid);

#endif
