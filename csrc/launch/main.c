/*
 * porttrace-launch: put a command inside a session.
 *
 *   porttrace-launch [--session DIR/N] [--uid U] [--gid G] [--groups A,B] [--fence | --fence=FILE]
 *                    [--supervise | --supervise=auto] [--no-preload] [--no-new-privs] [--chdir D] [--exec PATH] [--] COMMAND [ARG...]
 *
 * It runs between a fork and the exec of the real program, also where real and
 * effective uid differ (the loader then ignores LD_PRELOAD, so it is set here,
 * after the ids are equal). Where it gives up root it sets no_new_privs, so that no
 * set-user-ID program gives it back. --supervise=auto asks for supervision only where the
 * injected library cannot enter the program. --exec names the file, COMMAND is then
 * only the program's argv[0]. Exit status: 125 it could not start the command,
 * 126 the command cannot be executed, 127 it was not found; else the command's.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ids.h"
#ifdef __linux__
#include <sys/prctl.h>

#include "fence_linux.h"
#include "program.h"
#include "supervise_linux.h"
#include "tag_linux.h"
#include "sysraw.h"
#include "word.h"
#endif

#ifdef __APPLE__
#include <mach-o/dyld.h>
#include <stdint.h>

#define LIBRARY "tracelib.dylib"
#define PRELOAD "DYLD_INSERT_LIBRARIES"
#else
#define PRELOAD "LD_PRELOAD"
#endif

struct options {
	const char *session, *fence, *chdir, *file;
	bool raise_fence, supervise, automatic, no_new_privs, no_preload;
	struct pt_ids ids;
	char **command;
};

__attribute__((format(printf, 2, 3), noreturn)) static void leave(int status, const char *format, ...)
{
	char line[1024];
	int n = snprintf(line, sizeof line, "porttrace-launch: ");
	va_list args;
	va_start(args, format);
	int m = vsnprintf(line + n, sizeof line - (size_t)n - 1, format, args);
	va_end(args);
	n += m < (int)sizeof line - n - 1 ? m : (int)sizeof line - n - 2;
	line[n++] = '\n';
	(void)!write(2, line, (size_t)n);
	_exit(status);
}

#define fail(...) leave(125, __VA_ARGS__)

static unsigned number(const char *option, const char *text, const char **end)
{
	char *stop;
	errno = 0;
	unsigned long value = strtoul(text, &stop, 10);
	if (errno || stop == text || *text == '-' || *text == '+' || value >= 0xffffffffUL || (*stop && !(end && *stop == ',')))
		fail("%s wants a number, not '%s'", option, text);
	if (end)
		*end = stop;
	return (unsigned)value;
}

static void groups(struct pt_ids *ids, const char *list)
{
	ids->have_groups = true;
	while (*list) {
		if (ids->ngroups == PT_MAX_GROUPS)
			fail("--groups takes at most %d groups", PT_MAX_GROUPS);
		ids->groups[ids->ngroups++] = number("--groups", list, &list);
		if (*list)
			list++;
	}
}

/* The value of "--name VALUE" or "--name=VALUE"; NULL when `arg` is another option. */
static const char *value(const char *name, char ***argv)
{
	const char *arg = **argv;
	size_t len = strlen(name);
	if (strncmp(arg, name, len))
		return NULL;
	if (arg[len] == '=')
		return arg + len + 1;
	if (arg[len])
		return NULL;
	if (!(*argv)[1])
		fail("%s wants a value", name);
	return *++*argv;
}

static void parse(struct options *o, char **argv)
{
	const char *text;
	for (argv++; *argv && !strncmp(*argv, "--", 2); argv++) {
		if (!strcmp(*argv, "--")) {
			argv++;
			break;
		}
		if (!strcmp(*argv, "--fence")) {
			o->raise_fence = true;
		} else if (!strncmp(*argv, "--fence=", 8)) {
			o->raise_fence = true;
			o->fence = *argv + 8;
		} else if (!strcmp(*argv, "--supervise")) {
			o->supervise = true;
		} else if (!strcmp(*argv, "--supervise=auto")) {
			o->automatic = true;
		} else if (!strcmp(*argv, "--no-preload")) {
			o->no_preload = true;
		} else if (!strcmp(*argv, "--no-new-privs")) {
			o->no_new_privs = true;
		} else if ((text = value("--session", &argv))) {
			o->session = text;
		} else if ((text = value("--chdir", &argv))) {
			o->chdir = text;
		} else if ((text = value("--exec", &argv))) {
			o->file = text;
		} else if ((text = value("--uid", &argv))) {
			o->ids.uid = number("--uid", text, NULL);
			o->ids.have_uid = true;
		} else if ((text = value("--gid", &argv))) {
			o->ids.gid = number("--gid", text, NULL);
			o->ids.have_gid = true;
		} else if ((text = value("--groups", &argv))) {
			groups(&o->ids, text);
		} else {
			fail("unknown option %s", *argv);
		}
	}
	if (!*argv)
		fail("no command given; usage: porttrace-launch [--session DIR/N] [--uid U] [--gid G] [--groups A,B] "
		     "[--fence[=FILE]] [--supervise[=auto]] [--no-preload] [--no-new-privs] [--chdir D] [--exec PATH] [--] COMMAND [ARG...]");
	o->command = argv;
	if (o->session && o->session[0] != '/')
		fail("--session wants an absolute path, not '%s'", o->session);
	if (!o->session && ((o->raise_fence && !o->fence) || o->supervise || o->automatic))
		fail("%s needs --session", o->supervise || o->automatic ? "--supervise" : "--fence without a file");
}

const char *pt_beside(const char *dir, const char *name)
{
	char *path = malloc(strlen(dir) + strlen(name) + 2);
	if (!path)
		fail("out of memory");
	stpcpy(stpcpy(stpcpy(path, dir), "/"), name);
	return path;
}

static bool is_ours(const char *entry, size_t len)
{
	static const char *const names[] = {
		LIBRARY,
#ifdef MUSL_LIBRARY
		MUSL_LIBRARY,
#endif
	};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		size_t n = strlen(names[i]);
		if (len > n && entry[len - n - 1] == '/' && !memcmp(entry + len - n, names[i], n))
			return true;
	}
	return false;
}

/* Our library (`name`) first, or none; what the caller preloads stays, except a library of ours: one decides, not two. */
static void preload(const char *session, const char *name)
{
	const char *library = pt_beside(session, name ? name : LIBRARY);
	if (strpbrk(session, ": "))
		fail("the session's path '%s' has a character that " PRELOAD " cannot carry", session);
	if (access(library, R_OK))
		fail("%s: %s; the session is over or not yet started", library, strerror(errno));
	const char *old = getenv(PRELOAD);
	char *list = malloc(strlen(library) + (old ? strlen(old) : 0) + 2), *end = list;
	if (!list)
		fail("out of memory");
	*list = 0;
	if (name)
		end = stpcpy(list, library);
	for (const char *at = old ? old : ""; *at;) {
		size_t len = strcspn(at, ": ");
		if (len && !is_ours(at, len)) {
			if (end != list)
				*end++ = ':';
			memcpy(end, at, len);
			end += len;
			*end = 0;
		}
		at += len;
		at += strspn(at, ": ");
	}
	if (*list ? setenv(PRELOAD, list, 1) : unsetenv(PRELOAD))
		fail("out of memory");
}

#ifdef __linux__
/* The other policies of the session lie beside this one's. */
static bool is_of_another(const char *session, uint64_t tag)
{
	for (int n = 1;; n++) {
		char path[PATH_CAP];
		snprintf(path, sizeof path, "%s/../%d", session, n);
		uint64_t other = pt_tag_of(path);
		if (other == tag || !other)
			return other == tag;
	}
}

/* A process keeps the policy that it was started with: nobody gets from one phase to another, which may do more. */
static void join(const char *session)
{
	bool fenced;
	uint64_t tag = pt_tag_of(session), own = pt_tag_own(&fenced);
	if (own == UINT64_MAX)
		pt_tag_take(tag);
	else if (own != tag && pt_is_tag(own) && is_of_another(session, own))
		fail("%s: this process belongs to another phase of the session", session);
}

static const char *fence_of(const struct options *o)
{
	return !o->raise_fence ? NULL : o->fence ? o->fence : pt_beside(o->session, "fence");
}

static void hold(const struct options *o)
{
	int err;
	const char *fence = fence_of(o);
	if (fence && (err = pt_fence_raise_file(fence, true))) {
		if (err == -EOPNOTSUPP || err == -ENOSYS)
			fail("this kernel has no Landlock, so the fence cannot be raised; see porttrace doctor");
		fail("cannot raise the fence of %s: %s", fence, err == -EINVAL ? "the list is malformed" : strerror(-err));
	}
	if (fence)
		pt_tag_fenced();
	/* Given up for good means also: not regained through a set-user-ID program, whatever tiers there are. */
	if ((o->no_new_privs || o->ids.left_root) && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		fail("cannot set no_new_privs: %s", strerror(errno));
	const char *what = "";
	if (o->supervise && (err = pt_supervise(o->session, false, &what)))
		fail("cannot be supervised: %s: %s", what, strerror(-err));
}
#else

/* The fence is a Seatbelt profile. What cannot carry the library shows in a report: there is no supervisor. */
int sandbox_init(const char *profile, uint64_t flags, char **error);
int sandbox_check(pid_t pid, const char *operation, int type, ...);

static void hold(const struct options *o)
{
	const char *file = !o->raise_fence ? NULL : o->fence ? o->fence : pt_beside(o->session, "fence");
	if (o->supervise)
		fail("there is no supervisor on this system");
	if (!file || sandbox_check(getpid(), NULL, 0))
		return;
	struct stat st;
	int fd = open(file, O_RDONLY | O_CLOEXEC);
	char *text = fd >= 0 && !fstat(fd, &st) ? malloc((size_t)st.st_size + 1) : NULL, *why = NULL;
	if (!text || read(fd, text, (size_t)st.st_size) != st.st_size)
		fail("cannot read the fence of %s: %s", file, strerror(errno));
	text[st.st_size] = 0;
	close(fd);
	if (sandbox_init(text, 0, &why))
		fail("cannot raise the fence of %s: %s", file, why ? why : strerror(errno));
	free(text);
}
#endif

#ifdef __APPLE__
/*
 * Once more, with the library inside: what is to be started may be protected by the system (/bin/sh), and the library
 * knows how such a program is entered.
 */
static void again(const struct options *o)
{
	char self[4096];
	uint32_t size = sizeof self;
	size_t n = 0;
	while (o->command[n])
		n++;
	char **words = calloc(n + 5, sizeof *words);
	if (!words || _NSGetExecutablePath(self, &size))
		fail("out of memory");
	size_t k = 0;
	words[k++] = self;
	if (o->file) {
		words[k++] = (char *)(uintptr_t)"--exec";
		words[k++] = (char *)(uintptr_t)o->file;
	}
	words[k++] = (char *)(uintptr_t)"--";
	for (size_t i = 0; i < n; i++)
		words[k++] = o->command[i];
	execv(self, words);
	fail("%s: %s", self, strerror(errno));
}
#endif

int main(int argc, char **argv)
{
	struct options o = { 0 };
	(void)argc;
	parse(&o, argv);
#ifdef __linux__
	if (o.session)
		join(o.session);
#endif
	const char *what = pt_ids_drop(&o.ids);
	if (what)
		fail("%s failed: %s", what, strerror(errno));
	if (o.chdir && chdir(o.chdir))
		fail("cannot change to %s: %s", o.chdir, strerror(errno));
#ifdef __linux__
	struct pt_command program = { .entry = PT_ENTRY_TRACELIB, .library = LIBRARY };
	if (o.session && (o.automatic || !o.no_preload))
		pt_command_of(&program, o.file ? o.file : o.command[0], o.command, o.session, fence_of(&o));
	o.supervise = o.supervise || (o.automatic && program.supervise);
	if (o.session) /* a loader of another kind would complain of our library, or stop */
		preload(o.session, o.no_preload ? NULL : program.library);
	if (*program.path && !o.supervise)
		pt_word_of_exec(o.session, program.path, o.file ? o.file : o.command[0], program.entry);
	bool instead = o.automatic && !o.supervise && program.file;
	const char *command = o.file ? o.file : o.command[0];
	if (instead) {
		o.file = program.file;
		o.command = program.words ? program.words : o.command;
	}
#else
	const char *command = o.file ? o.file : o.command[0];
	if (o.session)
		preload(o.session, o.no_preload ? NULL : LIBRARY);
#endif
	hold(&o);
#ifdef __APPLE__
	if (o.session && !o.no_preload)
		again(&o);
#else
	if (instead && program.error)
		leave(126, "%s: %s", command, strerror(program.error));
#endif
	if (o.file)
		execv(o.file, o.command);
	else
		execvp(o.command[0], o.command);
	int err = errno;
#ifdef __linux__
	pt_word_of_failure(err);
#endif
	leave(err == ENOENT || err == ENOTDIR ? 127 : 126, "%s: %s", command, strerror(err));
}
