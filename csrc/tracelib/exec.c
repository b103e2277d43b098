/*
 * Programs that replace this one. The slab may stay with a successful exec
 * (see pt_slab_exec), everything else is given back before.
 */
#include "exec.h"

#ifndef __APPLE__
extern char **environ;
#endif

void pt_exec_event(uint16_t op, pid_t pid, const char *path, size_t len, const char *asked, uint32_t rule, int error)
{
	struct pt_event e = { .kind = PT_EV_EXEC, .access = PT_ACC_EXEC, .tier = 1, .op = op, .error = (int16_t)error, .pid = pid,
		.image = pt.index, .chain = pt.chain, .port = PT_NO_PORT, .rule = rule, .path = path, .path_len = (uint32_t)len,
		.asked = asked, .asked_len = asked ? (uint32_t)strlen(asked) : 0 };
	if (!pt.events)
		return;
	int fd = pt_open_events();
	pt_events_told_exec(pt.events, fd, &e);
	pt_let_go(fd);
}

static void tell_untraced(uint16_t op, struct pt_at *at, pid_t pid, const char *why)
{
	struct pt_event e = { .kind = PT_EV_UNTRACED, .access = PT_ACC_EXEC, .tier = 1, .op = op, .pid = pid, .image = pt.index, .chain = pt.chain,
		.port = PT_NO_PORT, .rule = PT_NO_RULE, .path = at->real, .path_len = (uint32_t)at->real_len,
		.asked = why, .asked_len = (uint32_t)strlen(why) };
	if (pt.events)
		pt_events_put(pt.events, &e);
}

/*
 * Can somebody in the session make the name mean another file before the kernel reads it? race.c asks the same of an open.
 * What is supervised need not care: it is held whatever it turns out to be.
 */
static bool exchangeable(const struct pt_at *at)
{
#ifdef __APPLE__
	(void)at;
	return false;                  /* nor is there a supervisor that would hold what the library cannot enter */
#else
	/* where all of the system may be written there is nothing to hold */
	if ((pt.flags & PT_IMG_AUDIT) || pt_decide(pt.image, PT_WRITE, "/usr", 4).action != PT_DENY)
		return false;
	return !at->fixed || (at->path[0] != '/' && pt_threads()) ||
	       pt_decide(pt.image, PT_WRITE, at->real, at->real_len).action != PT_DENY;
#endif
}

static const char *file_of(const struct pt_at *at)
{
	return at->path == at->slab->physical ? at->path : at->real_len ? at->real : "/";
}

/* The program by its real path, where only the name that leads there can be exchanged. */
static void start_real(struct pt_exec *x, const struct pt_at *at)
{
	size_t len = at->path == at->slab->physical ? 0 : at->real_len;
	struct pt_slab *s = at->magic || !len || len >= PT_ASKED_MAX ? NULL : pt_exec_slab(x);
	if (!s || len >= s->cap) {
		x->supervise = pt_has_supervisor();
		return;
	}
	memcpy(s->extra, at->real, len);
	s->extra[len] = 0;
	x->file = s->extra;
}

enum given { BY_NAME, BELOW, BY_DESCRIPTOR };  /* as execve takes a program, or only execveat */

/* A program or script that can be another one when the kernel looks: what is to be started for sure? 0 or errno. */
static int hold(struct pt_exec *x, const struct pt_at *at, const struct pt_program *program, enum given given)
{
	bool by_name = given == BY_NAME && !at->magic;
	if (by_name && (program->script || program->plain)) {
		int error = sys_executable(x->path);   /* what the kernel would say */
		return error || program->script ? error : ENOEXEC;
	}
	if (program->script || program->text || (given == BY_DESCRIPTOR && pt_threads()))
		x->supervise = pt_has_supervisor();
	else if (given != BY_DESCRIPTOR)
		start_real(x, at);
	return 0;
}

/* What the library cannot enter goes to the supervisor; where there is none it is told, never silent. */
static void look_after(uint16_t op, struct pt_at *at, struct pt_exec *x, struct pt_program *program)
{
	const char *file = file_of(at);
#ifdef __APPLE__
	if (program->shielded) {
		struct pt_slab *s = pt_exec_slab(x);
		if (s && pt_sip_copy(file, strlen(file), s->extra, s->cap)) {
			x->file = s->extra;
			return;
		}
		program->untraced = "protected by the system";
		x->foreign = true;
	}
#endif
	x->other = program->other;
#ifndef __APPLE__
	/* What is no machine code can do nothing by itself. Who interprets it is looked at in its turn. */
	if (!program->untraced && (program->script || program->text))
		return;
#endif
	if (!program->untraced && !program->unseen && !pt_wants_supervisor(file, at->real, at->real_len))
		return;
	x->supervise = pt_has_supervisor();
	x->foreign = x->foreign || program->foreign;
	if (!x->supervise && program->untraced)
		tell_untraced(op, at, x->pid, program->untraced);
}

/*
 * A program that has used up its descriptors (ulimit -n 3) can still start another one, and that give itself more of them. To
 * look at it takes one, and to put it under the supervisor some: the limit is lifted until then, as far as it goes.
 */
static bool lift_limit(struct pt_exec *x)
{
#ifdef __APPLE__
	(void)x;
	return false;
#else
	return !x->limit[1] && sys_lift_descriptors(x->limit);
#endif
}

void pt_exec_ready(struct pt_exec *x)
{
#ifndef __APPLE__
	if (unlikely(x->limit[1]))
		sys_limit_descriptors(x->limit, NULL);
#endif
	x->limit[1] = 0;
}

static bool no_descriptor(int error)
{
	return error == EMFILE || error == ENFILE;
}

static int look(struct pt_exec *x, const char *path, struct pt_program *program)
{
	int error = pt_inspect(path, program);
	if (likely(!no_descriptor(error)))
		return error;
	if (lift_limit(x))
		error = pt_inspect(path, program);
	if (!no_descriptor(error) || pt_has_supervisor())
		return error;
	program->unseen = true;                /* nobody could hold it anyway: the session is told that nothing is known of it */
	return 0;
}

/*
 * A script's interpreter is a program like any other: judged, and followed to its own interpreter. Where the script can be
 * another file when the kernel reads it (`loose`), the kernel is given the interpreter instead.
 */
static int judge_interpreters(uint16_t op, struct pt_program *program, struct pt_exec *x, bool loose)
{
	for (int depth = 0; program->script && depth < 5; depth++) {
		char name[sizeof program->interpreter];
		memcpy(name, program->interpreter, sizeof name);
		if (loose && !x->supervise && !pt_exec_through(x, program->words))
			x->supervise = pt_has_supervisor();
#ifdef __APPLE__
		char words[sizeof program->words];
		memcpy(words, program->words, sizeof words);
#endif
		struct pt_known known;
		program->script = program->text = false;
		if (pt_exec_known(name, &known)) {
			pt_rule_used(known.rule);
			break;
		}
		struct pt_at at = { .dirfd = AT_FDCWD, .path = name, .access = PT_ACC_EXEC, .flags = PT_FOLLOW };
		int error = pt_judge(op, &at);
		if (!error && at.judged) {
			int seen = look(x, file_of(&at), program);
			if (no_descriptor(seen)) {
				pt_done(op, &at, seen);
				return seen;
			}
			look_after(op, &at, x, program);
#ifdef __APPLE__
			if (!depth && x->file != x->path && !pt_exec_through(x, words))
				x->file = x->path;
#endif
			if (!exchangeable(&at)) {
				loose = false;
			} else if (!x->supervise && (!loose || program->text)) {
				x->supervise = pt_has_supervisor();
			} else if (!program->script && !x->supervise) {
				start_real(x, &at);
			}
		} else if (!error && !(pt.flags & PT_IMG_AUDIT)) {
			error = at.lost;       /* as the kernel would say, which would look once more */
		}
		pt_done(op, &at, error);
		if (error)
			return error;
	}
	return program->script && x->words ? ELOOP : 0;        /* as the kernel would say, which now sees fewer of them */
}

struct pt_slab *pt_exec_slab(struct pt_exec *x)
{
	size_t room = x->room > pt_usual_room() ? x->room : pt_usual_room();
	if (!x->slab)
		x->slab = x->frame ? pt_slab_exec(x->frame, room) : pt_slab_take(room);
	return x->slab;
}

/* What is started in the end, and with what words. 0 or errno. */
static int settle(struct pt_exec *x)
{
	if (x->supervise) {            /* by the supervisor's eyes, as the program said it */
		x->file = x->path;
		return 0;
	}
	if (!x->words)
		return 0;
	if (x->file == x->path)
		x->file = x->words;
	return pt_exec_words(x) ? 0 : ENOMEM;
}

/* 0 or errno */
static int give_environment(struct pt_exec *x, char *const *envp)
{
	if (!x->foreign && pt_environment_holds(envp, x->other))
		return 0;
	if (!pt_exec_slab(x))
		return ENOMEM;
	x->envp = x->foreign ? pt_environment_without(envp, x->slab) : pt_environment(envp, x->slab, x->other);
	return 0;
}

int pt_exec_prepare(uint16_t op, struct pt_exec *x, int dirfd, const char *path, char *const *argv, char *const *envp, int flags,
		    bool spawn)
{
	*x = (struct pt_exec){ .path = path, .file = path, .dirfd = dirfd, .argv = argv, .envp = envp, .rule = PT_NO_RULE,
		.frame = spawn ? NULL : __builtin_frame_address(0) };
	if (!pt_on())
		return 0;
	/* not pt_pid(): in a vfork child that is the parent's, whose memory this is */
	x->pid = spawn ? pt_pid() : sys_getpid();
	struct pt_known known;
	if (dirfd == AT_FDCWD && !flags && pt_exec_known(path, &known) && !pt_loader_led_astray(envp)) {
		x->rule = known.rule;
		if (!spawn)
			pt_exec_event(op, x->pid, known.real, known.len, path, x->rule, 0);
		x->announced = true;
		return give_environment(x, envp);
	}
	struct pt_at at = { .dirfd = dirfd, .path = path, .access = PT_ACC_EXEC,
		.flags = (flags & AT_SYMLINK_NOFOLLOW ? 0 : PT_FOLLOW) | (flags & AT_EMPTY_PATH ? PT_EMPTY : 0) };
	int error = pt_judge(op, &at);
	if (!error && !at.judged && !(pt.flags & PT_IMG_AUDIT)) /* as the kernel would say, which would look once more */
		error = at.lost;
	struct pt_program program;
	if (!error && at.judged) {
#ifndef __APPLE__
		char link[32];
		if ((flags & AT_EMPTY_PATH) && !*path && dirfd >= 0) { /* a memfd has no path by which it could be looked at */
			pt_fd_link(dirfd, link);
			error = look(x, link, &program);
		} else
#endif
			error = look(x, file_of(&at), &program);
		if ((at.magic || !*path) && !no_descriptor(error)) /* an object, and its path may be another's or nobody's */
			error = 0;
	}
	if (!error && at.judged) {
		if (at.path == at.slab->physical) {
			if (!pt_exec_slab(x)) {
				pt_done(op, &at, ENOMEM);
				return ENOMEM;
			}
			memcpy(x->slab->physical, at.path, strlen(at.path) + 1);
			x->path = x->file = x->slab->physical;
			x->dirfd = at.dirfd;
		}
		bool itself = !program.script && dirfd == AT_FDCWD && !flags;
		bool loose = exchangeable(&at);
		look_after(op, &at, x, &program);
		if (!x->supervise && pt_loader_led_astray(envp))
			x->supervise = pt_has_supervisor();
		if (loose && !x->supervise)
			error = hold(x, &at, &program, *path ? dirfd == AT_FDCWD && !flags ? BY_NAME : BELOW : BY_DESCRIPTOR);
		if (!program.untraced && !error)
			error = judge_interpreters(op, &program, x, loose);
		if (!error)
			error = settle(x);
		if (!error) {
			if (!spawn)
				pt_exec_event(op, x->pid, at.real, at.real_len, itself ? x->file : NULL, PT_NO_RULE, 0);
			x->announced = true;
		}
	}
	pt_done(op, &at, error);
	x->logged = error ? 0 : at.logged;
	return error ? error : give_environment(x, envp);
}

void pt_exec_failed(uint16_t op, struct pt_exec *x, int error)
{
	pt_exec_ready(x);
	if (error && x->logged)
		pt_events_amend(pt.events, x->logged, error);
	if (error && x->announced)
		pt_exec_event(op, x->pid, x->path, strlen(x->path), NULL, PT_NO_RULE, error);
	x->announced = false;
	x->logged = 0;
	if (x->mapped)
		sys_munmap(x->mapped, x->mapped_size);
	if (x->slab)
		x->slab->owner = NULL;
	pt_slab_give(x->slab);
	x->mapped = NULL;
	x->slab = NULL;
}

/* Returns the errno with which it failed. */
static int replace(uint16_t op, int dirfd, const char *path, char *const *argv, char *const *envp, int flags)
{
	struct pt_exec x;
	int error = pt_exec_prepare(op, &x, dirfd, path, argv, envp, flags, false);
	if (!error && x.supervise && pt_supervise_self())
		error = EACCES;
	if (!error) {
		pt_exec_ready(&x);
#ifndef __APPLE__
		if (dirfd != AT_FDCWD || flags)
			error = -(int)PT_SYS5(SYS_execveat, x.dirfd, x.file, x.argv, x.envp, flags);
		else
#endif
			error = -sys_execve(x.file, x.argv, x.envp);
	}
	pt_exec_failed(op, &x, error);
	return error;
}

static int fail(int error)
{
	errno = error;
	return -1;
}

PT_EXPORT int PT_WRAP(execve)(const char *path, char *const argv[], char *const envp[])
{
	return fail(replace(PT_OP_execve, AT_FDCWD, path, argv, envp, 0));
}

#ifndef __APPLE__               /* there the others of the family come to execve through the symbol table */
PT_EXPORT int PT_WRAP(execv)(const char *path, char *const argv[])
{
	return fail(replace(PT_OP_execv, AT_FDCWD, path, argv, environ, 0));
}

PT_EXPORT int PT_WRAP(execveat)(int dirfd, const char *path, char *const argv[], char *const envp[], int flags)
{
	return fail(replace(PT_OP_execveat, dirfd, path, argv, envp, flags));
}

PT_EXPORT int PT_WRAP(fexecve)(int fd, char *const argv[], char *const envp[])
{
	if (fd < 0 || !argv || !envp)
		return fail(EINVAL);
	return fail(replace(PT_OP_fexecve, fd, "", argv, envp, AT_EMPTY_PATH));
}

bool pt_exec_candidate(const char **state, const char *file, char *buf, size_t size)
{
	while (*state) {
		const char *dir = *state;
		size_t n = strcspn(dir, ":"), f = strlen(file);
		*state = dir[n] ? dir + n + 1 : NULL;
		if (n + f + 2 > size)
			continue;
		memcpy(buf, dir, n);
		if (n)
			buf[n++] = '/';
		memcpy(buf + n, file, f + 1);
		return true;
	}
	return false;
}

/* What is neither ELF nor "#!" is given to the shell, as the C library does it. */
static int as_script(uint16_t op, const char *path, char *const *argv, char *const *envp)
{
	size_t n = pt_exec_count(argv);
	const char *shell[n + 3];
	shell[0] = "/bin/sh";
	shell[1] = path;
	for (size_t i = 1; i < n; i++)
		shell[i + 1] = argv[i];
	shell[n ? n + 1 : 2] = NULL;
	return replace(op, AT_FDCWD, "/bin/sh", (char *const *)(uintptr_t)shell, envp, 0);
}

static int search(uint16_t op, const char *file, char *const *argv, char *const *envp)
{
	bool denied = false;
	int error;
	if (!*file)
		return ENOENT;
	if (strchr(file, '/')) {
		error = replace(op, AT_FDCWD, file, argv, envp, 0);
		return error == ENOEXEC ? as_script(op, file, argv, envp) : error;
	}
	if (strnlen(file, 256) > 255)
		return ENAMETOOLONG;
	const char *path = getenv("PATH");
	if (!path)
		path = "/bin:/usr/bin";
	struct pt_slab *s = pt_on() ? pt_slab_exec(__builtin_frame_address(0), pt_exec_room(path, file)) : NULL;
	char small[512];
	char *candidate = s ? s->extra : small;
	error = ENOENT;
	while (pt_exec_candidate(&path, file, candidate, s ? s->cap : sizeof small)) {
		error = replace(op, AT_FDCWD, candidate, argv, envp, 0);
		if (error == ENOEXEC)
			error = as_script(op, candidate, argv, envp);
		if (error == EACCES)
			denied = true;
		else if (error != ENOENT && error != ESTALE && error != ENOTDIR && error != ENODEV && error != ETIMEDOUT)
			break;
	}
	if (s)
		s->owner = NULL;
	pt_slab_give(s);
	return denied && error != E2BIG ? EACCES : error;
}

PT_EXPORT int PT_WRAP(execvp)(const char *file, char *const argv[])
{
	return fail(search(PT_OP_execvp, file, argv, environ));
}

PT_EXPORT int PT_WRAP(execvpe)(const char *file, char *const argv[], char *const envp[])
{
	return fail(search(PT_OP_execvpe, file, argv, envp));
}

/* The list forms: counted first, then an array of just that size, as the C library does it. */
#define LIST(call, with_env) \
	va_list ap; \
	size_t n = 1; \
	va_start(ap, arg); \
	if (arg) \
		while (va_arg(ap, const char *)) \
			n++; \
	va_end(ap); \
	char *argv[n + 1]; \
	argv[0] = (char *)(uintptr_t)arg; \
	va_start(ap, arg); \
	if (arg) \
		for (size_t i = 1; i <= n; i++) \
			argv[i] = va_arg(ap, char *); \
	else \
		argv[n] = NULL; \
	char *const *envp = with_env ? va_arg(ap, char *const *) : environ; \
	va_end(ap); \
	return fail(call)

PT_EXPORT int PT_WRAP(execl)(const char *path, const char *arg, ...)
{
	LIST(replace(PT_OP_execl, AT_FDCWD, path, argv, envp, 0), false);
}

PT_EXPORT int PT_WRAP(execle)(const char *path, const char *arg, ...)
{
	LIST(replace(PT_OP_execle, AT_FDCWD, path, argv, envp, 0), true);
}

PT_EXPORT int PT_WRAP(execlp)(const char *file, const char *arg, ...)
{
	LIST(search(PT_OP_execlp, file, argv, envp), false);
}
#endif
