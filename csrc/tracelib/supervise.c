/*
 * The other tiers, as seen from inside: the kernel's fence is raised in the
 * first process of a session that has none yet (where port does not start its
 * children through the launcher), and a program that the library cannot enter
 * is put under the session's supervisor before it starts.
 */
#include "elf_linux.h"
#include "exec.h"
#include "fence_linux.h"
#include "supervise_linux.h"
#include "tag_linux.h"

#include <linux/seccomp.h>
#include <sys/prctl.h>

/* Written once with the same bytes by whoever comes first; the library's path never changes. */
static char session[sizeof pt.path], launcher[sizeof pt.path];

static bool names(void)
{
	const char *slash = memrchr(pt.path, '/', pt.path_len), *above;
	if (launcher[0])
		return true;
	if (!slash || slash == pt.path || !(above = memrchr(pt.path, '/', (size_t)(slash - pt.path))))
		return false;
	size_t n = (size_t)(above - pt.path);
	if (n + sizeof "/launch" > sizeof launcher)
		return false;
	memcpy(session, pt.path, (size_t)(slash - pt.path));
	memcpy(launcher + 1, pt.path + 1, n - 1);
	memcpy(launcher + n, "/launch", sizeof "/launch");
	launcher[0] = '/';
	return true;
}

static bool beside(const char *name, char *out, size_t size)
{
	size_t n = strlen(session), m = strlen(name);
	if (n + m + 2 > size)
		return false;
	memcpy(out, session, n);
	out[n] = '/';
	memcpy(out + n + 1, name, m + 1);
	return true;
}

/* The tag first: from then on whatever becomes of the process is found at the end of the phase. */
void pt_enter_session(void)
{
	char path[sizeof pt.path];
	bool fenced;
	if (pt_tag_own(&fenced) == UINT64_MAX && names())
		pt_tag_take(pt_tag_of(session));
	if (fenced || !(pt.flags & PT_IMG_FENCE) || !names())
		return;
	if ((beside("unfenced", path, sizeof path) && pt_fence_stands(path)) ||
	    (beside("fence", path, sizeof path) && !pt_fence_raise_file(path, true)))
		pt_tag_fenced();
}

const char *pt_session_dir(void)
{
	return names() ? session : NULL;
}

const char *pt_launcher(void)
{
	return names() ? launcher : NULL;
}

/* Only where the session has a supervisor, which listens beside the library. */
bool pt_has_supervisor(void)
{
	char path[sizeof pt.path];
	struct stat st;
	return names() && beside("supervise", path, sizeof path) && sys_lstat(path, &st) == 0 && S_ISSOCK(st.st_mode);
}

static bool starts(const char *path, size_t len, const char *with)
{
	size_t n = strlen(with);
	return len > n && !memcmp(path, with, n);
}

/* The system's own, or a port's: it was there before this build, which cannot write there. */
static bool vouched(const char *real, size_t len)
{
	static const char *const system[] = { "/usr/", "/lib/", "/lib64/", "/lib32/", "/libx32/", "/bin/", "/sbin/" };
	if (!len || real[0] != '/')
		return false;
	bool fixed = pt_decide(pt.image, PT_WRITE, real, len).action == PT_DENY;
	for (size_t i = 0; i < sizeof system / sizeof *system; i++)
		if (starts(real, len, system[i])) /* where all of the system may be written there is nothing to hold */
			return fixed || pt_decide(pt.image, PT_WRITE, system[i], strlen(system[i]) - 1).action != PT_DENY;
	if (!fixed)
		return false;
	struct pt_verdict v = pt_decide(pt.image, PT_READ, real, len);
	return v.port != PT_NO_PORT || (v.flags & PT_V_ASKED);
}

/* Interpreters that come with calls to any address: by their scripts the system's own program runs the build's own code. */
static bool calls_anything(const char *real, size_t len)
{
	static const char *const names[] = { "luajit", "guile", "luatex", "luahbtex", "nvim", "sbcl", "ecl", "clisp", "racket", "julia", "gst", "pike" };
	const char *name = memrchr(real, '/', len) + 1;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (!strncmp(name, names[i], strlen(names[i])))
			return true;
	return false;
}

/*
 * Code that the build has made can do more than call the C library: make system calls of its own, find the C
 * library's own instructions, change our memory. No look at its file shows that, so it is always supervised. What lies
 * elsewhere is looked at: there a program may be somebody's tool, and most leave system calls to the C library.
 */
bool pt_wants_supervisor(const char *path, const char *real, size_t len)
{
	bool musl;
	if (vouched(real, len))
		return calls_anything(real, len);
	if (real[0] != '/' || starts(real, len, "/memfd:") || pt_decide(pt.image, PT_WRITE, real, len).action != PT_DENY)
		return true;
	return pt_elf_entry(path, true, &musl, NULL, NULL) == PT_ENTRY_RAW;
}

/*
 * Does the loader get to see something else than the system's own? It acts before any code of ours: what it opens for
 * such a program is judged by the supervisor.
 */
static bool leads_astray(const char *list)
{
	static const char *const system[] = { "/usr/lib", "/lib" };
	for (size_t n; *list; list += n + (list[n] != 0)) {
		n = strcspn(list, ": ;");
		if ((n == pt.path_len && !memcmp(list, pt.path, n)) || !memchr(list, '/', n))
			continue; /* ours, or a bare name: found where the loader looks, which is another variable's affair */
		const char *other = pt_other_library();
		bool own = other && n == strlen(other) && !memcmp(list, other, n);
		for (size_t i = 0; i < sizeof system / sizeof *system && !own; i++)
			own = starts(list, n + 1, system[i]);
		if (!own || memmem(list, n, "/..", 3))
			return true;
	}
	return false;
}

static bool empty_entry(const char *list)
{
	return !*list || *list == ':' || *list == ';' || strstr(list, "::") || list[strlen(list) - 1] == ':';
}

/* Files that the C library opens by itself, past us: zones, locales, messages, names of hosts. Judged by the supervisor, as what the loader opens. */
static bool names_files(const char *entry)
{
	static const struct { const char *name, *base; } variables[] = {
		{ "TZ=", "/usr/share/zoneinfo/" }, { "TZDIR=", "/usr/share/zoneinfo" }, { "LOCPATH=", "/usr/lib/locale" },
		{ "LANGUAGE=", NULL }, { "NLSPATH=", "/usr/" }, { "DATEMSK=", "/usr/" }, { "HOSTALIASES=", NULL },
	};
	for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) {
		const char *value = entry + strlen(variables[i].name), *base = variables[i].base;
		if (strncmp(entry, variables[i].name, (size_t)(value - entry)))
			continue;
		if (entry[1] == 'A')           /* a list of names below the directory of messages, unless one is a path */
			return strchr(value, '/');
		value += !i && *value == ':';
		if (!*value || (!i && *value != '/')) /* a zone's name is below the directory of all, unless it climbs */
			return strstr(value, "..");
		size_t n = strlen(value);
		return memmem(value, n, "..", 2) || strchr(value, ':') ||
		       !(starts(value, n, "/etc/") || (base && (!strcmp(value, base) || starts(value, n, base))));
	}
	return false;
}

bool pt_loader_led_astray(char *const *envp)
{
	for (; envp && *envp; envp++) {
		const char *e = *envp;
		if (e[0] == 'L' && e[1] == 'D' && e[2] == '_') {
			if (!strncmp(e, "LD_PRELOAD=", 11) || !strncmp(e, "LD_AUDIT=", 9)) {
				if (leads_astray(strchr(e, '=') + 1))
					return true;
			} else if (!strncmp(e, "LD_LIBRARY_PATH=", 16) && e[16]) {
				if (leads_astray(e + 16) || empty_entry(e + 16) || strncmp(e + 16, "/", 1))
					return true;
			}
		} else if (e[0] == 'G' && !strncmp(e, "GCONV_PATH=", 11) && e[11] && (e[11] != '/' || leads_astray(e + 11))) {
			return true;
		} else if (e[0] >= 'D' && e[0] <= 'T' && names_files(e)) {
			return true;
		}
	}
	return false;
}

/* The first question is quick, and the answer mostly no. */
bool pt_is_supervised(void)
{
	return sys_filtered() && pt_supervised();
}

int pt_supervise_self(void)
{
	const char *what;
	return names() ? -pt_supervise(session, false, &what) : EACCES;
}

/* Whoever comes while another thread is at it does the same again: the kernel then says that it is done. */
bool pt_supervise_all(void)
{
	static _Atomic bool done;
	const char *what;
	if (atomic_load_explicit(&done, memory_order_acquire) || !pt_has_supervisor())
		return true;
	if (pt_supervise(session, true, &what))
		return pt_supervised(); /* no: it has filters of its own that keep ours away; it must do without what it wanted */
	pt.supervised = true;
	atomic_store_explicit(&done, true, memory_order_release);
	return true;
}

/* By which scripts can call any address: then the system's own interpreter runs the build's own code. */
static bool opens_everything(const char *name)
{
	static const char *const doors[] = { "/_ctypes", "cffi", "/ffi.so", "ffidl", "/alien", "/fiddle.so", "/Platypus.so", "liburing.so", "libc.so" };
	for (size_t i = 0; i < sizeof doors / sizeof *doors; i++)
		if (strstr(name, doors[i]))
			return true;
	return false;
}

/* A library that the build can have made, or that opens the way to its code, takes its host to the supervisor. false: it must not be loaded. */
bool pt_watch_library(const char *name)
{
	char link[32], real[1024];
	if (!pt_on())
		return true;
	if (opens_everything(name))
		return pt_supervise_all();
	if (!strchr(name, '/'))
		return true;
	int fd = sys_open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return true;
	pt_fd_link(fd, link);
	ssize_t n = sys_readlink(link, real, sizeof real);
	bool suspect = n <= 0 || n == sizeof real || (!vouched(real, (size_t)n) &&
		(pt_decide(pt.image, PT_WRITE, real, (size_t)n).action != PT_DENY || pt_elf_raw_calls(fd)));
	sys_close(fd);
	return !suspect || pt_supervise_all();
}
