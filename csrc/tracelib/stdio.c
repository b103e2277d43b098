/*
 * Streams. Where anything of the path can be exchanged between our look and the kernel's, the C library is not given the
 * path: what was judged is opened here, and made a stream; or held, and opened once more by its descriptor, where only
 * the C library's own opening will do (a stream that is there already, a character set).
 */
#include "headers.h"

#ifdef __GLIBC__
#define LETTERS 6                      /* so many behind the first does its fopen look at */
#else
#define LETTERS SIZE_MAX
#endif

int pt_stream_flags(const char *mode)
{
	int access, more;
	if (pt_bad_pointer(mode))
		return -1;
	switch (mode[0]) {
	case 'r': access = O_RDONLY; more = 0; break;
	case 'w': access = O_WRONLY; more = O_CREAT | O_TRUNC; break;
	case 'a': access = O_WRONLY; more = O_CREAT | O_APPEND; break;
	default: return -1;
	}
	for (size_t i = 1; i <= LETTERS && mode[i]; i++) {
		if (mode[i] == '+')
			access = O_RDWR;
		else if (mode[i] == 'x')
			more |= O_EXCL;
		else if (mode[i] == 'e')
			more |= O_CLOEXEC;
	}
	return access | more;
}

void pt_intend_stream(struct pt_at *at, const char *mode)
{
	int flags = pt_stream_flags(mode);
	pt_intend_open(at, flags < 0 ? O_RDONLY : flags);
}

typedef FILE *fopen_t(const char *, const char *);
typedef FILE *freopen_t(const char *, const char *, FILE *);

static FILE *known(FILE *f)
{
	if (f)
		pt_fd_forget(fileno(f));
	return f;
}

/* The descriptor becomes a stream, or is closed. Its mode is told anew: the C library reads fewer letters here. */
static FILE *stream_of(int fd, const char *mode, int flags)
{
	typedef FILE *real_t(int, const char *);
	char own[4] = { mode[0] }, *more = own + 1;
	int kept = errno;              /* it seeks, which a pipe refuses */
	if ((flags & O_ACCMODE) == O_RDWR)
		*more++ = '+';
#ifdef __GLIBC__
	if (memchr(mode, 'm', strnlen(mode, LETTERS + 1)))
		*more++ = 'm';
	if ((flags & O_APPEND) && (flags & O_ACCMODE) == O_WRONLY)
		lseek(fd, 0, SEEK_END);  /* as its fopen */
#endif
	FILE *f = PT_REAL(real_t, fdopen)(fd, own);
	if (f)
		errno = kept;
	else
		sys_close(fd);
	return f;
}

static FILE *by_path(const char *path, const char *mode, FILE *stream)
{
	return stream ? PT_REAL(freopen_t, freopen)(path, mode, stream) : PT_REAL(fopen_t, fopen)(path, mode);
}

/* A character set is read from the mode by fopen alone, and then the stream has not the lowest number that was free. */
static bool has_charset(const char *mode)
{
#ifdef __GLIBC__
	return strstr(mode, ",ccs=");
#else
	(void)mode;
	return false;
#endif
}

static bool new_only(int flags)
{
	return (flags & O_CREAT) && (flags & O_EXCL);
}

int pt_hold_stream(uint16_t op, const struct pt_at *at, int flags)
{
	size_t n = strlen(at->path);
	int fd = -ENOENT;
	if (!(flags & O_CREAT) || !(new_only(flags) || at->path[n - 1] == '/'))
		fd = pt_open_judged(op, at, O_PATH | O_CLOEXEC, 0);
	if (fd == -ENOENT && (flags & O_CREAT))
		fd = pt_open_judged(op, at, (flags & (O_ACCMODE | O_CREAT | O_EXCL)) | O_CLOEXEC, 0666);
	return fd;
}

const char *pt_mode_there(const char *mode, int flags, char there[PT_MODE])
{
	if (!new_only(flags))
		return mode;
	size_t n = strnlen(mode, PT_MODE - 1);
	memcpy(there, mode, n);
	there[n] = 0;
	for (char *x = there; (x = strchr(x, 'x')) && (size_t)(x - there) <= LETTERS;)
		*x = 'b';
	return there;
}

/* Takes the descriptor. */
static FILE *by_descriptor(int fd, const char *mode, int flags, FILE *stream)
{
	char name[PT_FD_LINK], there[PT_MODE];
	pt_fd_link(fd, name);
	FILE *f = by_path(name, pt_mode_there(mode, flags, there), stream);
	int kept = errno;
	sys_close(fd);
	errno = kept;
	return f;
}

/* `stream`: to be opened anew; closed where nothing comes of it. */
static FILE *judged(uint16_t op, const char *path, const char *mode, int flags, FILE *stream)
{
	typedef int close_t(FILE *);
	for (int again = 0;; again++) {
		struct pt_at at = { .dirfd = AT_FDCWD, .path = path };
		pt_intend_open(&at, flags);
		int error = pt_judge(op, &at), fd = -1;
		bool used = false;             /* the C library has the stream, and has closed it if it failed */
		FILE *f = NULL;
		if (!error && pt_settled(&at)) {
			f = known(by_path(at.path, mode, stream));
			used = true;
		} else if (!error && (stream || has_charset(mode))) {
			fd = pt_hold_stream(op, &at, flags);
			used = fd >= 0;
			f = used ? known(by_descriptor(fd, mode, flags, stream)) : NULL;
		} else if (!error) {
			fd = pt_open_judged(op, &at, flags, 0666);
			used = fd >= 0;
			f = used ? stream_of(fd, mode, flags) : NULL;
			if (f)
				pt_opened(fd, flags, &at);
		}
		if (!error && !f)
			error = used ? errno : -fd;
		bool moved = error == ELOOP && !used && at.judged && again < PT_AGAIN;
		pt_done(op, &at, error);
		if (moved)
			continue;
		if (stream && !used)
			PT_REAL(close_t, fclose)(stream);
		if (!f)
			errno = error;
		return f;
	}
}

PT_EXPORT FILE *fopen(const char *restrict path, const char *restrict mode)
{
	int flags = pt_stream_flags(mode), fd;
	if (flags < 0)                 /* the C library's to say */
		return PT_REAL(fopen_t, fopen)(path, mode);
	char copy[PT_COPY];
	const char *fixed = path;
	if ((flags & ~O_CLOEXEC) == O_RDONLY && pt_quick_fixed(&fixed, PT_ACC_READ, copy))
		return known(PT_REAL(fopen_t, fopen)(fixed, mode));
	if (!has_charset(mode) && pt_open_quick(PT_OP_fopen, AT_FDCWD, path, flags, 0666, &fd))
		return fd < 0 ? NULL : stream_of(fd, mode, flags);
	return judged(PT_OP_fopen, path, mode, flags, NULL);
}
PT_ALIASES_fopen

PT_EXPORT FILE *freopen(const char *restrict path, const char *restrict mode, FILE *restrict stream)
{
	int flags = pt_stream_flags(mode), before = fileno(stream);
	if (!path || flags < 0)        /* another mode for the same file; none */
		return PT_REAL(freopen_t, freopen)(path, mode, stream);
	if (before >= 0)
		pt_fd_forget(before);
	return judged(PT_OP_freopen, path, mode, flags, stream);
}
PT_ALIASES_freopen

PT_EXPORT int fclose(FILE *stream)
{
	typedef int real_t(FILE *);
	if (pt_on()) {
		int kept = errno, fd = fileno(stream);
		if (fd >= 0)
			pt_fd_forget(fd);
		errno = kept;
	}
	return PT_REAL(real_t, fclose)(stream);
}
