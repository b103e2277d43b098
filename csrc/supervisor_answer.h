/*
 * What the parts of the answer share. A part returns 0 or an errno for the program, or one of the values below.
 */
#ifndef PORTTRACE_SUPERVISOR_ANSWER_H
#define PORTTRACE_SUPERVISOR_ANSWER_H

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "supervisor.h"

#define GO_ON (-1)      /* let the kernel do the call */
#define AGAIN (-1000)   /* what was judged has been exchanged: judge once more */
#define DONE (-2)       /* answered, with t->resp->val as the result */
#define TRIES 16

#ifndef RESOLVE_NO_SYMLINKS
#define RESOLVE_NO_SYMLINKS 0x04
#endif

static inline uint64_t arg(const struct pt_task *t, int n)
{
	uint64_t value = t->req->data.args[n];
	return t->compat ? (uint32_t)value : value;
}

static inline int dirfd_of(const struct pt_task *t)
{
	return t->call->dir < 0 ? AT_FDCWD : (int)arg(t, t->call->dir);
}

static inline unsigned at_flags(const struct pt_task *t)
{
	return t->call->flags >= 0 ? (unsigned)arg(t, t->call->flags) : 0;
}

/* Whether a path argument is the empty text (or none): the call then means the descriptor itself. */
static inline bool is_empty(struct pt_task *t, uint64_t address)
{
	char first = 0;
	return !address || (pt_target_read(t->pid, address, &first, 1) && !first);
}

static inline bool starts(const char *path, const char *with)
{
	size_t n = strlen(with);
	return !strncmp(path, with, n) && (path[n] == '/' || !path[n]);
}

/* The process may be gone, and its number another's: asked before anything is written into it. */
static inline bool still_asks(const struct pt_task *t)
{
	int r;
	do
		r = ioctl(t->listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &t->req->id);
	while (r < 0 && errno == EINTR);
	return r == 0;
}

/* Who is not answered waits for ever: also where a tick or a stop of ours comes between. ENOENT: the process is gone. */
static inline void pt_reply(const struct pt_task *t, struct seccomp_notif_resp *answer)
{
	while (ioctl(t->listener, SECCOMP_IOCTL_NOTIF_SEND, answer) < 0 && errno == EINTR)
		;
}

static inline bool is_redirected(const struct pt_task *t)
{
	return t->at.physical_len != t->at.real_len || memcmp(t->at.physical, t->at.real, t->at.real_len) != 0;
}

/* supervisor_hold.c: a descriptor (O_PATH) of just what was judged, in t->at; -errno, or AGAIN. */
int pt_hold_judged(const struct pt_task *);
/*
 * Nobody in the session can exchange anything on the way that was judged (`loose` was false before it): its path means the same
 * still, to whom does not follow a link at its end.
 */
bool pt_way_stays(const struct pt_task *);
bool pt_is_object(const struct pt_task *);  /* judged was what a link of /proc leads to, and has no path */
struct open_how;
long pt_target_openat2(const char *path, const struct open_how *);  /* from /, of a path that may be longer than the kernel takes; errno */
/* supervisor_rights.c: likewise, with the program's rights in other processes' places in /proc too. */
long pt_open_as_program(const struct pt_task *, const char *path, const struct open_how *);
bool pt_rights_lower(const struct pt_task *, int fd); /* true: before something is read from `fd`; then pt_rights_raise() */
void pt_rights_raise(void);
/* The path that leads to what a descriptor of ours holds. */
void pt_own_fd_link(int fd, char out[32]);
/* That which it names, in PT_PATH_CAP bytes: its length without a NUL (PT_PATH_CAP - 1: longer than that), or below 1. */
ssize_t pt_own_fd_path(int fd, char *path);

/*
 * supervisor_borrow.c: the program's own thread goes to a directory, or takes a descriptor of any kind; what is meant is
 * in `fd`. DONE, an errno, or GO_ON where that cannot be had (another program traces this one).
 */
int pt_borrow_chdir(struct pt_task *, int fd);
int pt_borrow_take(struct pt_task *, int fd, bool cloexec);

/* supervisor_wait.c: hands `fd` over as the call's result. 0, or an errno for the program. */
int pt_hand_over(struct pt_task *, int fd, uint64_t flags);
/* Something that may wait for others, in a thread of its own, which answers. 0: it is under way, or an errno. */
struct pt_waiting {
	long (*attempt)(struct pt_waiting *); /* a result, or -1 and errno; again as long as that is EINTR */
	bool gives;                    /* the result is a descriptor for the program, to be opened with `flags` */
	bool begun;                    /* some of it is done: a signal does not make it begin anew */
	bool stops;                    /* but ends it: the attempt gives what is done */
	int fds[2];                    /* kept open for it, -1: none */
	uint64_t flags;
	struct sockaddr_storage to;
	socklen_t size;
	struct pt_task task;
	struct seccomp_notif request;
	void *own;                     /* the attempt's; where there is an `end`, that is called once, after the reply */
	void (*end)(struct pt_waiting *, int error);
};
int pt_wait_apart(struct pt_task *, struct pt_waiting *);
/* From now on what this thread waits in ends now and then with EINTR; until timer_delete(). */
bool pt_ticks_begin(timer_t *);

/* supervisor_socket.c */
struct pt_address {
	struct sockaddr_storage text;
	socklen_t size;
	bool named;                    /* by a path, which is in the task's `asked` */
};
int pt_read_address(struct pt_task *, uint64_t at, uint64_t size, struct pt_address *);
/* May a socket of this kind go there? 0 (`held`: a descriptor of what the path names, else -1), or an errno. */
int pt_reach(struct pt_task *, int domain, const struct pt_address *, int *held);
/* supervisor_bind.c: the program's socket `number` gets the name that stands in its memory. */
int pt_answer_bind(struct pt_task *, int number, uint64_t at, uint64_t size);
/* supervisor_abstract.c: likewise of a name in no file system. 0 or an errno. */
int pt_reach_abstract(const struct pt_task *, const struct sockaddr_un *, socklen_t size);
/* supervisor_send.c: a message as it stands in the program's memory. */
struct pt_message {
	uint64_t name, iov, parts, control, control_len, len_at;
	uint32_t name_len;
	bool alone;                    /* the bytes themselves in `iov`, their number in `parts` */
};
int pt_send(struct pt_task *, int socket, const struct pt_message *, unsigned flags, bool waits);

/* supervisor_make.c */
int pt_answer_entry(struct pt_task *);
int pt_answer_two(struct pt_task *);
int pt_do_truncate(struct pt_task *, int fd);
void pt_take_umask(const struct pt_task *); /* the program's, for what this thread makes */

int pt_answer_socket(struct pt_task *);
int pt_answer_open(struct pt_task *, uint64_t flags, unsigned mode);
int pt_answer_openat2(struct pt_task *);
int pt_answer_list(struct pt_task *);
bool pt_shows_all(const struct pt_task *); /* Is nothing in the directory that was judged hidden? */
int pt_answer_exec(struct pt_task *);
/* supervisor_watch.c: lets the program start what was judged, and looks at what has come of it (`asked`: see there). DONE, or GO_ON where that cannot be had. */
int pt_watch_start(struct pt_task *, uint64_t asked);
/*
 * What was judged, in `fd` (closed by the caller): the call is done here, so that nothing can be exchanged behind our back.
 * `path` is empty, or one that stays.
 */
int pt_do_look(struct pt_task *, int fd, const char *path);
bool pt_looks_by_path(const struct pt_task *); /* with AT_FDCWD */
int pt_do_change(struct pt_task *, int fd, bool by_descriptor);
/* supervisor_below.c: of a directory that is to be renamed; `read` is the verdict on itself */
bool pt_holds_hidden(struct pt_task *t, struct pt_verdict read);

/* supervisor_places.c */
int pt_answer_take(struct pt_task *);
/* Meddling with another process's memory or registers. */
int pt_answer_meddle(struct pt_task *, pid_t other);

#endif
