/*
 * The supervisor: answers the system calls of processes that the injected
 * library cannot enter (static programs, foreign ABIs), by seccomp user
 * notification and with the same policy code.
 *
 * It is a process of its own beside port: a build that truncates the shared
 * event file, or a bug here, costs a report and not port; and port's switching
 * of its effective uid does not reach it. Each supervised tree has threads of its own, one or as many as find work,
 * which work with the ids of that tree and without root's capabilities, so that they never open
 * for a build what the build could not open itself.
 */
#ifndef PORTTRACE_SUPERVISOR_H
#define PORTTRACE_SUPERVISOR_H

#include <linux/seccomp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "events.h"
#include "path.h"
#include "policy.h"
#include "supervisor_calls.h"

struct pt_sup_call {
	const char *name;
	int native, compat;
	uint8_t shape, access;
	int8_t dir, path, flags;
	uint16_t op;                   /* row number in the table of intercepted calls */
};

struct pt_sup {
	const struct pt_image *image;
	uint32_t flags;
	bool alone;                    /* no injected library in the session: every program is announced here */
	struct pt_events *events;
	const char *dir;               /* DIR/N */
	size_t dir_len;
	uid_t owner;                   /* the build user */
	unsigned workers;              /* of a tree, that are worth waking */
	bool steady;                   /* no signal of a program comes between its question and the answer (Linux 5.19) */
	atomic_ulong calls, refused, trees;
};

#define PT_TARGET_GROUPS 255
#define PT_STARTS 64u          /* programs of a tree that start at the same time */
#define PT_NO_LINKS 4096u

/*
 * By what a process shows which program it runs. Where addresses are not put at random two programs may lie alike; the
 * random bytes differ then too, but lie in memory that the program itself can write.
 */
struct pt_program {
	uint64_t layout, random;       /* 0: could not be read */
};

/* A program that was let start, and is to be looked at when it asks something: supervisor_exec.c. */
struct pt_start {
	pid_t pid, tid;
	uint64_t when, asked;          /* in ticks of the clock; a hash of the path */
	struct pt_program before;
};

/* What is known of a supervised tree, to all of its workers. */
struct pt_tree {
	struct pt_sup *sup;
	int listener;
	uint64_t since;                /* when it came under us, in ticks of the clock since the machine started */
	bool looks;                    /* with a right that the program has not: to look into it (supervisor_rights.c) */
	atomic_bool changes;           /* some program of the tree has become somebody else, or can have */
	atomic_uint starting;          /* how many of `starts` are taken */
	_Atomic uint64_t no_links[PT_NO_LINKS]; /* hashes of paths that are known to be no links, and to stay so */
	pthread_mutex_t lock;          /* of all that follows up to `turn` */
	struct pt_start starts[PT_STARTS];
	pid_t carriers[64];            /* of the injected library */
	struct { pid_t pid; uint32_t image; } images[64];
	unsigned next_image;
	struct {                       /* whose it is to receive: supervisor_turns.c */
		pthread_mutex_t lock;
		pthread_cond_t free;
		bool taken, over;
		unsigned workers, useful, waiting, busy, alone, crowd;
	} turn;
};

/* A worker's own memory; the texts are PT_PATH_CAP bytes each. */
struct pt_task {
	struct pt_sup *sup;
	struct pt_tree *tree;
	int listener;
	struct seccomp_notif *req;
	struct seccomp_notif_resp *resp;
	const struct pt_sup_call *call;
	bool compat;
	pid_t pid;
	uint64_t when;                 /* the question came: nanoseconds of the monotonic clock */
	char *asked, *full, *scratch, *dents, *physical;
	struct pt_resolved at;
	struct pt_verdict verdict;     /* the one that decided */
	uint8_t access;                /* what the call is judged as; open flags may change the row's */
	uint8_t outcome;               /* enum pt_outcome: what the judgement came to */
	bool last_link;                /* the last component is meant as it stands, link or not */
	bool loose;                    /* something on the way of a path can be exchanged by the session; set, never reset, by the walk */
	bool traced;                   /* by another program; known where one is to be started */
	bool answered;                 /* the reply went out already, or will: a descriptor is handed over */
	int live;                      /* connection to the session's socket, plus 1; 0: none */
};

enum pt_judge_flag {
	PT_J_MAY_CREATE = 1u << 0,     /* open with O_CREAT */
	PT_J_EXCL = 1u << 1,
	PT_J_NO_WRITE = 1u << 2,       /* O_RDONLY|O_CREAT: changes nothing that exists */
	PT_J_ALSO_READ = 1u << 3,      /* O_RDWR */
	PT_J_PROBE_WRITE = 1u << 4,    /* access(W_OK) */
};

#define PT_DENTS_CAP 65536

/* --- supervisor_target.c: the process that asks --- */
/* A NUL-terminated text of at most `cap` bytes from the target: its length, -EFAULT or -ENAMETOOLONG. */
ssize_t pt_target_text(pid_t, uint64_t address, char *out, size_t cap);
bool pt_target_read(pid_t, uint64_t address, void *out, size_t size);
bool pt_target_write(pid_t, uint64_t address, const void *from, size_t size);
/* The path of its directory or file: fd, AT_FDCWD, or PT_TARGET_EXE. Length or -errno; text that starts with no '/' is no path. */
#define PT_TARGET_EXE (-200)
ssize_t pt_target_path(pid_t, int fd, char *out, size_t cap);
bool pt_target_ids(pid_t thread, pid_t *process, pid_t *parent); /* false: `thread` itself and 0 */
bool pt_target_traced(pid_t thread, pid_t *process, bool *traced); /* its process, and whether somebody traces it; false: it is gone */
unsigned pt_target_umask(pid_t);
bool pt_target_signalled(pid_t thread);  /* Has it a signal to handle? */
/* The ids that count for files, and the capabilities. Compared as a whole: no byte is left unset. */
struct pt_target_rights {
	uint64_t caps;
	uid_t uid;
	gid_t gid;
	int count;
	gid_t groups[PT_TARGET_GROUPS];
};
bool pt_target_rights(pid_t, struct pt_target_rights *);
/* The program that a process runs, and the path by which it was executed: its length or -errno. */
int pt_target_program(pid_t, struct pt_program *, char *path, size_t cap);
/*
 * The path of a file that lies in its memory, as pt_target_path(), or 0: there is no more. `*at` goes through the text of
 * /proc/PID/maps; several parts of a file count once where nothing else lies between them.
 */
struct pt_mapped_file { unsigned major, minor; uint64_t inode; };
ssize_t pt_target_mapped(pid_t, const char **at, struct pt_mapped_file *, char *out, size_t cap);
/* Is the file DIR/NAME mapped there? */
bool pt_target_maps(pid_t, const char *dir, const char *name);
/* Is it under a seccomp filter? */
bool pt_target_filtered(pid_t pid);
/* Was it started by `from`, or by what that started, not before `since`, and does it run under a filter? */
bool pt_target_descends(pid_t pid, pid_t from, uint64_t since);
uint64_t pt_ticks_now(void);
int pt_target_fd(pid_t, int fd);       /* a duplicate that shares its offset, or -errno */
int pt_target_lstat(const char *path, struct stat *);  /* lstat(2) of a path that may be longer than the kernel takes */
extern const struct pt_fs pt_target_fs; /* user: struct pt_task * */

/* --- supervisor_judge.c --- */
/* Fill t->at for the path at `address` (0: none) relative to `fd`. 0, or an errno for the program; -1: nothing to judge, the kernel says what is wrong. */
int pt_task_resolve(struct pt_task *, int fd, uint64_t address, unsigned flags);
int pt_task_resolve_text(struct pt_task *, int fd, const char *text, size_t len, unsigned flags);
int pt_task_judge(struct pt_task *, unsigned judge_flags);     /* 0 or errno; reports */
/* May it change a file that it has open (a descriptor of ours for it)? 0 or errno; reports. */
int pt_task_judge_open(struct pt_task *, int copy);
struct pt_verdict pt_task_decide(struct pt_task *, enum pt_map); /* of t->at */
/* What may be changed, as if it were not there: it would get a name by which it can be read. ENOENT, or 0 in an audit; reports. */
int pt_task_hide(struct pt_task *, struct pt_verdict read, bool there);
void pt_task_report(struct pt_task *, uint8_t kind, uint8_t outcome, int error);
uint64_t pt_nanoseconds(void);    /* of the monotonic clock */
void pt_task_announce(struct pt_task *, const char *exe, size_t len);

/* The name by which the program knows a place that a redirect leads to, in place; its length. */
size_t pt_task_own_name(struct pt_task *, char *path, size_t len);

/* Where a rule wants a live answer: the session's into the verdict. */
void pt_task_ask_live(struct pt_task *, enum pt_map, const char *path, size_t len, struct pt_verdict *);

/* --- supervisor_rights.c --- */
/* The calling thread alone gets these ids, and of root's capabilities keeps the one to look into processes. */
bool pt_rights_adopt(uid_t, gid_t, const gid_t *groups, int count);
bool pt_rights_are_ours(pid_t);        /* Has the process all capabilities that we have? */
/* In a build of root's: those of the program that asks. false: they cannot be had. */
bool pt_rights_follow(struct pt_task *);

/* --- supervisor_turns.c --- */
void pt_turn_begin(struct pt_tree *);  /* before the first worker */
bool pt_turn_take(struct pt_tree *);   /* waits until it is the worker's to receive; false: the tree is over */
void pt_turn_pass(struct pt_tree *);   /* received: what comes next may be another worker's */
void pt_turn_done(struct pt_tree *);   /* the answer is known */
void pt_turn_over(struct pt_tree *);   /* nobody is left who could ask */
bool pt_turn_leave(struct pt_tree *);  /* true: the last worker has gone */
void pt_turn_long(struct pt_tree *);   /* what comes now may take its time */
void pt_turn_moment(struct pt_tree *); /* what comes now takes as long as a program does to start */
bool pt_tree_hire(struct pt_tree *);   /* supervisor.c: one more worker */

/* --- supervisor_places.c --- */
/* Is it in /proc, of a process outside of the session, and not for everybody to see? */
bool pt_is_others_place(const struct pt_task *, const char *path);

/* --- supervisor_join.c --- */
uid_t pt_session_owner(const char *dir);
bool pt_in_session(pid_t);             /* a descendant of the process that started us */
bool pt_may_join(uid_t owner, uid_t uid, pid_t pid);

/* --- supervisor_exec.c --- */
void pt_task_check_start(struct pt_task *);
/* The process has come to the new program that the task is about, and is stopped before that does anything. */
void pt_task_check_started(struct pt_task *, pid_t process, uint64_t asked);

/* --- supervisor_answer.c --- */
#define PT_TICK SIGUSR2                /* ends waits of ours now and then */
void pt_task_answer(struct pt_task *);
void pt_sup_calls(void);               /* once, before the first thread */
const struct pt_sup_call *pt_sup_call(int nr, bool compat);

#endif
