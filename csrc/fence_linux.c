#include "fence_linux.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <linux/prctl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "sysraw.h"

/* Headers of older systems lack what the kernel may have; the values are the kernel's ABI. */
#define FS_WRITE_FILE (1ULL << 1)
#define FS_REMOVE_DIR (1ULL << 4)
#define FS_REMOVE_FILE (1ULL << 5)
#define FS_MAKE_CHAR (1ULL << 6)
#define FS_MAKE_DIR (1ULL << 7)
#define FS_MAKE_REG (1ULL << 8)
#define FS_MAKE_SOCK (1ULL << 9)
#define FS_MAKE_FIFO (1ULL << 10)
#define FS_MAKE_BLOCK (1ULL << 11)
#define FS_MAKE_SYM (1ULL << 12)
#define FS_REFER (1ULL << 13)     /* ABI 2: rename and link across directories */
#define FS_TRUNCATE (1ULL << 14)  /* ABI 3 */
#define FS_IOCTL_DEV (1ULL << 15) /* ABI 5 */
#define SCOPE_ABSTRACT_UNIX_SOCKET (1ULL << 0) /* ABI 6 */
#define SCOPE_SIGNAL (1ULL << 1)               /* ABI 6 */

struct ruleset_attr {
	uint64_t handled_access_fs, handled_access_net, scoped;
};

int pt_fence_abi(void)
{
	long abi = pt_raw3(SYS_landlock_create_ruleset, 0, 0, LANDLOCK_CREATE_RULESET_VERSION);
	return abi > 0 ? (int)abi : 0;
}

uint64_t pt_fence_handled(int abi)
{
	uint64_t rights = FS_WRITE_FILE | FS_REMOVE_DIR | FS_REMOVE_FILE | FS_MAKE_CHAR | FS_MAKE_DIR | FS_MAKE_REG |
			  FS_MAKE_SOCK | FS_MAKE_FIFO | FS_MAKE_BLOCK | FS_MAKE_SYM;
	if (abi >= 2)
		rights |= FS_REFER;
	if (abi >= 3)
		rights |= FS_TRUNCATE;
	if (abi >= 5)
		rights |= FS_IOCTL_DEV;
	return abi > 0 ? rights : 0;
}

/* Nobody makes device nodes: a node for the disk in the workpath would be a door around the fence for root. */
uint64_t pt_fence_dir_rights(int abi)
{
	return pt_fence_handled(abi) & ~(FS_MAKE_CHAR | FS_MAKE_BLOCK);
}

uint64_t pt_fence_file_rights(int abi)
{
	return pt_fence_handled(abi) & (FS_WRITE_FILE | FS_TRUNCATE | FS_IOCTL_DEV);
}

static int allow(int ruleset, int fd, uint64_t rights)
{
	struct landlock_path_beneath_attr rule = { .allowed_access = rights, .parent_fd = fd };
	long err = pt_raw4(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
	/* What lies in no hierarchy (a pipe behind /dev/stdout) is not handled, so it needs no permission. */
	return err == -EBADFD ? 0 : (int)err;
}

static int allow_path(int ruleset, char kind, const char *path, int abi)
{
	long fd = pt_raw4(SYS_openat, AT_FDCWD, path, O_PATH | O_CLOEXEC, 0);
	if (fd < 0) /* a place that is not there, or not reachable for us, needs no permission */
		return fd == -ENOENT || fd == -ENOTDIR || fd == -EACCES || fd == -ELOOP ? 0 : (int)fd;
	uint64_t rights = kind == 'd' ? pt_fence_dir_rights(abi) : pt_fence_file_rights(abi);
	int err = allow(ruleset, (int)fd, rights);
	if (err == -EINVAL && kind == 'd') /* a directory's rights for something that is no directory */
		err = allow(ruleset, (int)fd, pt_fence_file_rights(abi));
	pt_raw1(SYS_close, fd);
	return err;
}

static int allow_list(int ruleset, const char *list, size_t size, int abi)
{
	const size_t header = sizeof PT_FENCE_HEADER - 1;
	if (size < header)
		return -EINVAL;
	for (size_t i = 0; i < header; i++)
		if (list[i] != PT_FENCE_HEADER[i])
			return -EINVAL;
	for (size_t at = header, end; at < size; at = end + 1) {
		for (end = at; end < size && list[end]; end++)
			;
		if (end == size || end < at + 2 || (list[at] != 'd' && list[at] != 'f') || list[at + 1] != '/')
			return -EINVAL;
		int err = allow_path(ruleset, list[at], list + at + 1, abi);
		if (err)
			return err;
	}
	return 0;
}

int pt_fence_raise(const char *list, size_t size, bool std_fds)
{
	int abi = pt_fence_abi();
	if (!abi)
		return -EOPNOTSUPP;
	struct ruleset_attr attr = {
		.handled_access_fs = pt_fence_handled(abi),
		.scoped = abi >= 6 ? SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL : 0,
	};
	/* Older kernels refuse a larger struct only where it is not zero beyond theirs. */
	long ruleset = pt_raw3(SYS_landlock_create_ruleset, &attr, sizeof attr, 0);
	if (ruleset < 0)
		return (int)ruleset;
	int err = allow_list((int)ruleset, list, size, abi);
	for (int fd = 0; !err && std_fds && fd < 3; fd++) {
		long flags = pt_raw3(SYS_fcntl, fd, F_GETFL, 0);
		if (flags >= 0 && (flags & O_ACCMODE) != O_RDONLY && !(flags & O_PATH))
			/* a pipe or socket has no place in a hierarchy and needs none: its EBADFD is no error */
			(void)allow((int)ruleset, fd, pt_fence_file_rights(abi));
	}
	if (!err)
		err = (int)pt_raw5(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (!err)
		err = (int)pt_raw2(SYS_landlock_restrict_self, ruleset, 0);
	pt_raw1(SYS_close, ruleset);
	return err;
}

/* The list's bytes; its address, or -errno. */
static long map_list(const char *path, long *size)
{
	long fd = pt_raw4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	*size = pt_raw3(SYS_lseek, fd, 0, SEEK_END);
	long map = *size < 0 ? *size : *size == 0 ? -EINVAL : pt_raw6(SYS_mmap, 0, *size, PROT_READ, MAP_PRIVATE, fd, 0);
	pt_raw1(SYS_close, fd);
	return map;
}

int pt_fence_raise_file(const char *path, bool std_fds)
{
	long size = 0, map = map_list(path, &size);
	if (map < 0 && map > -4096)
		return (int)map;
	int err = pt_fence_raise((const char *)map, (size_t)size, std_fds);
	pt_raw2(SYS_munmap, map, size);
	return err;
}

bool pt_fence_covers_file(const char *list, const char *path)
{
	long size = 0, map = map_list(list, &size);
	if (map < 0 && map > -4096)
		return false;
	const char *bytes = (const char *)map;
	bool covers = false;
	for (long at = sizeof PT_FENCE_HEADER - 1, end; at < size && !covers; at = end + 1) {
		for (end = at; end < size && bytes[end]; end++)
			;
		if (end == size || end < at + 2)
			break;
		long n = 0, len = end - at - 1;
		while (n < len && path[n] == bytes[at + 1 + n])
			n++;
		covers = n == len && (!path[n] || (bytes[at] == 'd' && (path[n] == '/' || len == 1)));
	}
	pt_raw2(SYS_munmap, map, size);
	return covers;
}

bool pt_fence_stands(const char *probe)
{
	char path[512], digits[12], *d = digits + sizeof digits, *p = path;
	if (pt_raw5(SYS_prctl, PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) /* whoever raised it gave that up, too */
		return false;
	*--d = 0;
	for (long pid = pt_raw0(SYS_getpid); pid; pid /= 10) /* a name of its own: others may be at it */
		*--d = (char)('0' + pid % 10);
	while (*probe && p < path + sizeof path - sizeof digits - 1)
		*p++ = *probe++;
	*p++ = '/';
	while ((*p++ = *d++))
		;
	long err = pt_raw4(SYS_mknodat, AT_FDCWD, path, S_IFBLK, 0); /* root may, and then takes it away; others get EPERM */
	if (!err)
		pt_raw3(SYS_unlinkat, AT_FDCWD, path, 0);
	return err == -EACCES;
}
