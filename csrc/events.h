/*
 * What a session's processes tell it, in one sparse file that all of them map
 * shared: no system call per event, no descriptor kept, nothing lost when a
 * process is killed right after. The build user can write here, so the reader
 * believes nothing: every offset and length is checked, what is unsound is
 * dropped and counted.
 */
#ifndef PORTTRACE_EVENTS_H
#define PORTTRACE_EVENTS_H

#include "policy.h"

enum pt_event_kind {
	PT_EV_PROCESS = 1,  /* a process image has started with the library inside: pid, ppid, image, path = executable */
	PT_EV_EXEC = 2,     /* written before an exec: pid, image = the executing image's index, path = target, asked = what the kernel is
			     * given, where that runs the target itself (no script); answered by a PT_EV_PROCESS of the
			     * same pid. After posix_spawn (op) the child's pid is known only then: the answer may come first.
			     * `error` not 0: an exec announced before with the same pid has failed with this errno. */
	PT_EV_FINDING = 3,  /* a refusal or remark; equal ones are counted, not repeated */
	PT_EV_ACCESS = 4,   /* the full log: one for each access */
	PT_EV_UNTRACED = 5, /* a process that the library cannot enter: path = executable, asked = reason */
	PT_EV_USED = 6,     /* a file that a port of the closure owns was used: one for each path and access, whoever asked */
};

/* The verdict words of the log. */
enum pt_outcome { PT_OUT_ALLOW, PT_OUT_HIDE, PT_OUT_DENY, PT_OUT_REDIRECT, PT_OUT_UNOWNED, PT_OUT_ABSENT, PT_OUT_REDIRECTED_MISSING };

struct pt_event {
	uint8_t kind, access, outcome, tier;  /* tier: 1 tracelib, 2 supervisor */
	uint16_t op;                          /* row number in csrc/calls.table */
	int16_t error;                        /* errno the program got, 0 for success */
	int32_t pid, ppid;
	uint32_t image;                       /* index of the process image (its PT_EV_PROCESS), 0: unknown */
	uint32_t rule, port;                  /* as in struct pt_verdict */
	uint32_t count;                       /* reader: how often an equal finding came */
	uint64_t time;                        /* a monotonic stamp, only for ordering */
	uint64_t chain;                       /* of the image: hash over it and its ancestors; 0: to be looked up */
	const char *path; uint32_t path_len;  /* real path */
	const char *asked; uint32_t asked_len;/* as the program gave it, where different */
};

struct pt_events;                /* first byte of the mapped file */

#define PT_RULE_BITS 65536u
#define PT_EVENTS_MIN (4u << 20)    /* smallest capacity: the tables and a little room */

/*
 * Session side: makes a fresh sparse file of `capacity` bytes (rounded up to PT_EVENTS_MIN), mode 0600; the caller
 * gives it to the build user. Refuses an existing file. 0 or -errno.
 */
int pt_events_begin(int fd, uint64_t capacity); /* makes an empty file one of events; 0 or -errno */
int pt_events_create(const char *path, uint64_t capacity);
/* The capacity of an event file of which `mapped_size` bytes are mapped, at least that; 0: it is none. Writers look once. */
uint64_t pt_events_capacity(const struct pt_events *, size_t mapped_size);

/* Writer side (tracelib, supervisor): never blocks, never fails; what does not fit is counted as lost. */
/*
 * `fd` of the next three: the event file, opened for reading and appending (PT_EVENTS_OPEN) just for this one call, after which
 * it takes no other; below 0: there is none, and all goes through the map.
 */
/* The capacity in bytes of an open event file, and is there room for more starts behind it? 0: it is none. */
uint64_t pt_events_opened(int fd, bool *room);
/*
 * Announce a process image; returns its index (0: no room). `process->image` 0 means "find the parent":
 * the image that wrote the last PT_EV_EXEC of the same pid. The index is a multiple of nothing in
 * particular, only unique; the reader gives it back as `image` of the PT_EV_PROCESS event.
 */
uint32_t pt_events_image(struct pt_events *, int fd, struct pt_event *process); /* fills in `chain` */
/*
 * Who asks the disk for room: for `size` bytes of the event file from `from` on. 0, or -errno: with -ENOSPC and -EDQUOT
 * events that need it are lost, with -EOPNOTSUPP nobody asks again. NULL: nobody asks, the file is as sparse as it is.
 */
void pt_events_room_from(int (*ask)(uint64_t from, uint64_t size));
/*
 * Who has mapped no more than the first part (PT_EVENTS_PART), as much as most programs need, says here how to come by
 * all of it: `ask` returns the same file as a whole, or NULL: events that need it are lost.
 */
void pt_events_all_from(struct pt_events *(*ask)(struct pt_events *part));
/* All but a process, through the map. Where it is, for pt_events_amend; 0: nowhere. */
uint64_t pt_events_put(struct pt_events *, const struct pt_event *);
uint64_t pt_events_told_exec(struct pt_events *, int fd, const struct pt_event *exec);
/*
 * What the exec that this process came from ran, where its record says that the kernel was given `asked` (AT_EXECFN):
 * `path` of `out`, which lies in the `size` bytes of `room`, and the image that did it. false: not known.
 */
bool pt_events_exec(const struct pt_events *, int fd, int32_t pid, const char *asked, uint64_t *room, size_t size, struct pt_event *out);
/* An exec is logged before it happens, because nothing can be after it; where it comes back, this says why. */
void pt_events_amend(struct pt_events *, uint64_t event, int error);
/* This rule has decided something: remembered once, so that an allowance that never did can be named. */
void pt_events_rule_used(struct pt_events *, uint32_t rule);
bool pt_events_rule_was_used(const struct pt_events *, uint32_t rule); /* rules from PT_RULE_BITS on: always true */
const _Atomic uint64_t *pt_events_generation_at(const struct pt_events *);
uint64_t pt_events_generation(const struct pt_events *);   /* topology: changes when cached real paths may be stale */
void pt_events_bump(struct pt_events *);
/* Around a call that can put another directory or link in the place of one: the generation changes, if at all, in between. */
void pt_events_move_begins(struct pt_events *);
void pt_events_move_ends(struct pt_events *);
/* Was nothing put in the place of another since `generation`? false where somebody is about to, or was and got no further. */
bool pt_events_unmoved(const struct pt_events *, uint64_t generation);
/* A link that somebody in the session has followed: its removal makes cached real paths stale. `hash`: pt_hash_path of the link. */
void pt_events_link_seen(struct pt_events *, uint64_t hash);
bool pt_events_maybe_link(const struct pt_events *, uint64_t hash); /* false: surely not */

/*
 * Reader side: iterate over what is published; the cursor starts as zeros. false: nothing more (yet).
 * In a PT_EV_PROCESS event `image` is the image's own index and `rule` its parent image (0: started by the session).
 * `count` of a finding is the count at the time of reading: read again from the beginning for the final ones.
 * Strings point into the mapping and are not NUL-terminated. A record that its writer has reserved and not yet
 * published is waited for up to 50 ms (not at all where that process is gone), then dropped and counted.
 */
struct pt_reading {
	uint64_t starts, arena;         /* bytes of the file that have been read; 0: nothing yet */
	uint32_t waits;                 /* how many were in vain */
	uint32_t drops;                 /* records dropped so far because they were not sound */
	bool last;                      /* nobody writes any more: what is not whole never will be */
};
bool pt_events_next(const struct pt_events *, size_t mapped_size, struct pt_reading *, struct pt_event *out);
/* Less than a large page, at whose multiples the kernel would put it: a map with page tables of its own. */
#define PT_EVENTS_PART (4096u + PT_RULE_BITS / 8 + (512u << 10))
/* How far the two parts of an open event file are written: the starts, and the arena. False where it cannot be read. */
bool pt_events_ends(int fd, uint64_t ends[2]);
bool pt_events_ends_sound(const struct pt_events *, size_t size); /* does the arena's end lie in it, and what is told in the file? */
/* How many bytes of an event file of this capacity that has now `found` bytes there are to read. */
uint64_t pt_events_extent(uint64_t capacity, uint64_t found);
/* Copies the first `size` bytes of an open event file to the empty file `to`, where pages of zeros become holes. 0 or -errno. */
int pt_events_copy(int from, int to, uint64_t size);
uint64_t pt_events_lost(const struct pt_events *);

#endif
