#include "longpath_linux.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include "sysraw.h"

#define KERNEL_MAX 4096u       /* bytes of a path that the kernel takes and tells, with the NUL */
#define PART 1024u             /* of a longer one, opened at a time: stacks of guests are small */

struct entry {                 /* struct linux_dirent64 */
	uint64_t ino;
	int64_t off;
	uint16_t size;
	uint8_t type;
	char name[];
};

static int look(int dir, const char *name, struct stat *st)
{
	return (int)pt_raw4(SYS_newfstatat, dir, name, st, *name ? AT_SYMLINK_NOFOLLOW : AT_EMPTY_PATH);
}

static bool same(const struct stat *a, const struct stat *b)
{
	return a->st_ino == b->st_ino && a->st_dev == b->st_dev;
}

/*
 * The entry of `up` that is the directory `st`: its name in front of *at. The numbers that a listing gives are right
 * nearly always; a mount point has another one than what is mounted there, so that then each directory is looked at.
 */
static int find(int up, const struct stat *st, char *buf, size_t *at)
{
	_Alignas(8) char list[2048];
	struct stat other;
	for (int all = 0; all < 2; all++) {
		long n = pt_raw3(SYS_lseek, up, 0, SEEK_SET);
		while (n >= 0 && (n = pt_raw3(SYS_getdents64, up, list, sizeof list)) > 0)
			for (long in = 0; in < n;) {
				const struct entry *e = (const struct entry *)(const void *)(list + in);
				size_t len = strlen(e->name);
				in += e->size;
				if ((e->type != DT_DIR && e->type != DT_UNKNOWN) || (!all && e->ino != st->st_ino) ||
				    (e->name[0] == '.' && (len == 1 || (len == 2 && e->name[1] == '.'))))
					continue;
				if (look(up, e->name, &other) || !same(&other, st))
					continue;
				if (*at < len + 1)
					return -ERANGE;
				*at -= len + 1;
				buf[*at] = '/';
				memcpy(buf + *at + 1, e->name, len);
				return 0;
			}
		if (n < 0)
			return (int)n;
	}
	return -EACCES;
}

static ssize_t told(int dir, char *buf, size_t size)
{
	char link[32], *p = link + sizeof link;
	unsigned v = (unsigned)dir;
	*--p = 0;
	do
		*--p = (char)('0' + v % 10);
	while (v /= 10);
	p -= 14;
	memcpy(p, "/proc/self/fd/", 14);
	return pt_raw4(SYS_readlinkat, AT_FDCWD, p, buf, size);
}

ssize_t pt_long_name(int dir, char *buf, size_t size, pt_long_known *known, void *user)
{
	size_t at = size;
	int here = dir;
	ssize_t result;
	if (size < KERNEL_MAX)
		return -ERANGE;
	for (;;) {
		struct stat st, above;
		int up = -1;
		result = look(here, "", &st);
		if (!result && !S_ISDIR(st.st_mode))
			result = -ENOTDIR;
		if (!result) {
			up = (int)pt_raw4(SYS_openat, here, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
			result = up < 0 ? up : look(up, "", &above);
		}
		if (here != dir)
			pt_raw1(SYS_close, here);
		here = up;
		bool root = !result && same(&st, &above);
		if (!result && !root)
			result = find(up, &st, buf, &at);
		ssize_t n = 0;
		if (!result && !root) {
			n = known ? known(user, &above, buf, at) : 0;
			if (!n)
				n = told(up, buf, at);
			if (n == (ssize_t)at)
				result = -ERANGE;
			else if (n == 1 && buf[0] == '/')
				n = 0;
		}
		if (!result && (root || n >= 0)) {
			memmove(buf + n, buf + at, size - at);
			result = n + (ssize_t)(size - at);
			if (!result)
				buf[result++] = '/';
			if ((size_t)result < size)
				buf[result] = 0;
			else
				result = -ERANGE;
		}
		if (result) {
			if (up >= 0)
				pt_raw1(SYS_close, up);
			return result;
		}
	}
}

void pt_long_close(int dir)
{
	if (dir >= 0)
		pt_raw1(SYS_close, dir);
}

int pt_long_dir(const char **path)
{
	struct open_how how = { .flags = O_PATH | O_DIRECTORY | O_CLOEXEC, .resolve = RESOLVE_NO_SYMLINKS };
	const char *rest = *path;
	int dir = AT_FDCWD;
	while (strnlen(rest, KERNEL_MAX) == KERNEL_MAX) {
		char part[PART];
		size_t n = PART - 1;
		while (n && rest[n] != '/')
			n--;
		if (!n) {
			pt_long_close(dir);
			return -ENAMETOOLONG;      /* a component that is */
		}
		memcpy(part, rest, n);
		part[n] = 0;
		int next = (int)pt_raw4(SYS_openat2, dir, part, &how, sizeof how);
		if (next == -ENOSYS)               /* before Linux 5.6: what is exchanged on the way is not seen */
			next = (int)pt_raw4(SYS_openat, dir, part, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
		pt_long_close(dir);
		if (next < 0)
			return next;
		dir = next;
		for (rest += n; *rest == '/'; rest++)
			;
	}
	*path = rest;
	return dir;
}

ssize_t pt_long_readlink(const char *path, char *buf, size_t size)
{
	const char *rest = path;
	int dir = pt_long_dir(&rest);
	ssize_t n = -ENAMETOOLONG;
	if (dir >= 0) {
		n = pt_raw4(SYS_readlinkat, dir, rest, buf, size);
		pt_long_close(dir);
		return n;
	}
	if (dir != AT_FDCWD)
		return dir;
	if (strncmp(path, "/proc/", 6) == 0) {
		dir = (int)pt_raw4(SYS_openat, AT_FDCWD, path, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
		if (dir >= 0) {
			n = pt_long_name(dir, buf, size, NULL, NULL);
			pt_long_close(dir);
			if (n == -ERANGE)
				return (ssize_t)size;  /* as the kernel says it: cut off */
		}
	}
	return n < 0 ? -ENAMETOOLONG : n;
}
