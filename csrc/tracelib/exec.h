#ifndef PORTTRACE_EXEC_H
#define PORTTRACE_EXEC_H
#include "headers.h"

struct pt_exec {
	struct pt_slab *slab;          /* taken where something has to be kept until the exec; NULL: nothing yet */
	void *frame;                   /* of the call that replaces this program, NULL: a spawn */
	const char *path;              /* the program, or the script, as the session is told of it */
	const char *file;              /* what the kernel is to be given: that, or what is to be started in its place */
	int dirfd;
	char *const *argv, *const *envp;
	char *words;                   /* an interpreter is started in its script's place: what comes before the script's name; else NULL */
	size_t room;                   /* its slab is to have, for the arguments then */
	void *mapped;                  /* arguments that do not fit even there */
	size_t mapped_size;
	bool announced;
	uint32_t rule;                 /* which has decided and is told with the start, else PT_NO_RULE */
	uint64_t logged;
	bool foreign;                  /* its loader would choke on the library */
	bool other;                    /* it takes the session's library for the other C library */
	bool supervise;                /* the library cannot enter: the supervisor answers for it */
	pid_t pid;
	uint64_t limit[2];             /* of descriptors, as it was before it was lifted for a look; 0: it was not */
};
/* Judges a program and its interpreters, makes the environment, tells the session. 0 or errno; pt_exec_failed must follow. */
int pt_exec_prepare(uint16_t op, struct pt_exec *, int dirfd, const char *path, char *const *argv, char *const *envp, int flags,
		    bool spawn);
void pt_exec_failed(uint16_t op, struct pt_exec *, int error);
/* To be called just before the program is started: what only we needed is given back. */
void pt_exec_ready(struct pt_exec *);
/* Its slab, taken now where it has none. NULL: no memory. */
struct pt_slab *pt_exec_slab(struct pt_exec *);

/* known.c: a program that needs no look, by its real path. */
struct pt_known {
	char real[256];
	size_t len;
	uint32_t rule;                 /* by which it may be read; not marked as used yet */
};
#ifdef __GLIBC__                /* the image knows programs of glibc's, which for the others is the other C library */
bool pt_exec_known(const char *path, struct pt_known *);
#else
static inline bool pt_exec_known(const char *path, struct pt_known *known)
{
	(void)path, (void)known;
	return false;
}
#endif

/* script.c: puts a script's words before those that are there. false: not known, or no room. */
bool pt_exec_through(struct pt_exec *, const char *words);
/* Makes x->argv of them, the script's name and the arguments. false: no memory. */
bool pt_exec_words(struct pt_exec *);
static inline size_t pt_exec_count(char *const *argv)
{
	size_t n = 0;
	while (argv && argv[n])
		n++;
	return n;
}
/* Room for any candidate. */
static inline size_t pt_exec_room(const char *path, const char *file)
{
	return strlen(path) + strlen(file) + 2;
}
/* The next candidate of a PATH walk for `file` into buf; *state starts as the PATH. false: no more. */
bool pt_exec_candidate(const char **state, const char *file, char *buf, size_t size);
/*
 * `asked`: the name by which the kernel starts just this file, NULL: it starts an interpreter, or something else is known of it.
 * `rule`: which has decided and is told so here, or PT_NO_RULE.
 */
void pt_exec_event(uint16_t op, pid_t pid, const char *path, size_t len, const char *asked, uint32_t rule, int error);

/* fdmeta.c: a process is made with these flags of clone(2). */
void pt_cloning(unsigned long flags);

#ifdef __APPLE__
/* slice_darwin.c: why a program's slice that begins here takes no library of ours: "restricted", "hardened", or NULL. */
const char *pt_slice_refuses(int fd, off_t start);
/*
 * sip.c: a program that the system protects, and that the loader would therefore not let us into, has a copy beside the
 * session. Path of the copy in `out`; false: there is none.
 */
bool pt_sip_protected(const char *path, const struct stat *);
bool pt_sip_copy(const char *path, size_t len, char *out, size_t size);
#endif

/* spawn.c */
int pt_spawn(uint16_t op, pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attr,
	     char *const argv[], char *const envp[]);
/* shell.c: whether the environment as it is brings the library into /bin/sh */
bool pt_shell_environment(void);
bool pt_shell_is_other(void);

/* supervise.c */
void pt_enter_session(void);    /* for good: where this process was not started by the launcher */
const char *pt_session_dir(void);      /* DIR/N, NULL: not known */
const char *pt_launcher(void);
bool pt_has_supervisor(void);
bool pt_wants_supervisor(const char *path, const char *real, size_t len);
const struct link_map *pt_loaded(void); /* real.c: the loader's list */
/* loader.c */
const char *pt_library_by_name(const char *name, const void *caller);
void pt_start_again(char *const *argv, char *const *envp);
bool pt_loader_led_astray(char *const *envp); /* by its environment: to what is not the system's own */
bool pt_watch_library(const char *name);
/* This process, all threads; where the session has no supervisor it goes on. false: it is not supervised, and cannot be. */
bool pt_supervise_all(void);
bool pt_is_supervised(void);
int pt_supervise_self(void);           /* 0 or errno: the program must then not be started */
#endif
