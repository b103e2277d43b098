/* Programs: what one executes, and what it does to others. */
#include <linux/kcmp.h>
#include <stdio.h>
#include <signal.h>
#include <stdlib.h>

#include "elf_linux.h"
#include "procstat.h"
#include "supervisor_answer.h"

#define INTERPRETERS 5  /* that the kernel follows for a script */

static uint64_t hash(const struct pt_task *t, const char *text)
{
	return pt_hash_path(pt_image_seed(t->sup->image), text, strlen(text));
}

/*
 * The kernel reads the path of a program again, after our answer: another thread may have exchanged it, or a link on the
 * way. What was started shows in the new process's auxiliary vector and behind /proc/PID/exe; one that is not what was
 * judged ends before its first file. 0, or an errno: EAGAIN where too many start at the same time to be remembered.
 */
static int note_start(struct pt_task *t)
{
	pid_t process;
	struct pt_start start = { .tid = t->pid, .when = pt_ticks_now(), .asked = hash(t, t->asked) };
	char path[4100];
	struct pt_tree *tree = t->tree;
	unsigned slot = PT_STARTS;
	if (!pt_target_traced(t->pid, &process, &t->traced))
		return EACCES;
	start.pid = process;
	(void)pt_target_program(t->pid, &start.before, path, sizeof path);
	pthread_mutex_lock(&tree->lock);
	memset(tree->carriers, 0, sizeof tree->carriers); /* threads of it have other numbers */
	for (unsigned i = 0; i < PT_STARTS && slot == PT_STARTS; i++)
		if (tree->starts[i].pid == process && tree->starts[i].tid == t->pid)
			slot = i; /* it did not come to it the last time */
	for (unsigned i = 0; i < PT_STARTS && slot == PT_STARTS; i++)
		if (!tree->starts[i].pid)
			slot = i;
	for (unsigned i = 0; i < PT_STARTS && slot == PT_STARTS; i++)
		if (kill(tree->starts[i].pid, 0) && errno == ESRCH)
			slot = i;
	if (slot < PT_STARTS) {
		tree->starting += tree->starts[slot].pid == 0;
		tree->starts[slot] = start;
	}
	pthread_mutex_unlock(&tree->lock);
	return slot < PT_STARTS ? 0 : EAGAIN;
}

/* The entry as it stands. false: there is none, or it is of a process that does not concern `asks` (0: all do). */
static bool start_at(struct pt_tree *tree, unsigned i, pid_t asks, struct pt_start *out)
{
	pthread_mutex_lock(&tree->lock);
	*out = tree->starts[i];
	pthread_mutex_unlock(&tree->lock);
	return out->pid && (!asks || out->pid == asks || out->tid == asks);
}

/* Another worker may have done so, and taken the place for a later start. */
static void forget_start(struct pt_tree *tree, unsigned i, const struct pt_start *as)
{
	pthread_mutex_lock(&tree->lock);
	if (!memcmp(&tree->starts[i], as, sizeof *as)) {
		tree->starts[i].pid = 0;
		tree->starting--;
		/* Its threads could still ask while the kernel ended them, and be taken for the new program. */
		memset(tree->carriers, 0, sizeof tree->carriers);
	}
	pthread_mutex_unlock(&tree->lock);
}

/* Is the file in `t->full`, wherever its name led, one that the program may not see? */
static bool is_hidden(struct pt_task *t, ssize_t len)
{
	static const char gone[] = " (deleted)";
	const size_t n = sizeof gone - 1;
	if (len <= 0 || t->full[0] != '/' || !strncmp(t->full, "/memfd:", 7) || (t->sup->flags & PT_IMG_AUDIT))
		return false;
	if ((size_t)len > n && !strcmp(t->full + len - n, gone))
		t->full[len -= (ssize_t)n] = 0;
	if ((t->sup->flags & PT_IMG_REDIRECTS) && pt_unredirect(t->sup->image, t->full, (size_t)len, t->scratch, PT_PATH_CAP))
		return false; /* where a redirect leads */
	struct pt_verdict v = pt_decide(t->sup->image, PT_READ, t->full, (size_t)len);
	pt_task_ask_live(t, PT_READ, t->full, (size_t)len, &v);
	return v.action == PT_DENY;
}

/*
 * A script may have been another one when the kernel read it: what that has opened for it stands before the script's name
 * in the program's words, interpreters and their arguments, of which it need not be told which is which.
 */
static bool shows_hidden(struct pt_task *t, const char *path)
{
	char *word = t->dents;
	if (!strcmp(t->full, path) || (t->sup->flags & (PT_IMG_REDIRECTS | PT_IMG_AUDIT)))
		return false; /* the program itself */
	ssize_t got = pt_process_file((int32_t)t->pid, "cmdline", word, PT_DENTS_CAP);
	const char *end = word + (got > 0 ? got : 0), *script = NULL;
	unsigned n = 0;
	for (const char *at = word; at < end && n < 2 * INTERPRETERS + 1 && !script; at += strlen(at) + 1, n++)
		script = strcmp(at, path) ? NULL : at;
	for (; script && word < script; word += strlen(word) + 1) {
		t->access = PT_ACC_EXEC;
		strcpy(t->asked, word);
		if (!*word || pt_task_resolve_text(t, AT_FDCWD, t->asked, strlen(t->asked), 0) || (t->at.error && !t->at.hidden))
			continue;
		if ((t->at.hidden || t->at.read.action == PT_DENY || (t->at.read.flags & PT_V_LIVE)) && pt_task_judge(t, 0))
			return true;
	}
	return false;
}

/*
 * Likewise what the kernel has put beside the program, a loader. Nothing else is there at its first instruction; later files
 * can be that the program was given from outside of the session.
 */
static bool loads_hidden(struct pt_task *t)
{
	char *maps = malloc(PT_DENTS_CAP);
	const char *at = maps;
	struct pt_mapped_file file = { 0 };
	ssize_t len;
	bool hidden = !maps || pt_process_file((int32_t)t->pid, "maps", maps, PT_DENTS_CAP) <= 0;
	while (!hidden && (len = pt_target_mapped(t->pid, &at, &file, t->full, PT_PATH_CAP)) != 0)
		hidden = len < 0 || is_hidden(t, len); /* what cannot be known is not let through */
	free(maps);
	return hidden;
}

/* Is what runs there now what was judged, or as good? */
static bool may_run(struct pt_task *t, const char *path, size_t len, uint64_t asked)
{
	if (is_hidden(t, pt_target_path(t->pid, PT_TARGET_EXE, t->full, PT_PATH_CAP)) || shows_hidden(t, path))
		return false;
	if (hash(t, path) == asked)
		return true;
	strcpy(t->asked, path);
	t->access = PT_ACC_EXEC;
	if (!pt_task_resolve_text(t, AT_FDCWD, path, len, 0) && (!t->at.error || t->at.hidden))
		return pt_task_judge(t, 0) == 0;
	/* Below a descriptor the kernel makes up a name, which leads nowhere once that is closed. */
	const char *below = starts(path, "/dev/fd") ? strchr(path + 8 + (path[7] != 0), '/') : NULL;
	return starts(path, "/dev/fd") && hash(t, below ? below + 1 : "") == asked;
}

/* An exec may have taken some away, by limits or secure bits that no call of the list tells. */
static void note_rights(struct pt_task *t)
{
	if (!t->tree->looks && !t->tree->changes && !pt_rights_are_ours(t->pid))
		t->tree->changes = true;
}

/*
 * Has it come to what was to be started there, and is that what was judged? `asks`: it is that process which asks us
 * something; else nobody of it does. Only a start that is over is forgotten, and only after the look at what runs: a
 * second worker that answers the same process meanwhile has to look itself.
 */
static void check_start(struct pt_task *t, unsigned i, const struct pt_start *start, bool asks)
{
	struct pt_program now;
	char path[4100];
	/*
	 * Other threads ask on until the kernel ends them. It is over when the one that executes asks, or is no more (the
	 * new program has its process's number), or when another program lies there: nothing of that can be feigned.
	 */
	bool over = asks && (start->tid == t->pid || (syscall(SYS_tgkill, start->pid, start->tid, 0) && errno == ESRCH));
	int len = pt_target_program(t->pid, &now, path, sizeof path);
	/* A program that does not let itself be looked at (it has changed its uid) can begin to when it likes. */
	bool other = start->before.layout && now.layout && now.layout != start->before.layout;
	if (len < 0 || !(over || other))
		return;
	bool differs = memcmp(&now, &start->before, sizeof now), allowed = !differs || may_run(t, path, (size_t)len, start->asked);
	if (differs)
		note_rights(t);
	/* Where the program that asked has been ended by now, another one of its threads executes, and it is not sure which one was looked at. */
	if (asks && !still_asks(t))
		return;
	if (!allowed)
		kill(start->pid, SIGKILL);
	forget_start(t->tree, i, start);
}

void pt_task_check_start(struct pt_task *t)
{
	struct pt_start start;
	pid_t process, parent;
	if (!t->tree->starting)
		return;
	for (unsigned i = 0; i < PT_STARTS; i++)
		if (start_at(t->tree, i, t->pid, &start) && /* a thread's number may be another process's by now */
		    (start.pid == t->pid || (pt_target_ids(t->pid, &process, &parent) && process == start.pid)))
			check_start(t, i, &start, true);
	t->access = t->call->access;
}

/* The path by which it was executed, which the kernel has put behind the environment: seen also of a program that nobody may read. */
static ssize_t name_at_start(const struct pt_task *t, char *path, size_t cap)
{
	struct pt_process p;
	return pt_process_look((int32_t)t->pid, &p) && p.env_end ? pt_target_text(t->pid, p.env_end, path, cap) : -EACCES;
}

void pt_task_check_started(struct pt_task *t, pid_t process, uint64_t asked)
{
	struct pt_start start;
	char path[4100];
	t->pid = process;
	ssize_t len = name_at_start(t, path, sizeof path);
	/* Where nothing on the way could be exchanged it is enough that the kernel has read the same name. */
	bool same = !t->loose && len >= 0 && hash(t, path) == asked;
	if (!same && (len < 0 || loads_hidden(t) || !may_run(t, path, (size_t)len, asked)))
		kill(process, SIGKILL);
	note_rights(t);
	/* Those of its other threads, too, which are no more. */
	for (unsigned i = 0; i < PT_STARTS; i++)
		if (start_at(t->tree, i, process, &start) && start.pid == process)
			forget_start(t->tree, i, &start);
}

/* Programs that have started and ask nothing: looked at before their places are all taken. */
static void check_silent(struct pt_task *t)
{
	const pid_t asks = t->pid;
	struct pt_start start;
	struct pt_process p;
	for (unsigned i = 0; i < PT_STARTS; i++)
		/* not another process, which has got its number */
		if (start_at(t->tree, i, 0, &start) && pt_process_look((int32_t)start.pid, &p) && p.started <= start.when) {
			t->pid = start.pid;
			check_start(t, i, &start, false);
		}
	t->pid = asks;
	t->access = t->call->access;
}

/* LeakSanitizer looks at a process from a child that shares its memory, and so could change it as it likes without our leave. */
static bool shares_memory(const struct pt_task *t, pid_t other)
{
	return pt_target_filtered(other) && syscall(SYS_kcmp, t->pid, other, KCMP_VM, 0, 0) == 0;
}

/*
 * A process of the tree may meddle with itself and with what it has started, which is held as it is. One that is
 * not supervised would make any system call for it: also a child from before its parent came under the supervisor.
 */
int pt_answer_meddle(struct pt_task *t, pid_t other)
{
	pid_t process, parent;
	pt_target_ids(t->pid, &process, &parent);
	if (other == process || other == t->pid || other <= 0 || pt_target_descends(other, process, t->tree->since) ||
	    shares_memory(t, other))
		return GO_ON;
	return EPERM;
}

#define LOADERS 65536 /* bytes of a program's table of parts, as much as the kernel takes */

/* The program's loader, in PT_PATH_CAP bytes; empty: it has one by no name that the kernel would take. false: it has none, or is of another kind. */
static bool loader_of(int fd, const unsigned char *head, ssize_t got, char *name)
{
	uint64_t offset, from, bytes;
	uint16_t size, count;
	*name = 0;
	if (got < 64 || memcmp(head, "\177ELF", 4) || head[4] != 2)
		return false;
	memcpy(&offset, head + 32, 8);
	memcpy(&size, head + 54, 2);
	memcpy(&count, head + 56, 2);
	for (unsigned i = 0; i < count && size == 56 && (uint32_t)size * count <= LOADERS; i++) {
		unsigned char entry[56];
		uint32_t type;
		if (pread(fd, entry, sizeof entry, (off_t)(offset + (uint64_t)i * size)) != sizeof entry)
			return false;
		memcpy(&type, entry, 4);
		if (type != 3) /* PT_INTERP */
			continue;
		memcpy(&from, entry + 8, 8);
		memcpy(&bytes, entry + 32, 8);
		if (bytes < 2 || bytes > 4096 || pread(fd, name, bytes, (off_t)from) != (ssize_t)bytes || name[bytes - 1])
			*name = 0;
		return true;
	}
	return false;
}

/*
 * What the kernel opens besides, and is asked for here: the interpreter of a script, and the loader of a program. `fd` is
 * the program (-1: it cannot be read), and is closed. 0 or an errno.
 */
static int judge_besides(struct pt_task *t, int fd, bool announce)
{
	int error = 0;
	for (int depth = 0; !error && depth <= INTERPRETERS; depth++) {
		unsigned char head[4096];
		ssize_t got = fd < 0 ? -1 : pread(fd, head, sizeof head, 0);
		if (got < 2 || head[0] != '#' || head[1] != '!') {
			/* With a loader it takes the library in, which announces itself. */
			bool traced = loader_of(fd, head, got, t->dents);
			if (announce && access(t->at.physical, X_OK) == 0 && (t->sup->alone || !traced))
				pt_task_announce(t, t->at.real, t->at.real_len);
			if (*t->dents && !pt_task_resolve_text(t, AT_FDCWD, t->dents, strlen(t->dents), 0))
				error = pt_task_judge(t, 0);
			break;
		}
		char interpreter[PT_SHEBANG], words[PT_WORDS];
		if (!pt_script_line((const char *)head, (size_t)got, interpreter, words))
			break;
		if (pt_task_resolve_text(t, AT_FDCWD, interpreter, strlen(interpreter), 0))
			break;
		error = pt_task_judge(t, 0);
		if (fd >= 0)
			close(fd);
		fd = open(t->at.physical, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	}
	if (fd >= 0)
		close(fd);
	return error;
}

int pt_answer_exec(struct pt_task *t)
{
	unsigned flags = at_flags(t);
	if (t->tree->starting == PT_STARTS)
		check_silent(t);
	t->loose = false;
	uint64_t address = arg(t, t->call->path);
	if ((flags & AT_EMPTY_PATH) && is_empty(t, address)) {
		/* a descriptor (memfd, or a file that was opened under the same policy) */
		ssize_t len = pt_target_path(t->pid, dirfd_of(t), t->full, PT_PATH_CAP);
		t->asked[0] = 0;
		t->loose = true; /* if only what a script of it names */
		int unnoted = note_start(t);
		if (unnoted)
			return unnoted;
		if (len > 0 && t->full[0] == '/') {
			memcpy(t->at.real, t->full, (size_t)len + 1);
			t->at.real_len = t->at.physical_len = (size_t)len;
			t->at.physical = t->at.real;
			t->at.read = pt_decide(t->sup->image, PT_READ, t->at.real, t->at.real_len);
			if (t->at.read.action == PT_DENY && strncmp(t->full, "/memfd:", 7) && pt_task_judge(t, 0))
				return ENOENT;
		}
		if (len > 0)
			pt_task_announce(t, t->full, (size_t)len);
		struct stat st;
		char link[64];
		snprintf(link, sizeof link, "/proc/%d/fd/%d", (int)t->pid, dirfd_of(t));
		t->at.physical = t->physical;
		int error = stat(link, &st) || !S_ISREG(st.st_mode) ? 0 : judge_besides(t, open(link, O_RDONLY | O_CLOEXEC | O_NONBLOCK), false);
		return error ? error : pt_watch_start(t, hash(t, ""));
	}
	int error = pt_task_resolve(t, dirfd_of(t), address, flags & AT_SYMLINK_NOFOLLOW ? PT_RES_NOFOLLOW_LAST : 0);
	if (!error)
		error = note_start(t);
	if (error)
		return error;
	const uint64_t asked = hash(t, t->asked);
	t->loose |= t->asked[0] != '/' || (t->sup->flags & PT_IMG_REDIRECTS); /* where the program is can change too */
	error = pt_task_judge(t, 0);
	if (!error && is_redirected(t) && !(t->verdict.flags & PT_V_FALLBACK))
		return EACCES; /* the kernel would start what lies at the program's own name */
	if (!error)
		error = judge_besides(t, open(t->at.physical, O_RDONLY | O_CLOEXEC | O_NONBLOCK), true);
	return error ? error : pt_watch_start(t, asked);
}
