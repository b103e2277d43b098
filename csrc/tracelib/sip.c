/*
 * The loader drops DYLD_* for programs that the system protects (/bin/sh, /usr/bin/make). A copy that is signed anew can
 * be entered. Copies lie in "sip" beside the session's policies; porttrace/sipcopy.py makes them, asked once for
 * each program through the session's socket. The name of a copy says of which file it is, and in which state:
 *
 *   sip/HASH-DEVICE-INODE-SIZE-SECONDS.NANOSECONDS/NAME     numbers in hexadecimal, of modification
 *
 * HASH is FNV-1a, 64 bit, of the path.
 */
#include "../ask.h"
#include "exec.h"

static char *hex(char *out, uint64_t v, char after)
{
	int digits = 1;
	while (digits < 16 && v >> (4 * digits))
		digits++;
	while (digits--)
		*out++ = "0123456789abcdef"[v >> (4 * digits) & 15];
	*out++ = after;
	return out;
}

/* The session's directory with a slash into `out`; its length, 0: not known. And the policy's number. */
static size_t session(char *out, size_t size, const char **number, size_t *digits)
{
	size_t end = pt.path_len, start;
	while (end && pt.path[--end] != '/')
		;
	start = end;
	while (start && pt.path[start - 1] != '/')
		start--;
	if (!start || start >= size)
		return 0;
	memcpy(out, pt.path, start);
	*number = pt.path + start;
	*digits = end - start;
	return start;
}

static bool there(const char *copy)
{
	struct stat st;
	return sys_lstat(copy, &st) == 0 && S_ISREG(st.st_mode);
}

bool pt_sip_copy(const char *path, size_t len, char *out, size_t size)
{
	const char *number, *name = path + len;
	size_t digits, at = session(out, size, &number, &digits);
	struct stat st;
	while (name > path && name[-1] != '/')
		name--;
	if (!at || size - at < 128 + (size_t)(path + len - name) || sys_lstat(path, &st) < 0)
		return false;
	uint64_t h = 0xcbf29ce484222325ull;
	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char)path[i]) * 0x100000001b3ull;
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	if (at + sizeof PT_ASK_SOCKET > sizeof to.sun_path)
		return false;
	memcpy(to.sun_path, out, at);
	memcpy(to.sun_path + at, PT_ASK_SOCKET, sizeof PT_ASK_SOCKET);
	char *p = out + at;
	memcpy(p, "sip/", 4);
	p = hex(p + 4, h, '-');
	p = hex(p, (uint32_t)st.st_dev, '-');
	p = hex(p, st.st_ino, '-');
	p = hex(p, (uint64_t)st.st_size, '-');
	p = hex(p, (uint64_t)st.st_mtimespec.tv_sec, '.');
	p = hex(p, (uint64_t)st.st_mtimespec.tv_nsec, '/');
	memcpy(p, name, (size_t)(path + len - name));
	p[path + len - name] = 0;
	if (there(out))
		return true;
	struct pt_slab *s = pt_slab_take(digits + 2 + len);
	unsigned char answer[PT_ASK_ANSWER];
	ssize_t n = -1;
	if (s && digits + 2 + len <= s->cap) {
		memcpy(s->extra, number, digits);
		s->extra[digits] = 0;
		s->extra[digits + 1] = PT_ASK_COPY;
		memcpy(s->extra + digits + 2, path, len);
		n = sys_ask(&to, s->extra, digits + 2 + len, answer, sizeof answer, PT_ASK_COPY_TIMEOUT_MS);
	}
	pt_slab_give(s);
	return n >= 2 && answer[0] == PT_ALLOW && there(out);
}
