/*
 * The system calls that the supervisor is asked about, one row each: the
 * launcher makes the filter of it, the loop its decisions.
 *
 *   PT_SC(name, x86_64 number, i386 number, shape, access, dirfd argument, path argument, flags argument)
 *
 * -1 in a number: that machine has no such call. -1 in `dirfd`: the working directory.
 * `flags`: the argument with AT_* flags, PT_SC_FOLLOW or PT_SC_NOFOLLOW where there is none.
 * arm64 takes its numbers from <sys/syscall.h> by the row's name.
 */
#ifndef PORTTRACE_SUPERVISOR_CALLS_H
#define PORTTRACE_SUPERVISOR_CALLS_H

enum pt_sc_shape {
	PT_SH_CHDIR,
	/* names: the supervisor itself makes, removes and moves them */
	PT_SH_MKDIR, PT_SH_MKNOD,
	PT_SH_SYMLINK,  /* its text in the first argument */
	PT_SH_REMOVE,   /* unlink, rmdir */
	PT_SH_OPEN,     /* open flags in `flags`, access follows from them */
	PT_SH_OPENAT2,  /* struct open_how in `flags` */
	PT_SH_CREAT,
	PT_SH_RENAME,   /* two paths: `dirfd`, `path` and the pair after it */
	PT_SH_LINK,     /* likewise; the first must be visible, the second is made */
	PT_SH_EXEC,
	PT_SH_CHROOT,
	/* looking: done by the supervisor itself */
	PT_SH_STAT, PT_SH_STATX, PT_SH_ACCESS, PT_SH_READLINK, PT_SH_STATFS, PT_SH_GETXATTR, PT_SH_LISTXATTR, PT_SH_INOTIFY,
	/* changing metadata: likewise; with `path` -1 of an open file, the descriptor in `dirfd` */
	PT_SH_CHMOD, PT_SH_CHOWN, PT_SH_UTIME, PT_SH_UTIMES, PT_SH_UTIMENS, PT_SH_SETXATTR, PT_SH_REMOVEXATTR, PT_SH_TRUNCATE,
	PT_SH_IOCTL,    /* the same by ioctl: asked only for the requests below */
	PT_SH_PTRACE,   /* another process's memory and registers: process in the second argument */
	PT_SH_LIMIT,    /* limits of a process, in the first argument; set by the third, which may be none */
	PT_SH_MEMORY,   /* likewise: in the first */
	PT_SH_TAKE,     /* a descriptor out of it */
	PT_SH_LIST,     /* getdents: hidden entries are left out */
	PT_SH_CONNECT,  /* sockaddr in `path`, its length in `flags` */
	PT_SH_BIND,
	PT_SH_SENDTO,   /* likewise; the filter asks only where there is an address */
	PT_SH_SENDMSG,  /* struct msghdr in `path` */
	PT_SH_SENDMMSG, /* an array of them, its length in `flags` */
	PT_SH_SOCKETCALL,
	PT_SH_IDS,      /* the program becomes somebody else: let go, and remembered */
	PT_SH_CLONE,    /* likewise; the filter asks only where the child is to have a user namespace of its own */
	PT_SH_JOIN,     /* refused as the next, or else (who only audits) like those before */
	PT_SH_REFUSE,   /* EPERM: changes what paths mean, or goes around them */
	PT_SH_NOSYS,    /* ENOSYS, answered by the filter itself: programs fall back to calls that can be seen */
};

#define PT_SC_FOLLOW (-1)
#define PT_SC_NOFOLLOW (-2)
#define PT_SC_RMDIR (-3) /* as AT_REMOVEDIR */

#define PT_SUPERVISED_CALLS \
	PT_SC(open, 2, 5, PT_SH_OPEN, PT_ACC_READ, -1, 0, 1) \
	PT_SC(openat, 257, 295, PT_SH_OPEN, PT_ACC_READ, 0, 1, 2) \
	PT_SC(openat2, 437, 437, PT_SH_OPENAT2, PT_ACC_READ, 0, 1, 2) \
	PT_SC(creat, 85, 8, PT_SH_CREAT, PT_ACC_WRITE, -1, 0, PT_SC_FOLLOW) \
	PT_SC(stat, 4, 106, PT_SH_STAT, PT_ACC_STAT, -1, 0, PT_SC_FOLLOW) \
	PT_SC(lstat, 6, 107, PT_SH_STAT, PT_ACC_STAT, -1, 0, PT_SC_NOFOLLOW) \
	PT_SC(newfstatat, 262, 300, PT_SH_STAT, PT_ACC_STAT, 0, 1, 3) \
	PT_SC(stat64, -1, 195, PT_SH_STAT, PT_ACC_STAT, -1, 0, PT_SC_FOLLOW) \
	PT_SC(lstat64, -1, 196, PT_SH_STAT, PT_ACC_STAT, -1, 0, PT_SC_NOFOLLOW) \
	PT_SC(oldstat, -1, 18, PT_SH_STAT, PT_ACC_STAT, -1, 0, PT_SC_FOLLOW) \
	PT_SC(oldlstat, -1, 84, PT_SH_STAT, PT_ACC_STAT, -1, 0, PT_SC_NOFOLLOW) \
	PT_SC(statx, 332, 383, PT_SH_STATX, PT_ACC_STAT, 0, 1, 2) \
	PT_SC(access, 21, 33, PT_SH_ACCESS, PT_ACC_STAT, -1, 0, PT_SC_FOLLOW) \
	PT_SC(faccessat, 269, 307, PT_SH_ACCESS, PT_ACC_STAT, 0, 1, PT_SC_FOLLOW) \
	PT_SC(faccessat2, 439, 439, PT_SH_ACCESS, PT_ACC_STAT, 0, 1, 3) \
	PT_SC(readlink, 89, 85, PT_SH_READLINK, PT_ACC_READLINK, -1, 0, PT_SC_NOFOLLOW) \
	PT_SC(readlinkat, 267, 305, PT_SH_READLINK, PT_ACC_READLINK, 0, 1, PT_SC_NOFOLLOW) \
	PT_SC(execve, 59, 11, PT_SH_EXEC, PT_ACC_EXEC, -1, 0, PT_SC_FOLLOW) \
	PT_SC(execveat, 322, 358, PT_SH_EXEC, PT_ACC_EXEC, 0, 1, 4) \
	PT_SC(chdir, 80, 12, PT_SH_CHDIR, PT_ACC_STAT, -1, 0, PT_SC_FOLLOW) \
	PT_SC(chroot, 161, 61, PT_SH_CHROOT, PT_ACC_STAT, -1, 0, PT_SC_FOLLOW) \
	PT_SC(mkdir, 83, 39, PT_SH_MKDIR, PT_ACC_CREATE, -1, 0, PT_SC_NOFOLLOW) \
	PT_SC(mkdirat, 258, 296, PT_SH_MKDIR, PT_ACC_CREATE, 0, 1, PT_SC_NOFOLLOW) \
	PT_SC(mknod, 133, 14, PT_SH_MKNOD, PT_ACC_CREATE, -1, 0, PT_SC_NOFOLLOW) \
	PT_SC(mknodat, 259, 297, PT_SH_MKNOD, PT_ACC_CREATE, 0, 1, PT_SC_NOFOLLOW) \
	PT_SC(symlink, 88, 83, PT_SH_SYMLINK, PT_ACC_CREATE, -1, 1, PT_SC_NOFOLLOW) \
	PT_SC(symlinkat, 266, 304, PT_SH_SYMLINK, PT_ACC_CREATE, 1, 2, PT_SC_NOFOLLOW) \
	PT_SC(rmdir, 84, 40, PT_SH_REMOVE, PT_ACC_DELETE, -1, 0, PT_SC_RMDIR) \
	PT_SC(unlink, 87, 10, PT_SH_REMOVE, PT_ACC_DELETE, -1, 0, PT_SC_NOFOLLOW) \
	PT_SC(unlinkat, 263, 301, PT_SH_REMOVE, PT_ACC_DELETE, 0, 1, 2) \
	PT_SC(rename, 82, 38, PT_SH_RENAME, PT_ACC_RENAME, -1, 0, PT_SC_NOFOLLOW) \
	PT_SC(renameat, 264, 302, PT_SH_RENAME, PT_ACC_RENAME, 0, 1, PT_SC_NOFOLLOW) \
	PT_SC(renameat2, 316, 353, PT_SH_RENAME, PT_ACC_RENAME, 0, 1, 4) \
	PT_SC(link, 86, 9, PT_SH_LINK, PT_ACC_LINK, -1, 0, PT_SC_NOFOLLOW) \
	PT_SC(linkat, 265, 303, PT_SH_LINK, PT_ACC_LINK, 0, 1, 4) \
	PT_SC(truncate, 76, 92, PT_SH_TRUNCATE, PT_ACC_WRITE, -1, 0, PT_SC_FOLLOW) \
	PT_SC(truncate64, -1, 193, PT_SH_TRUNCATE, PT_ACC_WRITE, -1, 0, PT_SC_FOLLOW) \
	PT_SC(chmod, 90, 15, PT_SH_CHMOD, PT_ACC_ATTRIBUTES, -1, 0, PT_SC_FOLLOW) \
	PT_SC(fchmodat, 268, 306, PT_SH_CHMOD, PT_ACC_ATTRIBUTES, 0, 1, PT_SC_FOLLOW) \
	PT_SC(fchmodat2, 452, 452, PT_SH_CHMOD, PT_ACC_ATTRIBUTES, 0, 1, 3) \
	PT_SC(fchmod, 91, 94, PT_SH_CHMOD, PT_ACC_ATTRIBUTES, 0, -1, PT_SC_FOLLOW) \
	PT_SC(chown, 92, 182, PT_SH_CHOWN, PT_ACC_ATTRIBUTES, -1, 0, PT_SC_FOLLOW) \
	PT_SC(lchown, 94, 16, PT_SH_CHOWN, PT_ACC_ATTRIBUTES, -1, 0, PT_SC_NOFOLLOW) \
	PT_SC(chown32, -1, 212, PT_SH_CHOWN, PT_ACC_ATTRIBUTES, -1, 0, PT_SC_FOLLOW) \
	PT_SC(lchown32, -1, 198, PT_SH_CHOWN, PT_ACC_ATTRIBUTES, -1, 0, PT_SC_NOFOLLOW) \
	PT_SC(fchown, 93, 95, PT_SH_CHOWN, PT_ACC_ATTRIBUTES, 0, -1, PT_SC_FOLLOW) \
	PT_SC(fchown32, -1, 207, PT_SH_CHOWN, PT_ACC_ATTRIBUTES, 0, -1, PT_SC_FOLLOW) \
	PT_SC(fchownat, 260, 298, PT_SH_CHOWN, PT_ACC_ATTRIBUTES, 0, 1, 4) \
	PT_SC(utime, 132, 30, PT_SH_UTIME, PT_ACC_ATTRIBUTES, -1, 0, PT_SC_FOLLOW) \
	PT_SC(utimes, 235, 271, PT_SH_UTIMES, PT_ACC_ATTRIBUTES, -1, 0, PT_SC_FOLLOW) \
	PT_SC(futimesat, 261, 299, PT_SH_UTIMES, PT_ACC_ATTRIBUTES, 0, 1, PT_SC_FOLLOW) \
	PT_SC(utimensat, 280, 320, PT_SH_UTIMENS, PT_ACC_ATTRIBUTES, 0, 1, 3) \
	PT_SC(utimensat_time64, -1, 412, PT_SH_UTIMENS, PT_ACC_ATTRIBUTES, 0, 1, 3) \
	PT_SC(setxattr, 188, 226, PT_SH_SETXATTR, PT_ACC_ATTRIBUTES, -1, 0, PT_SC_FOLLOW) \
	PT_SC(lsetxattr, 189, 227, PT_SH_SETXATTR, PT_ACC_ATTRIBUTES, -1, 0, PT_SC_NOFOLLOW) \
	PT_SC(fsetxattr, 190, 228, PT_SH_SETXATTR, PT_ACC_ATTRIBUTES, 0, -1, PT_SC_FOLLOW) \
	PT_SC(removexattr, 197, 235, PT_SH_REMOVEXATTR, PT_ACC_ATTRIBUTES, -1, 0, PT_SC_FOLLOW) \
	PT_SC(lremovexattr, 198, 236, PT_SH_REMOVEXATTR, PT_ACC_ATTRIBUTES, -1, 0, PT_SC_NOFOLLOW) \
	PT_SC(fremovexattr, 199, 237, PT_SH_REMOVEXATTR, PT_ACC_ATTRIBUTES, 0, -1, PT_SC_FOLLOW) \
	PT_SC(getxattr, 191, 229, PT_SH_GETXATTR, PT_ACC_STAT, -1, 0, PT_SC_FOLLOW) \
	PT_SC(lgetxattr, 192, 230, PT_SH_GETXATTR, PT_ACC_STAT, -1, 0, PT_SC_NOFOLLOW) \
	PT_SC(listxattr, 194, 232, PT_SH_LISTXATTR, PT_ACC_STAT, -1, 0, PT_SC_FOLLOW) \
	PT_SC(llistxattr, 195, 233, PT_SH_LISTXATTR, PT_ACC_STAT, -1, 0, PT_SC_NOFOLLOW) \
	PT_SC(setxattrat, 463, 463, PT_SH_NOSYS, PT_ACC_ATTRIBUTES, 0, 1, 2) \
	PT_SC(getxattrat, 464, 464, PT_SH_NOSYS, PT_ACC_STAT, 0, 1, 2) \
	PT_SC(listxattrat, 465, 465, PT_SH_NOSYS, PT_ACC_STAT, 0, 1, 2) \
	PT_SC(removexattrat, 466, 466, PT_SH_NOSYS, PT_ACC_ATTRIBUTES, 0, 1, 2) \
	PT_SC(file_getattr, 468, 468, PT_SH_NOSYS, PT_ACC_STAT, 0, 1, 4) \
	PT_SC(file_setattr, 469, 469, PT_SH_NOSYS, PT_ACC_ATTRIBUTES, 0, 1, 4) \
	PT_SC(statfs, 137, 99, PT_SH_STATFS, PT_ACC_STAT, -1, 0, PT_SC_FOLLOW) \
	PT_SC(statfs64, -1, 268, PT_SH_STATFS, PT_ACC_STAT, -1, 0, PT_SC_FOLLOW) \
	PT_SC(getdents, 78, 141, PT_SH_LIST, PT_ACC_LIST, 0, -1, PT_SC_FOLLOW) \
	PT_SC(getdents64, 217, 220, PT_SH_LIST, PT_ACC_LIST, 0, -1, PT_SC_FOLLOW) \
	PT_SC(readdir, -1, 89, PT_SH_LIST, PT_ACC_LIST, 0, -1, PT_SC_FOLLOW) \
	PT_SC(connect, 42, 362, PT_SH_CONNECT, PT_ACC_READ, -1, 1, 2) \
	PT_SC(bind, 49, 361, PT_SH_BIND, PT_ACC_CREATE, -1, 1, 2) \
	PT_SC(sendto, 44, 369, PT_SH_SENDTO, PT_ACC_READ, -1, 4, 5) \
	PT_SC(sendmsg, 46, 370, PT_SH_SENDMSG, PT_ACC_READ, -1, 1, PT_SC_FOLLOW) \
	PT_SC(sendmmsg, 307, 345, PT_SH_SENDMMSG, PT_ACC_READ, -1, 1, 2) \
	PT_SC(socketcall, -1, 102, PT_SH_SOCKETCALL, PT_ACC_READ, -1, 1, PT_SC_FOLLOW) \
	PT_SC(inotify_add_watch, 254, 292, PT_SH_INOTIFY, PT_ACC_STAT, -1, 1, PT_SC_FOLLOW) \
	PT_SC(fanotify_mark, 301, 339, PT_SH_REFUSE, PT_ACC_STAT, -1, -1, PT_SC_FOLLOW) \
	PT_SC(name_to_handle_at, 303, 341, PT_SH_REFUSE, PT_ACC_STAT, 0, 1, PT_SC_NOFOLLOW) \
	PT_SC(open_by_handle_at, 304, 342, PT_SH_REFUSE, PT_ACC_READ, -1, -1, PT_SC_FOLLOW) \
	PT_SC(uselib, 134, 86, PT_SH_NOSYS, PT_ACC_EXEC, -1, 0, PT_SC_FOLLOW) \
	PT_SC(mount, 165, 21, PT_SH_REFUSE, PT_ACC_WRITE, -1, -1, PT_SC_FOLLOW) \
	PT_SC(umount, -1, 22, PT_SH_REFUSE, PT_ACC_WRITE, -1, -1, PT_SC_FOLLOW) \
	PT_SC(umount2, 166, 52, PT_SH_REFUSE, PT_ACC_WRITE, -1, -1, PT_SC_FOLLOW) \
	PT_SC(pivot_root, 155, 217, PT_SH_REFUSE, PT_ACC_WRITE, -1, -1, PT_SC_FOLLOW) \
	PT_SC(open_tree, 428, 428, PT_SH_REFUSE, PT_ACC_STAT, -1, -1, PT_SC_FOLLOW) \
	PT_SC(open_tree_attr, 467, 467, PT_SH_REFUSE, PT_ACC_STAT, -1, -1, PT_SC_FOLLOW) \
	PT_SC(move_mount, 429, 429, PT_SH_REFUSE, PT_ACC_WRITE, -1, -1, PT_SC_FOLLOW) \
	PT_SC(fsopen, 430, 430, PT_SH_REFUSE, PT_ACC_WRITE, -1, -1, PT_SC_FOLLOW) \
	PT_SC(fspick, 433, 433, PT_SH_REFUSE, PT_ACC_WRITE, -1, -1, PT_SC_FOLLOW) \
	PT_SC(mount_setattr, 442, 442, PT_SH_REFUSE, PT_ACC_WRITE, -1, -1, PT_SC_FOLLOW) \
	PT_SC(setns, 308, 346, PT_SH_JOIN, PT_ACC_WRITE, -1, -1, PT_SC_FOLLOW) \
	PT_SC(acct, 163, 51, PT_SH_REFUSE, PT_ACC_WRITE, -1, -1, PT_SC_FOLLOW) \
	PT_SC(swapon, 167, 87, PT_SH_REFUSE, PT_ACC_WRITE, -1, -1, PT_SC_FOLLOW) \
	PT_SC(swapoff, 168, 115, PT_SH_REFUSE, PT_ACC_WRITE, -1, -1, PT_SC_FOLLOW) \
	PT_SC(quotactl, 179, 131, PT_SH_REFUSE, PT_ACC_STAT, -1, -1, PT_SC_FOLLOW) \
	PT_SC(quotactl_fd, 443, 443, PT_SH_REFUSE, PT_ACC_STAT, -1, -1, PT_SC_FOLLOW) \
	PT_SC(bpf, 321, 357, PT_SH_REFUSE, PT_ACC_STAT, -1, -1, PT_SC_FOLLOW) \
	PT_SC(perf_event_open, 298, 336, PT_SH_REFUSE, PT_ACC_STAT, -1, -1, PT_SC_FOLLOW) /* a probe takes a path */ \
	PT_SC(init_module, 175, 128, PT_SH_REFUSE, PT_ACC_WRITE, -1, -1, PT_SC_FOLLOW) \
	PT_SC(finit_module, 313, 350, PT_SH_REFUSE, PT_ACC_WRITE, -1, -1, PT_SC_FOLLOW) \
	PT_SC(delete_module, 176, 129, PT_SH_REFUSE, PT_ACC_WRITE, -1, -1, PT_SC_FOLLOW) \
	PT_SC(kexec_load, 246, 283, PT_SH_REFUSE, PT_ACC_WRITE, -1, -1, PT_SC_FOLLOW) \
	PT_SC(kexec_file_load, 320, -1, PT_SH_REFUSE, PT_ACC_WRITE, -1, -1, PT_SC_FOLLOW) \
	PT_SC(iopl, 172, 110, PT_SH_REFUSE, PT_ACC_WRITE, -1, -1, PT_SC_FOLLOW) /* ports: the disk's too */ \
	PT_SC(ioperm, 173, 101, PT_SH_REFUSE, PT_ACC_WRITE, -1, -1, PT_SC_FOLLOW) \
	PT_SC(setuid, 105, 23, PT_SH_IDS, PT_ACC_STAT, -1, -1, PT_SC_FOLLOW) \
	PT_SC(setuid32, -1, 213, PT_SH_IDS, PT_ACC_STAT, -1, -1, PT_SC_FOLLOW) \
	PT_SC(setgid, 106, 46, PT_SH_IDS, PT_ACC_STAT, -1, -1, PT_SC_FOLLOW) \
	PT_SC(setgid32, -1, 214, PT_SH_IDS, PT_ACC_STAT, -1, -1, PT_SC_FOLLOW) \
	PT_SC(setreuid, 113, 70, PT_SH_IDS, PT_ACC_STAT, -1, -1, PT_SC_FOLLOW) \
	PT_SC(setreuid32, -1, 203, PT_SH_IDS, PT_ACC_STAT, -1, -1, PT_SC_FOLLOW) \
	PT_SC(setregid, 114, 71, PT_SH_IDS, PT_ACC_STAT, -1, -1, PT_SC_FOLLOW) \
	PT_SC(setregid32, -1, 204, PT_SH_IDS, PT_ACC_STAT, -1, -1, PT_SC_FOLLOW) \
	PT_SC(setgroups, 116, 81, PT_SH_IDS, PT_ACC_STAT, -1, -1, PT_SC_FOLLOW) \
	PT_SC(setgroups32, -1, 206, PT_SH_IDS, PT_ACC_STAT, -1, -1, PT_SC_FOLLOW) \
	PT_SC(setresuid, 117, 164, PT_SH_IDS, PT_ACC_STAT, -1, -1, PT_SC_FOLLOW) \
	PT_SC(setresuid32, -1, 208, PT_SH_IDS, PT_ACC_STAT, -1, -1, PT_SC_FOLLOW) \
	PT_SC(setresgid, 119, 170, PT_SH_IDS, PT_ACC_STAT, -1, -1, PT_SC_FOLLOW) \
	PT_SC(setresgid32, -1, 210, PT_SH_IDS, PT_ACC_STAT, -1, -1, PT_SC_FOLLOW) \
	PT_SC(setfsuid, 122, 138, PT_SH_IDS, PT_ACC_STAT, -1, -1, PT_SC_FOLLOW) \
	PT_SC(setfsuid32, -1, 215, PT_SH_IDS, PT_ACC_STAT, -1, -1, PT_SC_FOLLOW) \
	PT_SC(setfsgid, 123, 139, PT_SH_IDS, PT_ACC_STAT, -1, -1, PT_SC_FOLLOW) \
	PT_SC(setfsgid32, -1, 216, PT_SH_IDS, PT_ACC_STAT, -1, -1, PT_SC_FOLLOW) \
	PT_SC(capset, 126, 185, PT_SH_IDS, PT_ACC_STAT, -1, -1, PT_SC_FOLLOW) \
	PT_SC(unshare, 272, 310, PT_SH_IDS, PT_ACC_STAT, -1, -1, PT_SC_FOLLOW) \
	PT_SC(clone, 56, 120, PT_SH_CLONE, PT_ACC_STAT, -1, -1, PT_SC_FOLLOW) \
	PT_SC(clone3, 435, 435, PT_SH_NOSYS, PT_ACC_STAT, -1, -1, PT_SC_FOLLOW) /* its flags are in memory; clone's are not */ \
	PT_SC(ptrace, 101, 26, PT_SH_PTRACE, PT_ACC_WRITE, -1, -1, PT_SC_FOLLOW) \
	PT_SC(process_vm_writev, 311, 348, PT_SH_MEMORY, PT_ACC_WRITE, -1, -1, PT_SC_FOLLOW) \
	PT_SC(pidfd_getfd, 438, 438, PT_SH_TAKE, PT_ACC_READ, -1, -1, PT_SC_FOLLOW) \
	PT_SC(prlimit64, 302, 340, PT_SH_LIMIT, PT_ACC_WRITE, -1, -1, PT_SC_FOLLOW) \
	PT_SC(ioctl, 16, 54, PT_SH_IOCTL, PT_ACC_ATTRIBUTES, 0, -1, PT_SC_FOLLOW) \
	PT_SC(io_uring_setup, 425, 425, PT_SH_NOSYS, PT_ACC_READ, -1, -1, PT_SC_FOLLOW) \
	PT_SC(io_uring_enter, 426, 426, PT_SH_NOSYS, PT_ACC_READ, -1, -1, PT_SC_FOLLOW) \
	PT_SC(io_uring_register, 427, 427, PT_SH_NOSYS, PT_ACC_READ, -1, -1, PT_SC_FOLLOW)

/* Requests of ioctl that change a file's attributes through a descriptor that was opened for reading (x86, arm64 and most others). */
#define PT_IOC_SETFLAGS 0x40086602u
#define PT_IOC32_SETFLAGS 0x40046602u
#define PT_IOC_FSSETXATTR 0x401c5820u
#define PT_ATTRIBUTE_REQUESTS { PT_IOC_SETFLAGS, PT_IOC32_SETFLAGS, PT_IOC_FSSETXATTR, \
	0x40087602u, 0x40047602u /* SETVERSION */, 0x40806685u /* ENABLE_VERITY */, 0x800c6613u /* SET_ENCRYPTION_POLICY */ }

/* Keys put into a terminal as if somebody had typed them: the next to read it is the user's shell. EIO, as of newer kernels. */
#define PT_KEYS_REQUESTS { 0x5412u /* TIOCSTI */, 0x541cu /* TIOCLINUX: what is marked on the console */ }

/*
 * Numbers of the machine that this is compiled for. arm64 never had the oldest calls (those without "at").
 */
#if defined(__x86_64__)
#define PT_SC_NATIVE(name, nr64) nr64
#define PT_SC_COMPAT(nr32) nr32
#elif defined(__aarch64__)
#include <sys/syscall.h>
#define PT_SC_NATIVE(name, nr64) SYS_##name
/* Other words of musl's headers for the calls without 64: a row's name would become what they stand for. */
#undef stat64
#undef lstat64
#undef truncate64
#undef statfs64
#undef getdents64
#undef prlimit64
#define PT_SC_COMPAT(nr32) (-1)     /* a 32-bit program's calls are all refused */
#define SYS_open (-1)
#define SYS_creat (-1)
#define SYS_stat (-1)
#define SYS_lstat (-1)
#define SYS_stat64 (-1)
#define SYS_lstat64 (-1)
#define SYS_oldstat (-1)
#define SYS_oldlstat (-1)
#define SYS_access (-1)
#define SYS_readlink (-1)
#define SYS_chmod (-1)
#define SYS_chown (-1)
#define SYS_lchown (-1)
#define SYS_chown32 (-1)
#define SYS_lchown32 (-1)
#define SYS_fchown32 (-1)
#define SYS_utime (-1)
#define SYS_utimes (-1)
#define SYS_futimesat (-1)
#define SYS_utimensat_time64 (-1)
#define SYS_mkdir (-1)
#define SYS_mknod (-1)
#define SYS_symlink (-1)
#define SYS_rmdir (-1)
#define SYS_unlink (-1)
#define SYS_rename (-1)
#define SYS_link (-1)
#define SYS_truncate64 (-1)
#define SYS_iopl (-1)
#define SYS_ioperm (-1)
#define SYS_statfs64 (-1)
#define SYS_getdents (-1)
#define SYS_readdir (-1)
#define SYS_socketcall (-1)
#define SYS_uselib (-1)
#define SYS_umount (-1)
#define SYS_setuid32 (-1)
#define SYS_setgid32 (-1)
#define SYS_setreuid32 (-1)
#define SYS_setregid32 (-1)
#define SYS_setgroups32 (-1)
#define SYS_setresuid32 (-1)
#define SYS_setresgid32 (-1)
#define SYS_setfsuid32 (-1)
#define SYS_setfsgid32 (-1)
#ifndef SYS_clone3
#define SYS_clone3 435
#endif
#ifndef SYS_openat2
#define SYS_openat2 437
#endif
#ifndef SYS_faccessat2
#define SYS_faccessat2 439
#endif
#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif
#ifndef SYS_setxattrat
#define SYS_setxattrat 463
#endif
#ifndef SYS_getxattrat
#define SYS_getxattrat 464
#endif
#ifndef SYS_listxattrat
#define SYS_listxattrat 465
#endif
#ifndef SYS_removexattrat
#define SYS_removexattrat 466
#endif
#ifndef SYS_file_getattr
#define SYS_file_getattr 468
#endif
#ifndef SYS_file_setattr
#define SYS_file_setattr 469
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif
#ifndef SYS_quotactl_fd
#define SYS_quotactl_fd 443
#endif
#ifndef SYS_open_tree
#define SYS_open_tree 428
#endif
#ifndef SYS_open_tree_attr
#define SYS_open_tree_attr 467
#endif
#ifndef SYS_move_mount
#define SYS_move_mount 429
#endif
#ifndef SYS_fsopen
#define SYS_fsopen 430
#endif
#ifndef SYS_fspick
#define SYS_fspick 433
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif
#else
#error "supervised calls have no numbers for this machine yet"
#endif

/*
 * What the launcher sends over DIR/N/supervise, and the one byte that answers it. The filter stands by then, and would ask
 * about a message with a descriptor in it: the supervisor fetches the listener by its number.
 */
#define PT_SUPERVISE_SOCKET "supervise"
#define PT_SUPERVISE_HELLO "porttrace-supervise 2"
struct pt_supervise_hello {
	char text[sizeof PT_SUPERVISE_HELLO];
	int listener;
};
#define PT_SUPERVISE_ACK 'k'
/* Asked (by access) whether the caller is supervised: EUCLEAN from a supervisor, else ENOENT. */
#define PT_SUPERVISE_PROBE "/proc/porttrace-is-supervised"

#endif
