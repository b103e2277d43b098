/* sys.h on macOS: what is too long for the header, and what the library must know of itself. */
#include <libproc.h>
#include <mach-o/dyld.h>
#include <mach-o/loader.h>
#include <poll.h>
#include <sys/attr.h>
#include <sys/mount.h>
#include <sys/socket.h>

#include "exec.h"

/*
 * Whether an image's code holds this address: its header is the beginning of its segment __TEXT. Not by __dso_handle, which
 * is the header with Apple's linker and a place in the data with another one.
 */
static bool holds(const struct mach_header_64 *h, uintptr_t address)
{
	const char *at = (const char *)(h + 1);
	for (uint32_t i = 0; i < h->ncmds; i++) {
		const struct segment_command_64 *c = (const void *)at;
		if (c->cmd == LC_SEGMENT_64 && strncmp(c->segname, "__TEXT", sizeof c->segname) == 0)
			return address - (uintptr_t)h < c->vmsize;
		at += c->cmdsize;
	}
	return false;
}

/* As the loader knows it. Only asked at the start, while no other thread loads anything. */
const char *pt_own_path(void)
{
	for (uint32_t i = 0, n = _dyld_image_count(); i < n; i++) {
		const struct mach_header_64 *h = (const void *)_dyld_get_image_header(i);
		if (h && holds(h, (uintptr_t)&pt_own_path))
			return _dyld_get_image_name(i);
	}
	return NULL;
}

void pt_used_libraries(void)
{
	for (uint32_t i = 0, n = _dyld_image_count(); i < n; i++) {
		const char *name = _dyld_get_image_name(i);
		if (name)
			pt_used_library(name);
	}
}

/* Asked only with room for any path: for less libproc says nothing at all. That it may be too little is told as readlink tells it. */
ssize_t sys_exe(char *buf, size_t size)
{
	if (size < MAXPATHLEN)
		return (ssize_t)size;
	return PT_DARWIN(ssize_t, proc_pidpath(getpid(), buf, size > PROC_PIDPATHINFO_MAXSIZE ? PROC_PIDPATHINFO_MAXSIZE : (uint32_t)size));
}

/* F_GETPATH wants room for MAXPATHLEN bytes. EBADF also where it is a pipe or a socket: what that is, the call itself will say. */
ssize_t sys_fd_path(int fd, char *buf, size_t size)
{
	if (size < MAXPATHLEN)
		return -ENAMETOOLONG;
	int r = PT_DARWIN(int, pt_sys_fcntl(fd, F_GETPATH, buf));
	return r < 0 ? r : (ssize_t)strlen(buf);
}

ssize_t sys_cwd(char *buf, size_t size)
{
	int fd = sys_open(".", O_EVTONLY | O_CLOEXEC);
	if (fd < 0)
		return fd;
	ssize_t n = sys_fd_path(fd, buf, size);
	sys_close(fd);
	return n;
}

/* ---- second names ---- */

/* What the system's own list says where it cannot be read, as of macOS 11 to 15: a place, and where on the data volume it is. */
static const char usual_firmlinks[] =
	"/AppleInternal\tAppleInternal\n/Applications\tApplications\n/Library\tLibrary\n/System/Library/Caches\tSystem/Library/Caches\n"
	"/System/Library/Assets\tSystem/Library/Assets\n/System/Library/PreinstalledAssets\tSystem/Library/PreinstalledAssets\n"
	"/System/Library/AssetsV2\tSystem/Library/AssetsV2\n/System/Library/PreinstalledAssetsV2\tSystem/Library/PreinstalledAssetsV2\n"
	"/System/Library/CoreServices/CoreTypes.bundle/Contents/Library\tSystem/Library/CoreServices/CoreTypes.bundle/Contents/Library\n"
	"/System/Library/Speech\tSystem/Library/Speech\n/Users\tUsers\n/Volumes\tVolumes\n/cores\tcores\n/opt\topt\n/private\tprivate\n"
	"/usr/local\tusr/local\n/usr/libexec/cups\tusr/libexec/cups\n/usr/share/snmp\tusr/share/snmp\n";

/* Read when a path below the data volume comes up for the first time; who reads at the same time writes the same bytes. */
static const char *firmlinks(void)
{
	static char list[8192];
	static _Atomic int known;      /* 1: list has it, 2: there is none */
	int is = atomic_load_explicit(&known, memory_order_acquire);
	if (!is) {
		int fd = sys_open("/usr/share/firmlinks", O_RDONLY | O_CLOEXEC);
		ssize_t n = fd < 0 ? -1 : sys_pread(fd, list, sizeof list - 1, 0);
		if (fd >= 0)
			sys_close(fd);
		is = n > 0 && n < (ssize_t)sizeof list - 1 ? 1 : 2;
		atomic_store_explicit(&known, is, memory_order_release);
	}
	return is == 1 ? list : usual_firmlinks;
}

/* The name that counts of what lies at `path` on the data volume; its length, 0: it is no such place. */
static size_t firmlink(const char *path, size_t len, const char **name)
{
	for (const char *line = firmlinks(), *end; *line; line = *end ? end + 1 : end) {
		size_t n = strcspn(line, "\t\n");
		end = line + n + strcspn(line + n, "\n");
		const char *there = line[n] == '\t' ? line + n + 1 : line + 1;
		if ((size_t)(end - there) == len && memcmp(there, path, len) == 0) {
			*name = line;
			return n;
		}
	}
	return 0;
}

static ssize_t by_number(const char *path, char *buf, size_t size)
{
	int fd = sys_open(path, O_EVTONLY | O_SYMLINK | O_CLOEXEC);
	if (fd < 0)
		return 0;
	ssize_t n = sys_fd_path(fd, buf, size);
	sys_close(fd);
	return n > 0 && buf[0] == '/' && strncmp(buf, "/.vol/", 6) != 0 ? n : 0;
}

ssize_t sys_alias(const char *path, size_t len, char *buf, size_t size)
{
	if (len > 6 && memcmp(path, "/.vol/", 6) == 0) {
		const char *number = memchr(path + 6, '/', len - 6);
		if (!number || memchr(number + 1, '/', len - (size_t)(number + 1 - path)))
			return 0;
		return by_number(path, buf, size);
	}
	size_t head = sizeof PT_DATA_VOLUME, n = 0;             /* with the slash behind it */
	const char *name;
	if (len > head && memcmp(path, PT_DATA_VOLUME "/", head) == 0 && (n = firmlink(path + head, len - head, &name)) && n < size) {
		memcpy(buf, name, n);
		buf[n] = 0;
		return (ssize_t)n;
	}
	return 0;
}

static char folded(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + 'a' - 'A') : c;
}

/* The same name but for letters' case and what is not ASCII? A volume's name, for instance, is another one. */
static bool akin(const char *a, size_t n, const char *b, size_t m)
{
	size_t i = 0;
	while (i < n && i < m && folded(a[i]) == folded(b[i]))
		i++;
	return (i == n && i == m) || (i < n && (a[i] & 0x80)) || (i < m && (b[i] & 0x80));
}

size_t sys_true_name(char *path, size_t dir, size_t len)
{
	struct {
		uint32_t length;
		attrreference_t name;
		char rest[NAME_MAX * 3 + 16];
	} __attribute__((packed, aligned(4))) out;
	struct attrlist want = { .bitmapcount = ATTR_BIT_MAP_COUNT, .commonattr = ATTR_CMN_NAME };
	if (PT_DARWIN(int, getattrlist(path, &want, &out, sizeof out, FSOPT_NOFOLLOW)) < 0 || out.name.attr_length < 2 ||
	    out.name.attr_dataoffset < (int)sizeof out.name ||
	    (size_t)out.name.attr_dataoffset + out.name.attr_length > sizeof out - sizeof out.length)
		return len;
	const char *name = (const char *)&out.name + out.name.attr_dataoffset;
	size_t n = out.name.attr_length - 1;
	if ((n == len && memcmp(name, path + dir + 1, n) == 0) || !akin(path + dir + 1, len, name, n) || dir + n + 2 > PT_PATH_CAP)
		return len;
	memcpy(path + dir + 1, name, n);
	path[dir + 1 + n] = 0;
	return n;
}

/* ---- the session ---- */

int pt_sys_connect(int fd, const struct sockaddr *to, socklen_t size) __asm__("_connect$NOCANCEL");
ssize_t pt_sys_send(int fd, const void *data, size_t size, int flags) __asm__("_send$NOCANCEL");
ssize_t pt_sys_recv(int fd, void *buf, size_t size, int flags) __asm__("_recv$NOCANCEL");
int pt_sys_poll(struct pollfd *all, nfds_t count, int timeout_ms) __asm__("_poll$NOCANCEL");

/* Waits for an answer. A signal of the host begins the wait anew, but not without end. */
static bool answered(int fd, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	for (int tries = 0; tries < 100; tries++) {
		int n = pt_sys_poll(&p, 1, timeout_ms);
		if (n == 0)
			errno = ETIMEDOUT;
		if (n >= 0 || errno != EINTR)
			return n == 1;
	}
	return false;
}

static ssize_t sent(int fd, const char *data, size_t size)
{
	ssize_t n;
	while ((n = pt_sys_send(fd, data, size, 0)) < 0 && errno == EINTR)
		;
	return n;
}

static ssize_t received(int fd, char *buf, size_t size)
{
	ssize_t n;
	while ((n = pt_sys_recv(fd, buf, size, 0)) < 0 && errno == EINTR)
		;
	return n;
}

/* AF_UNIX has no packets here: a stream, one question and one answer, each ended by its sender. */
ssize_t sys_ask(const struct sockaddr_un *to, const void *question, size_t size, void *answer, size_t room, int timeout_ms)
{
	int kept = errno, one = 1;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	ssize_t n = -1, got = 0;
	if (fd >= 0 && pt_sys_fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 && setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &one, sizeof one) == 0 &&
	    pt_sys_connect(fd, (const struct sockaddr *)to, sizeof *to) == 0) {
		size_t told = 0;
		while (told < size && (n = sent(fd, (const char *)question + told, size - told)) > 0)
			told += (size_t)n;
		n = -1;
		if (told == size && shutdown(fd, SHUT_WR) == 0)
			while ((size_t)got < room && answered(fd, timeout_ms) && (n = received(fd, (char *)answer + got, room - (size_t)got)) > 0)
				got += n;
	}
	int error = errno;
	if (fd >= 0)
		sys_close(fd);
	errno = kept;
	return n == 0 ? got : error ? -error : -EIO;
}

/* ---- tiers that are not here ---- */

extern int sandbox_check(pid_t pid, const char *operation, int type, ...);
extern int sandbox_init(const char *profile, uint64_t flags, char **error);
extern void sandbox_free_error(char *error);

/*
 * The fence: a Seatbelt profile, which the session has written beside the library. Only by our constructor: that function loads a
 * library and allocates, for which libSystem is not ready where one of its own initialisers was the first to call a wrapper.
 */
static void raise_fence(void)
{
	char name[sizeof pt.path + 8];
	size_t dir = pt.path_len;
	struct stat st;
	if (!(pt.flags & PT_IMG_FENCE) || sandbox_check(getpid(), NULL, 0) != 0)
		return;
	while (dir && pt.path[dir - 1] != '/')
		dir--;
	memcpy(name, pt.path, dir);
	memcpy(name + dir, "fence", 6);
	int fd = sys_open(name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return;
	/* one byte more, so that the text ends: what lies behind a file in its last page is zero */
	if (sys_fstat(fd, &st) == 0 && st.st_size > 0 && st.st_size % 4096) {
		char *text = sys_mmap((size_t)st.st_size + 1, PROT_READ, MAP_PRIVATE, fd), *why = NULL;
		if (text && sandbox_init(text, 0, &why) < 0)
			sandbox_free_error(why);
		if (text)
			sys_munmap(text, (size_t)st.st_size + 1);
	}
	sys_close(fd);
}

void pt_enter_session(void)
{
	int kept = errno;
	raise_fence();
	errno = kept;
}

/* There is no supervisor on macOS. */
bool pt_has_supervisor(void)
{
	return false;
}

bool pt_wants_supervisor(const char *path, const char *real, size_t len)
{
	(void)path, (void)real, (void)len;
	return false;
}

/* A library that makes its own calls is as far out of reach as a program that does: nobody could answer for it. */
bool pt_watch_library(const char *name)
{
	(void)name;
	return true;
}

bool pt_loader_led_astray(char *const *envp)
{
	(void)envp;
	return false;
}

bool pt_is_supervised(void)
{
	return false;
}

int pt_supervise_self(void)
{
	return EACCES;
}
