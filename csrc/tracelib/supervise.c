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

void pt_raise_fence(void)
{
	char path[sizeof pt.path];
	if (!(pt.flags & PT_IMG_FENCE) || !names() || !beside("unfenced", path, sizeof path) || pt_fence_stands(path))
		return;
	if (beside("fence", path, sizeof path))
		(void)pt_fence_raise_file(path, true);
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

bool pt_makes_own_calls(const char *path, const char *real, size_t len)
{
	char interpreter[16];
	/* What the build cannot have made is taken at its word: it leaves system calls to the C library. */
	return pt_decide(pt.image, PT_WRITE, real, len).action != PT_DENY &&
	       pt_elf_entry(path, true, interpreter, sizeof interpreter) == PT_ENTRY_RAW;
}

int pt_supervise_self(void)
{
	const char *what;
	return names() ? -pt_supervise(session, false, &what) : EACCES;
}

void pt_supervise_all(void)
{
	static _Atomic bool done;
	const char *what;
	if (atomic_exchange_explicit(&done, true, memory_order_relaxed) || !pt_has_supervisor())
		return;
	(void)pt_supervise(session, true, &what);
}

/* A library that the build can have made, and that makes system calls of its own, takes its host to the supervisor. */
void pt_watch_library(const char *name)
{
	char link[32], real[1024];
	if (!pt_on() || !strchr(name, '/'))
		return;
	int fd = sys_open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return;
	pt_fd_link(fd, link);
	ssize_t n = sys_readlink(link, real, sizeof real);
	if (n <= 0 || n == sizeof real || (pt_decide(pt.image, PT_WRITE, real, (size_t)n).action != PT_DENY && pt_elf_raw_calls(fd)))
		pt_supervise_all();
	sys_close(fd);
}
