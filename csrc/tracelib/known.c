/*
 * Programs of the base system that need no look: where their names lead, and that the library can enter them, the image
 * says. Half of what the start of a program cost was that look. Only where nobody in the session could have made the name
 * mean another file. It is asked by a child that has just been forked, for which each page that it touches is a fault: so
 * it reads the image and nothing else that the process knows.
 */
#include "exec.h"

#ifdef __GLIBC__
#define HOPS 5u                        /* awk is two links away from its program, gcc also */

/* Can nobody in the session exchange what lies there, nor a directory on the way? */
static bool is_fixed(const char *path, size_t len)
{
	for (const char *p = path; p < path + len; ) {
		const char *end = memchr(p + 1, '/', len - (size_t)(p + 1 - path));
		p = end ? end : path + len;
		if (pt_decide(pt.image, PT_WRITE, path, (size_t)(p - path)).action != PT_DENY)
			return false;
	}
	return true;
}

/* The same place by its directory's real path: what the image knows of directories. */
static bool by_real_directory(const char *path, size_t len, struct pt_known *to)
{
	const char *slash = memrchr(path, '/', len);
	size_t cut = (size_t)(slash - path), n = len - cut, dir_len;
	const char *dir = cut ? pt_image_place(pt.image, path, cut, &dir_len) : NULL;
	if (!dir || n < 2 || dir_len + n >= sizeof to->real || !is_fixed(path, cut))
		return false;
	memcpy(to->real, dir, dir_len);
	memcpy(to->real + dir_len, slash, n);
	to->len = dir_len + n;
	to->real[to->len] = 0;
	return is_fixed(to->real, to->len);
}

bool pt_exec_known(const char *path, struct pt_known *known)
{
	if (!pt.plain || pt.log || pt_bad_pointer(path) || path[0] != '/' || pt_threads())
		return false;                  /* another thread could write another name there before the kernel reads it */
	size_t len = strnlen(path, sizeof known->real);
	for (unsigned hop = 0; hop < HOPS && len < sizeof known->real && by_real_directory(path, len, known); hop++) {
		struct pt_verdict v = pt_decide(pt.image, PT_READ, known->real, known->len);
		path = pt_image_program(pt.image, known->real, known->len, &len);
		if (!path || v.action != PT_ALLOW || v.flags || v.port != PT_NO_PORT)
			return false;
		known->rule = v.rule;
		if (len == known->len && !memcmp(path, known->real, len))
			return !pt_wants_supervisor(known->real, known->real, len);
	}
	return false;
}
#endif
