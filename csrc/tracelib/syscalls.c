/* syscall(2) as a function: what has a wrapper goes through it, with the same result and errno. */
#include <linux/openat2.h>
#include <sched.h>

#include "exec.h"
#include "supervise_linux.h"

int openat2(int dirfd, const char *path, const struct open_how *how, size_t size);
/* Not in every C library's headers. */
struct mount_attr;
int open_tree(int dirfd, const char *path, unsigned flags);
int move_mount(int olddir, const char *old, int dirfd, const char *path, unsigned flags);
int fsconfig(int fd, unsigned command, const char *key, const void *value, int dirfd);
int fsopen(const char *type, unsigned flags);
int fspick(int dirfd, const char *path, unsigned flags);
int mount_setattr(int dirfd, const char *path, unsigned flags, struct mount_attr *attr, size_t size);
int fanotify_mark(int fd, unsigned flags, uint64_t mask, int dirfd, const char *path);

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif

#ifdef SYS_getdents
/* Entries of the first kind: two words, the length, the name; the type is the last byte. */
static long old_getdents(int fd, char *buf, unsigned size)
{
	for (;;) {
		long n = PT_SYS3(SYS_getdents, fd, buf, size), out = 0;
		if (n < 0) {
			errno = (int)-n;
			return -1;
		}
		if (n == 0 || !pt_fd_filtered(fd))
			return n;
		for (long in = 0; in < n;) {
			uint16_t length;
			memcpy(&length, buf + in + 2 * sizeof(long), sizeof length);
			if (!length)
				break;
			const char *name = buf + in + 2 * sizeof(long) + sizeof length;
			if (pt_shown(fd, name, strlen(name), (unsigned char)buf[in + length - 1])) {
				memmove(buf + out, buf + in, length);
				out += length;
			}
			in += length;
		}
		if (out)                       /* none left is not the end of the directory */
			return out;
	}
}
#endif

/*
 * Perl's and Ruby's own `syscall` make whatever call a script wants, with whatever memory: also that in which this library
 * keeps what it knows, and memory that becomes code. No list of numbers ends that; only the supervisor stands behind it.
 */
extern char Perl_pp_syscall[] __attribute__((weak)), ruby_init[] __attribute__((weak));

static bool scripts_choose(void)
{
	return unlikely(Perl_pp_syscall != NULL || ruby_init != NULL);
}

PT_EXPORT long syscall(long number, ...)
{
	typedef long real_t(long, ...);
	long a[6];
	va_list ap;
	va_start(ap, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
#define P(i) ((char *)a[i])
#define I(i) ((int)a[i])
	if (!pt_on())
		return PT_REAL(real_t, syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
	if (scripts_choose() && number != SYS_gettid /* Ruby itself, at its start */ && !pt_supervise_all()) {
		errno = EPERM;
		return -1;
	}
	switch (number) {
#ifdef SYS_open
	case SYS_open: return open(P(0), I(1), (mode_t)a[2]);
	case SYS_creat: return creat(P(0), (mode_t)a[1]);
	case SYS_stat: return stat(P(0), (void *)P(1));
	case SYS_lstat: return lstat(P(0), (void *)P(1));
	case SYS_access: return access(P(0), I(1));
	case SYS_readlink: return readlink(P(0), P(1), (size_t)a[2]);
	case SYS_mkdir: return mkdir(P(0), (mode_t)a[1]);
	case SYS_mknod: return mknod(P(0), (mode_t)a[1], (dev_t)a[2]);
	case SYS_rmdir: return rmdir(P(0));
	case SYS_unlink: return unlink(P(0));
	case SYS_rename: return rename(P(0), P(1));
	case SYS_link: return link(P(0), P(1));
	case SYS_symlink: return symlink(P(0), P(1));
	case SYS_chmod: return chmod(P(0), (mode_t)a[1]);
	case SYS_chown: return chown(P(0), (uid_t)a[1], (gid_t)a[2]);
	case SYS_lchown: return lchown(P(0), (uid_t)a[1], (gid_t)a[2]);
	case SYS_utime: return utime(P(0), (void *)P(1));
	case SYS_utimes: return utimes(P(0), (void *)P(1));
	case SYS_dup2: return dup2(I(0), I(1));
#endif
	case SYS_openat: return openat(I(0), P(1), I(2), (mode_t)a[3]);
	case SYS_openat2: return openat2(I(0), P(1), (void *)P(2), (size_t)a[3]);
	case SYS_newfstatat: return fstatat(I(0), P(1), (void *)P(2), I(3));
	case SYS_statx: return statx(I(0), P(1), I(2), (unsigned)a[3], (void *)P(4));
	case SYS_faccessat: return faccessat(I(0), P(1), I(2), 0);
	case SYS_faccessat2: return faccessat(I(0), P(1), I(2), I(3));
	case SYS_readlinkat: return readlinkat(I(0), P(1), P(2), (size_t)a[3]);
	case SYS_mkdirat: return mkdirat(I(0), P(1), (mode_t)a[2]);
	case SYS_mknodat: return mknodat(I(0), P(1), (mode_t)a[2], (dev_t)a[3]);
	case SYS_unlinkat: return unlinkat(I(0), P(1), I(2));
	case SYS_renameat: return renameat(I(0), P(1), I(2), P(3));
	case SYS_renameat2: return renameat2(I(0), P(1), I(2), P(3), (unsigned)a[4]);
	case SYS_linkat: return linkat(I(0), P(1), I(2), P(3), I(4));
	case SYS_symlinkat: return symlinkat(P(0), I(1), P(2));
#ifdef SYS_futimesat
	case SYS_futimesat: return futimesat(I(0), P(1), (void *)P(2));
#endif
	case SYS_statfs: return statfs(P(0), (void *)P(1));
	case SYS_setxattr: return setxattr(P(0), P(1), P(2), (size_t)a[3], I(4));
	case SYS_lsetxattr: return lsetxattr(P(0), P(1), P(2), (size_t)a[3], I(4));
	case SYS_getxattr: return getxattr(P(0), P(1), P(2), (size_t)a[3]);
	case SYS_lgetxattr: return lgetxattr(P(0), P(1), P(2), (size_t)a[3]);
	case SYS_listxattr: return listxattr(P(0), P(1), (size_t)a[2]);
	case SYS_llistxattr: return llistxattr(P(0), P(1), (size_t)a[2]);
	case SYS_removexattr: return removexattr(P(0), P(1));
	case SYS_lremovexattr: return lremovexattr(P(0), P(1));
	case SYS_inotify_add_watch: return inotify_add_watch(I(0), P(1), (uint32_t)a[2]);
	case SYS_name_to_handle_at: return name_to_handle_at(I(0), P(1), (void *)P(2), (int *)P(3), I(4));
	case SYS_open_by_handle_at: return open_by_handle_at(I(0), (void *)P(1), I(2));
	case SYS_mount: return mount(P(0), P(1), P(2), (unsigned long)a[3], P(4));
	case SYS_umount2: return umount2(P(0), I(1));
	case SYS_acct: return acct(P(0));
	case SYS_pivot_root: return pivot_root(P(0), P(1));
	case SYS_swapon: return swapon(P(0), I(1));
	case SYS_swapoff: return swapoff(P(0));
	case SYS_quotactl: return quotactl(I(0), P(1), I(2), P(3));
	case SYS_fanotify_mark: return fanotify_mark(I(0), (unsigned)a[1], (uint64_t)a[2], I(3), P(4));
	case 428: return open_tree(I(0), P(1), (unsigned)a[2]);
	case 429: return move_mount(I(0), P(1), I(2), P(3), (unsigned)a[4]);
	case 430: return fsopen(P(0), (unsigned)a[1]);
	case 431: return fsconfig(I(0), (unsigned)a[1], P(2), P(3), I(4));
	case 433: return fspick(I(0), P(1), (unsigned)a[2]);
	case 442: return mount_setattr(I(0), P(1), (unsigned)a[2], (void *)P(3), (size_t)a[4]);
	case SYS_sendto: return sendto(I(0), P(1), (size_t)a[2], I(3), (void *)P(4), (socklen_t)a[5]);
	case SYS_sendmmsg: return sendmmsg(I(0), (void *)P(1), (unsigned)a[2], I(3));
	case SYS_sendmsg: return sendmsg(I(0), (void *)P(1), I(2));
	case SYS_truncate: return truncate(P(0), a[1]);
	case SYS_fchmodat: return fchmodat(I(0), P(1), (mode_t)a[2], 0);
	case SYS_fchmodat2: return fchmodat(I(0), P(1), (mode_t)a[2], I(3));
	case SYS_fchownat: return fchownat(I(0), P(1), (uid_t)a[2], (gid_t)a[3], I(4));
	case SYS_utimensat:
		if (!P(1) && !I(3) && I(0) >= 0)       /* the descriptor's own: the C library's function refuses a missing path */
			return futimens(I(0), (void *)P(2));
		return utimensat(I(0), P(1), (void *)P(2), I(3));
	case SYS_chdir: return chdir(P(0));
	case SYS_fchdir: return fchdir(I(0));
	case SYS_chroot: return chroot(P(0));
	case SYS_execve: return execve(P(0), (char **)P(1), (char **)P(2));
	case SYS_execveat: return execveat(I(0), P(1), (char **)P(2), (char **)P(3), I(4));
	case SYS_close: return close(I(0));
	case SYS_dup3: return dup3(I(0), I(1), I(2));
	case SYS_close_range: return close_range((unsigned)a[0], (unsigned)a[1], I(2));
	case SYS_bind: return bind(I(0), (void *)P(1), (socklen_t)a[2]);
	case SYS_connect: return connect(I(0), (void *)P(1), (socklen_t)a[2]);
	case SYS_getdents64: return getdents64(I(0), P(1), (size_t)a[2]);
#ifdef SYS_getdents
	case SYS_getdents: return old_getdents(I(0), P(1), (unsigned)a[2]);
#endif
#ifdef SYS_vfork
	case SYS_vfork:
		pt_cloning(CLONE_VM | CLONE_VFORK);
		return PT_REAL(real_t, syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
#endif
	case SYS_clone:
		pt_cloning((unsigned long)a[0]);
		return PT_REAL(real_t, syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
#ifdef SYS_clone3
	case SYS_clone3:
		if (!pt_bad_pointer(P(0)))
			pt_cloning((unsigned long)*(uint64_t *)(void *)P(0));
		return PT_REAL(real_t, syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
#endif
	case 446:                              /* landlock_restrict_self: what is asked for later has to be there before */
		pt_see_policy();
		return PT_REAL(real_t, syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
	case SYS_io_uring_setup:               /* programs have another way and take it without a word */
	case 463: case 464: case 465: case 466: /* setxattrat, getxattrat, listxattrat, removexattrat */
	case 467:                              /* open_tree_attr */
	case 468: case 469:                    /* file_getattr, file_setattr */
		errno = ENOSYS;
		return -1;
	case SYS_fchmod: return fchmod(I(0), (mode_t)a[1]);
	case SYS_ioctl: return ioctl(I(0), (unsigned)a[1], P(2));
	case SYS_fchown: return fchown(I(0), (uid_t)a[1], (gid_t)a[2]);
	case SYS_fsetxattr: return fsetxattr(I(0), P(1), P(2), (size_t)a[3], I(4));
	case SYS_fremovexattr: return fremovexattr(I(0), P(1));
	case SYS_mprotect: return mprotect(P(0), (size_t)a[1], I(2));
	case SYS_mmap: return (long)mmap(P(0), (size_t)a[1], I(2), I(3), I(4), a[5]);
	case SYS_pkey_mprotect: return pkey_mprotect(P(0), (size_t)a[1], I(2), I(3));
	default:
		/* rare ones that take a path: from here on the supervisor answers for this process */
		if (pt_supervised_call((int)number) && !pt_supervise_all()) {
			errno = EPERM;
			return -1;
		}
		return PT_REAL(real_t, syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
	}
}

#define OPEN_HOW_FIRST 24       /* bytes of the first struct open_how, all of which are read here */

/* Not in the C library yet: the resolve flags stay the kernel's affair, the path is judged as openat's. */
PT_EXPORT int openat2(int dirfd, const char *path, const struct open_how *how, size_t size)
{
	struct pt_at at = { .dirfd = dirfd, .path = path };
	if (pt_bad_pointer((char *)how) || size < OPEN_HOW_FIRST)  /* the kernel refuses it before it looks at the path */
		return pt_outcome(PT_SYS4(SYS_openat2, dirfd, path, how, size));
	if (pt_on() && (how->resolve & RESOLVE_IN_ROOT)) {
		errno = ENOSYS;                /* other rules of resolving than those judged here: programs fall back to openat */
		return -1;
	}
	pt_intend_open(&at, (int)how->flags);
	int error = pt_judge(PT_OP_openat2, &at);
	long fd = -1;
	if (!error) {
		fd = PT_SYS4(SYS_openat2, at.dirfd, at.path, how, size);
		if (fd < 0)
			error = (int)-fd;
		else
			pt_fd_forget((int)fd);
	}
	pt_done(PT_OP_openat2, &at, error);
	if (error) {
		errno = error;
		return -1;
	}
	return (int)fd;
}

/*
 * What some C libraries lack (musl, and old ones of GNU) while programs make the call by its number: then our wrapper is
 * entered nevertheless, and what is behind it is the kernel.
 */
static int raw_close_range(unsigned first, unsigned last, int flags)
{
	return pt_outcome(PT_SYS3(SYS_close_range, first, last, flags));
}

static void raw_closefrom(int first)
{
	(void)PT_SYS3(SYS_close_range, first < 0 ? 0 : first, ~0u, 0);
}

static int raw_renameat2(int olddir, const char *old, int dirfd, const char *path, unsigned flags)
{
	return pt_outcome(PT_SYS5(SYS_renameat2, olddir, old, dirfd, path, flags));
}

void *pt_lacking(const char *name)
{
	if (strcmp(name, "close_range") == 0)
		return (void *)raw_close_range;
	if (strcmp(name, "closefrom") == 0)
		return (void *)raw_closefrom;
	if (strcmp(name, "renameat2") == 0)
		return (void *)raw_renameat2;
	return NULL;
}
