/* Streams: the C library opens the file inside, so the path is judged before. */
#include "headers.h"

void pt_intend_stream(struct pt_at *at, const char *mode)
{
	bool plus = !pt_bad_pointer(mode) && strchr(mode, '+');
	at->flags = PT_FOLLOW;
	at->access = PT_ACC_READ;
	if (pt_bad_pointer(mode))
		return;
	if (mode[0] == 'w' || mode[0] == 'a') {
		at->access = PT_ACC_CREATE;
		at->flags |= PT_MAY_CREATE;
		if (strchr(mode, 'x'))
			at->flags = (at->flags | PT_EXCL) & ~PT_FOLLOW;
	} else if (plus) {
		at->access = PT_ACC_WRITE;
	}
	if (plus)
		at->flags |= PT_ALSO_READ;
}

PT_EXPORT FILE *fopen(const char *restrict path, const char *restrict mode)
{
	typedef FILE *real_t(const char *, const char *);
	real_t *real = PT_REAL(real_t, fopen);
	FILE *f = NULL;
	if (!pt_bad_pointer(mode) && mode[0] == 'r' && !strchr(mode, '+') && pt_quick_follow(AT_FDCWD, path, PT_ACC_READ)) {
		f = real(path, mode);
		if (f)
			pt_fd_forget(fileno(f));
		return f;
	}
	struct pt_at at = { .dirfd = AT_FDCWD, .path = path };
	pt_intend_stream(&at, mode);
	int error = pt_judge(PT_OP_fopen, &at);
	if (!error) {
		f = real(at.path, mode);
		if (f)
			pt_fd_forget(fileno(f));
		else
			error = errno;
	}
	pt_done(PT_OP_fopen, &at, error);
	if (!f)
		errno = error;
	return f;
}
PT_ALIASES_fopen

PT_EXPORT FILE *freopen(const char *restrict path, const char *restrict mode, FILE *restrict stream)
{
	typedef FILE *real_t(const char *, const char *, FILE *);
	typedef int close_t(FILE *);
	real_t *real = PT_REAL(real_t, freopen);
	if (!path)                     /* another mode for the same file */
		return real(path, mode, stream);
	struct pt_at at = { .dirfd = AT_FDCWD, .path = path };
	pt_intend_stream(&at, mode);
	int error = pt_judge(PT_OP_freopen, &at);
	FILE *f = NULL;
	int before = fileno(stream);
	if (before >= 0)
		pt_fd_forget(before);
	if (!error) {
		f = real(at.path, mode, stream);
		if (f)
			pt_fd_forget(fileno(f));
		else
			error = errno;
	} else {
		/* as where the open inside fails: the stream is closed */
		PT_REAL(close_t, fclose)(stream);
	}
	pt_done(PT_OP_freopen, &at, error);
	if (!f)
		errno = error;
	return f;
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
