/*
 * The injected library, inside. Rules that every line here obeys: no malloc of
 * the host, no locks, no thread-local data, no descriptor kept, small stack
 * frames, errno untouched unless a call fails, async-signal-safe.
 */
#ifndef PORTTRACE_TRACE_H
#define PORTTRACE_TRACE_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../bytes.h"
#include "../events.h"
#include "../path.h"
#include "../policy.h"
#include "sys.h"

#define PT_EXPORT __attribute__((visibility("default")))
#define PT_HOT __attribute__((hot))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* ---- state.c: what the process knows of its session ---- */

struct pt_own {                    /* a page that the kernel clears in a forked child */
	_Atomic pid_t pid;
};

struct pt_state {
	_Atomic int ready;             /* 0: not yet, 1: traced, 2: no session (a library without its policy) */
	const struct pt_image *image;
	struct pt_events *events;
	const _Atomic uint64_t *generation;  /* of the event file: looked at for each name of a listing */
	struct pt_own *own;
	pid_t first;                   /* the process for which the kernel has made this memory */
	char *slabs;
	struct pt_few *few;          /* see tables.c */
	char *deep, *far;              /* see deep.c, far.c */
	struct pt_dir *dirs, *fds;     /* caches, see dirs.c */
	uint64_t seed;
	uint32_t flags;                /* pt_image_flags */
	uint64_t chain;                /* its hash, see struct pt_event */
	uint32_t index;                /* this image's index in the event file */
	bool supervised;               /* since it started: what the supervisor hides from us it has told */
	bool plain;                    /* neither redirects nor audit: the quick way is open */
	bool log;                      /* every access is to be told */
	bool starts_by_calls;          /* a start or an exec is told on the open event file, see events.h */
	uint32_t path_len;
	char path[256];                /* of this library: what LD_PRELOAD must hold */
};

extern struct pt_state pt __attribute__((visibility("hidden")));
bool pt_start(void);                   /* maps the session; false: no session */
/* The event file, for one start or exec that is to be told, see events.h. Below 0: it has to be told through the map. */
int pt_open_events(void);
static inline bool pt_on(void)
{
	int ready = atomic_load_explicit(&pt.ready, memory_order_acquire);
	return likely(ready == 1) || (unlikely(ready == 0) && pt_start());
}
/* Is what a build may not do at all refused? */
static inline bool pt_refuses(void)
{
	return pt_on() && !(pt.flags & PT_IMG_AUDIT);
}
pid_t pt_pid(void);                    /* of the process; in a vfork child the parent's */
/* false in a vfork child: what it remembers, its parent would believe of itself. Also in a child that cannot be told from one. */
bool pt_own_memory(void);
void pt_lend(void);                    /* a child is about to start in this memory */

/* ---- real.c ---- */
void *pt_next(const char *name);       /* the definition behind ours (as RTLD_NEXT would find), NULL: none */
void *pt_lacking(const char *name);    /* syscalls.c: the same of what this C library lacks, NULL: of none */
void pt_used_libraries(void);          /* pt_used_library for each that the loader has opened */
void pt_used_library(const char *name);
const char *pt_own_path(void);         /* of this library as the loader knows it */
/*
 * A wrapper's own name, and the function behind it. On Linux a wrapper has the name of what it stands in front of; on
 * macOS the loader exchanges the two (__DATA,__interpose) everywhere but in our own image.
 */
#ifdef __APPLE__
#define PT_WRAP(name) pt_wrap_##name
#define PT_REAL(type, name) ((type *)pt_real_##name)
/* To leave by a jump: for arm64 the compiler makes none to a function that may be missing, unless it cannot tell. */
#define PT_JUMP(type, name) ({ \
	type *real_ = PT_REAL(type, name); \
	__asm__("" : "+r"(real_)); \
	real_; })
#else
#define PT_WRAP(name) name
#ifdef __linux__
/* tables.c: where a session writes the beginning of its image (porttrace/inject.py); so it comes with the library, by no call. */
void pt_see_policy(void);       /* all of it, while that can be had */
#define PT_ROOM_SIZE (256u << 10)
extern const struct pt_room {
	char mark[56];
	uint64_t size;
	char rest[PT_ROOM_SIZE - 64];
} pt_room __attribute__((visibility("hidden")));
#endif
#define PT_LOADED __attribute__((section(".data.loaded")))  /* in the page that the loader has written anyway */
#define PT_REAL(type, name) ({ \
	static _Atomic(type *) pt_real_ PT_LOADED; \
	type *pt_f_ = atomic_load_explicit(&pt_real_, memory_order_relaxed); \
	if (unlikely(!pt_f_)) { \
		pt_f_ = (type *)pt_next(#name); \
		atomic_store_explicit(&pt_real_, pt_f_, memory_order_relaxed); \
	} \
	pt_f_; })
#define PT_JUMP(type, name) PT_REAL(type, name)
#endif

/* ---- slab.c: buffers for the slow way ---- */
struct pt_slab {
	void *owner, *frame;           /* set by exec only: see pt_slab_exec */
	size_t cap;                    /* bytes in each of the buffers */
	bool passing;                  /* for a process about to be replaced: what it learns cheaply is not worth a page */
	char *lex, *real, *pending, *link, *physical, *extra;
	char *asked;                   /* the program's path as it was when it was judged: another thread may write there */
};
#define PT_ASKED_MAX 4096u             /* the kernel's own limit for a path */
#define PT_SLAB_BUFFERS 7u
#define PT_SMALL_SLABS 32u             /* one page each, all buffers on it: nearly every path is short, and pages cost */
#define PT_SMALL_SIZE 4096u
#define PT_LARGE_SLABS 4u              /* PT_PATH_CAP in each buffer */
#define PT_LARGE_SIZE (PT_SMALL_SIZE + PT_SLAB_BUFFERS * PT_PATH_CAP)
#define PT_NO_ROOM 0x7ffe              /* no errno: a path that does not fit a small slab; to be done again with a large one */
/* Buffers of at least `room` bytes. NULL only where the kernel has no memory. */
struct pt_slab *pt_slab_take(size_t room);
void pt_slab_give(struct pt_slab *);
struct pt_slab *pt_slab_exec(void *frame, size_t room);
/* Where redirects or foreign names lengthen paths, they are not short. */
static inline size_t pt_usual_room(void)
{
	return PT_NAMES_VARY || (pt.flags & PT_IMG_REDIRECTS) ? PT_PATH_CAP : 0;
}

/* ---- tables.c: what is large, in pages of its own ---- */
void pt_find_tables(void);
void pt_find_own(void);                /* sets pt.own, where the kernel can do it */

struct pt_at;

/* ---- dirs.c, fdinfo.c: what is known of directories, and of descriptors ---- */
enum { PT_MAGIC = 1, PT_MAGIC_FIXED = 2 }; /* the second: and nobody in the session can change how it is reached */
struct pt_info {
	uint64_t hash, generation;
	struct pt_cursor cursor[2];
	struct pt_verdict all[2];      /* of every child, where `uniform` */
	uint8_t uniform[2];
	uint8_t stable;                /* nobody in the session can change what this name means */
	uint8_t missing;               /* did not exist when looked at */
	uint8_t hidden;                /* a link on the way is hidden: error is the policy's */
	uint8_t magic;                 /* a link of /proc was on the way: the kernel goes by the object, not by its path */
	uint8_t linked;                /* a link was on the way */
	uint8_t filter;                /* listings need a look at each entry */
	uint8_t children;              /* enum pt_children, of reading */
	int16_t error;                 /* ELOOP, ENAMETOOLONG, … : the kernel will say so itself */
	int16_t unseen;                /* with what error a component could not be looked at: it may be a link */
	uint16_t lex_len, real_len;
};

#define PT_DIR_TEXT 384
struct pt_dir {
	_Atomic uint32_t seq;          /* odd while it is written; 0: empty */
	uint32_t real_at;              /* where in `text` the real path begins */
	uint64_t key;
	struct pt_info info;
	char text[PT_DIR_TEXT];        /* the lexical path, then the real one where it differs */
};
#define PT_FDS 1024u                   /* descriptors of which anything is remembered */
#define PT_FD_SLOTS 64u                /* what is remembered at most, each for the last of several; plus one for the working directory */

#ifdef __APPLE__
static inline size_t pt_deep_part(const char *lex, size_t len, size_t room)
{
	(void)lex, (void)len, (void)room;
	return 0;
}
#else
/* How much of a long path is known to be real, as a part of the last directory that was found: its length, 0: none of it. */
size_t pt_deep_part(const char *lex, size_t len, size_t room);
#endif
#define PT_DEEP_SIZE (PT_PATH_CAP + 64)
#define PT_FAR_SIZE (2 * (8192 + 192))
/* What is known of the last directories with very long paths; `real` has `room` bytes. */
bool pt_far_used(void);
bool pt_far_cached(const char *lex, size_t len, struct pt_info *, char *real, size_t room);
void pt_far_keep(const char *lex, size_t len, const struct pt_info *, const char *real);

bool pt_dir_cached(const char *lex, size_t len, struct pt_info *, char *real);
/* A directory by a name that is not clean ("a/../b", "a//b"), which then is found by pt_dir_cached; `info` has to be stable. */
void pt_dir_keep(const char *lex, size_t len, const struct pt_info *, const char *real);
/* Whether ".." leads out of a real path: 0, ENOENT where nothing is there or it is hidden (set in `info`), ENOTDIR. */
int pt_not_passable(const char *real, size_t len, struct pt_info *info);
/* Resolves a clean absolute directory path ("" is the root); real path into slab->real. info->error may be PT_NO_ROOM. */
void pt_dir_resolve(const char *lex, size_t len, struct pt_slab *, struct pt_info *);
/* Directory behind a descriptor or AT_FDCWD; its real path into `real` where not NULL. 0, errno, or PT_NO_ROOM. */
int pt_fd_dir(int fd, struct pt_info *, char *real, size_t cap);
/* The same from the cache alone; `real` needs PT_DIR_TEXT + 1 bytes. */
bool pt_fd_cached(int fd, struct pt_info *, char *real);
void pt_fd_set(int fd, const char *real, size_t len);
/* A directory that was opened by this path, of which only the last part had to be looked up. */
void pt_fd_set_child(int fd, int dirfd, const char *path);
void pt_fd_forget(int fd);
/* A new descriptor (or -1) for the directory behind an old one. */
void pt_fd_same(int fd, int old);
/* Opened for writing, which was judged. With a log its path is kept. */
void pt_fd_wrote(int fd, const char *real, size_t len); /* `real`: for the log; may be NULL */
/* Known to have been opened for writing; `real` not NULL: and its path is known. */
bool pt_fd_writer(int fd, struct pt_info *, char *real);
/* May the metadata of an open file be changed? 0 or errno. */
#ifdef __APPLE__
#define pt_judge_fd(op, fd) 0  /* there no path is no path, and never the descriptor */
#else
int pt_judge_fd(uint16_t op, int fd);
#endif
/* Descriptors are shared with a process that has other memory: from now on nothing is remembered of them. */
void pt_fds_shared(void);
void pt_fd_forget_range(unsigned first, unsigned last);
void pt_cwd_forget(void);
void pt_cwd_of_thread(void);            /* macOS */
/* The name by which the program knows a physical path, in place; its new length. */
size_t pt_own_name(char *path, size_t len, size_t cap);
bool pt_fd_filtered(int fd);
bool pt_shown(int fd, const char *name, size_t len, unsigned char type); /* may the program see this entry of a directory? */
bool pt_listed(int fd, const char *name, size_t len, unsigned char type); /* the same of a descriptor that was opened here: most need no look */
void pt_info_of_real(const char *real, size_t len, struct pt_info *);
/* One step down, to a child that is no link; its real path has `real_len` bytes. */
void pt_info_child(struct pt_info *, const char *name, size_t len, size_t real_len);

/* ---- quick.c, locate.c, judge.c: from a path to its verdict ---- */
enum pt_at_flag {
	PT_FOLLOW = 1u << 0,           /* the last link is followed */
	PT_EXCL = 1u << 1,             /* an existing target is EEXIST whatever the policy says (mkdir, symlink, O_EXCL …) */
	PT_EMPTY = 1u << 2,            /* AT_EMPTY_PATH: an empty path means the descriptor */
	PT_PROBE_WRITE = 1u << 3,      /* access(W_OK): EACCES where writing would be refused, without a finding */
	PT_ALSO_READ = 1u << 4,        /* O_RDWR: both maps */
	PT_MAY_CREATE = 1u << 5,       /* O_CREAT: a missing file is made */
	PT_NO_WRITE = 1u << 6,         /* O_CREAT with O_RDONLY: an existing file is only read */
	PT_DIR_FD = 1u << 7,
	PT_TAKES_DIRECTORY = 1u << 8,  /* the call has a parameter for a directory's descriptor */
};

enum pt_there { PT_THERE_UNKNOWN, PT_THERE, PT_NOT_THERE };

struct pt_at {
	int dirfd;
	const char *path;              /* in: as the program gave it; out: what the kernel is to be given */
	uint16_t flags;                /* enum pt_at_flag */
	uint8_t access;
	uint8_t outcome;               /* enum pt_outcome */
	bool judged;
	bool final;                    /* an error of the virtual namespace: not the kernel's to say */
	bool fixed;                    /* nobody in the session can make the path mean something else between our look and the kernel's */
	bool linked;                   /* links were followed: `real` is not what `path` says */
	uint8_t magic;
	uint8_t there;                 /* enum pt_there: what is at `real`, where the walk has seen it */
	int16_t unseen;                /* see struct pt_info */
	int16_t lost;                  /* with `judged` false: the errno with which the walk ended */
	struct pt_verdict verdict;
	const char *asked;
	char *real;
	size_t real_len;
	struct pt_info parent;
	struct pt_slab *slab;
	uint64_t logged;               /* out: its record in the log */
};

/* True: plainly allowed; the call may go ahead provided that it does not follow a link in the last component. */
bool pt_quick(int dirfd, const char *path, uint8_t access);
/* True: plainly allowed, and known not to be a link. */
bool pt_quick_follow(int dirfd, const char *path, uint8_t access);
/*
 * The same for a call that is to be held to what was judged. `*path` becomes a copy in `copy`, for the kernel to read:
 * what another thread writes into the program's own has no effect.
 */
#define PT_COPY 288u                   /* a path of 256 bytes, wherever in a block of 16 it begins */
/* What the log is to have of an access that went the quick way. */
struct pt_note {
	struct pt_verdict verdict;
	size_t real_len;
	char real[PT_DIR_TEXT + 2 + PT_COPY];
};
enum pt_held { PT_NOT_QUICK, PT_MOVABLE, PT_FIXED };   /* allowed, and directories on the way may be exchanged meanwhile, or not */
enum pt_held pt_quick_held(int dirfd, const char **path, uint8_t access, char copy[PT_COPY], struct pt_note *, uint64_t *generation);
enum pt_held pt_quick_held_follow(int dirfd, const char **path, uint8_t access, char copy[PT_COPY], uint64_t *generation);
/*
 * The kernel has been asked by the path. Was that what had been judged, where something on the way can move, since the `generation`
 * that pt_quick_held gave? Else it is to be asked the long way, and what it said forgotten.
 */
bool pt_nothing_moved(uint64_t generation);
static inline bool pt_was_judged(enum pt_held held, uint64_t generation)
{
	return held == PT_FIXED || pt_nothing_moved(generation);
}
/* Around each call that puts another directory or link in the place of one. */
void pt_move_begins(void);
void pt_move_ends(void);
/* True: plainly allowed, no link, and nobody can exchange anything of it: the C library may open it by `*path`, the copy. */
bool pt_quick_fixed(const char **path, uint8_t access, char copy[PT_COPY]);
/* Where there is a log: this became of it. `path`: the copy. */
void pt_note_log(uint16_t op, uint8_t access, const char *path, const struct pt_note *, int error);
static inline void pt_noted(uint16_t op, uint8_t access, const char *path, const struct pt_note *note, int error)
{
	if (unlikely(pt.log))
		pt_note_log(op, access, path, note, error);
}
/* Full judgement: 0, or the errno with which the call is to fail. pt_done must follow in both cases. */
int pt_judge(uint16_t op, struct pt_at *);
/*
 * `from`, which may be changed, gets the name `to`, or what has it goes there: what may not be read would be where it may.
 * After both were judged. 0 or the errno.
 */
int pt_judge_shown(uint16_t op, struct pt_at *from, const struct pt_at *to);
/* True: what a program runs or loads is to be this system's own, and `at->path` now names it. */
bool pt_runs_own(struct pt_at *);
/* race.c: a call is made on what was judged, whatever is exchanged between our look and the kernel's. */
bool pt_threads(void);                 /* other threads may change descriptors and the working directory */
/* open(2) that follows no link on the way: descriptor or -errno (ELOOP: there was one). */
int pt_open_unlinked(int dirfd, const char *path, int flags, mode_t mode);
/* open(2) of what was judged: descriptor or -errno; ELOOP where it has been exchanged, to be judged again. */
int pt_open_judged(uint16_t op, const struct pt_at *, int flags, mode_t mode);
int pt_open_as_is(uint16_t op, int dirfd, const char *path, int flags, mode_t mode); /* the C library's own; sets errno */
/*
 * For calls that only look: an O_PATH descriptor of what was judged, to be closed by the caller; -errno; or PT_AS_IS:
 * the call can go by `path`, with AT_SYMLINK_NOFOLLOW where `*nofollow` is set (and a link then means: judge again).
 */
#define PT_AS_IS (-100000)
#define PT_FD_LINK 32
int pt_hold(const struct pt_at *, bool *nofollow);
/*
 * For calls that change a name: `dirfd` and `path` become a descriptor of the directory that was judged and the name in it,
 * where they could be exchanged. 0 or the errno; `*held` is to be closed if it is not negative.
 */
int pt_hold_name(struct pt_at *, int *held);
/*
 * For calls of what lies at a path, in whatever form they take it: `path` becomes one through a descriptor of what
 * was judged, or, where the last link is not followed, of the directory that it lies in. 0 or the errno; `*held` as above.
 */
int pt_hold_path(struct pt_at *, int *held);
/*
 * The same by the quick way: the path that the call is to go by, from `dirfd` where it takes a directory; NULL: not quick.
 * `held` is to be closed as above.
 */
struct pt_changing {
	int held, dirfd;
	char name[PT_FD_LINK + PT_COPY];
	char copy[PT_COPY];
};
const char *pt_quick_changed(int dirfd, const char *path, uint8_t access, bool follow, bool takes_directory, struct pt_changing *);
/* Nothing of what was judged can be exchanged, or nothing is refused: the call goes by `path`. */
bool pt_settled(const struct pt_at *);
/* The same of an open that comes later, wherever this process goes meanwhile; with more flags of open(2), if need be. */
bool pt_lasting(const struct pt_at *, int *flags);
void pt_fd_link(int fd, char link[PT_FD_LINK]);        /* "/proc/self/fd/N" of a descriptor that is not negative */
/* What may be held, and need not (below 0). */
static inline void pt_let_go(int held)
{
	if (held >= 0)
		sys_close(held);
}
#define PT_AGAIN 16                    /* times that a judgement is repeated where links are exchanged meanwhile */
/* After the call: log, remarks; gives the slab back. `error`: errno of the call or 0. Keeps errno. */
void pt_done(uint16_t op, struct pt_at *, int error);
uint64_t pt_report(uint16_t op, const struct pt_at *, uint8_t kind, uint8_t outcome, int error);
/* A file that a port owns was used (real path; `hash`: pt_hash_path of it): told once a process for each access. */
void pt_used(uint16_t op, uint8_t access, uint32_t port, uint32_t rule, uint64_t hash, const char *real, size_t len);
void pt_left_out(int fd, uint64_t hash, uint32_t port, uint32_t rule);
static inline void pt_rule_used(uint32_t rule)
{
	if (pt.events && rule != PT_NO_RULE)
		pt_events_rule_used(pt.events, rule);
}
/*
 * What can be no address of a program: the kernel says EFAULT, we would crash. Beyond 56 bits nothing is a program's on x86-64
 * (five levels of page tables), beyond 52 on ARM, where the uppermost byte is a tag.
 */
static inline bool pt_bad_pointer(const char *p)
{
#ifdef __aarch64__
	return (uintptr_t)p < 4096 || (uintptr_t)p << 8 >> 60;
#else
	return (uintptr_t)p - 4096 >= (UINT64_C(1) << 56) - 4096;
#endif
}
bool pt_hides(int dirfd, const char *path);
/* The access and the flags that a file is to be opened with: by the flags of open, by the mode of a stream. */
void pt_intend_open(struct pt_at *, int flags);
void pt_intend_stream(struct pt_at *, const char *mode);
/* For the C library to open by its descriptor: what was judged, without effect on it but that it is there. Or -errno. */
int pt_hold_stream(uint16_t op, const struct pt_at *, int flags);
/* The mode for what had to be made, and is there by now. */
#define PT_MODE 64
const char *pt_mode_there(const char *mode, int flags, char there[PT_MODE]);
int pt_stream_flags(const char *mode); /* of open(2); below 0: no mode, or one that cannot be read */
/* `work`, and `undo` where the thread ends in it; both get `what`. */
void pt_ending(void (*work)(void *), void (*undo)(void *), void *what);
/* A change that makes cached real paths stale: symlink made, directory or link renamed. */
void pt_changed(void);
void pt_may_unlink(const struct pt_at *);
void pt_renamed(const struct pt_at *first, const struct pt_at *last);
/* live.c: the session's answer into the verdict; false: none came, the image's stands. */
bool pt_live_ask(enum pt_map, const char *path, size_t len, struct pt_verdict *);

/* files.c: where a thread that was cancelled before has to end, while nothing is held. Not for the calls that are none. */
void pt_cancellation_point(uint16_t op);
/* open(2) by another name, judged; -1 and errno. */
int pt_open(uint16_t op, int dirfd, const char *path, int flags, mode_t mode);
/* The same where the quick way decides it, into `*fd`; false: it does not. */
bool pt_open_quick(uint16_t op, int dirfd, const char *path, int flags, mode_t mode, int *fd);
/* An open that went well: what is to be known of its descriptor. */
void pt_opened(int fd, int flags, const struct pt_at *);

/* ---- untraced.c: can a program carry the library? ---- */
#ifdef __APPLE__
#define PT_SHEBANG 512         /* so much of a script the kernel looks at for its first line */
#define PT_WORDS PT_SHEBANG
#else
#include "../elf_linux.h"
#endif
struct pt_program {
	const char *untraced;          /* why the library cannot enter, or NULL */
	bool foreign;                  /* its loader would choke on our library */
	bool other;                    /* it takes the session's library for the other C library (glibc, musl) */
	bool script;
	bool text;                     /* read, and neither a script nor machine code: the kernel will not start it */
	bool plain;                    /* and nothing that a program of the machine could have been told to start */
	bool unseen;                   /* nobody could look */
	char interpreter[PT_SHEBANG];
	char words[PT_WORDS];          /* of a script: interpreter and arguments, each with its NUL, and an empty one */
#ifdef __APPLE__
	bool shielded;                 /* the system keeps libraries out of it: a copy can be entered */
#endif
};
/* 0, or with what errno it is not there, or without a free descriptor not to be looked at: such fail, under a redirect only so. */
int pt_inspect(const char *path, struct pt_program *);

/* ---- environ.c ---- */
/* The session's library for programs of the other C library (glibc, musl), NULL: it has none. */
const char *pt_other_library(void);
/* `other`: for a program of that. */
bool pt_environment_holds(char *const *envp, bool other);
/* A copy of an environment that does not hold it, with the library in it, in the slab (or in fresh memory). */
char *const *pt_environment(char *const *envp, struct pt_slab *, bool other);
char *const *pt_environment_without(char *const *envp, struct pt_slab *);

ssize_t pt_filter_entries(int fd, char *buf, ssize_t n);

#endif
