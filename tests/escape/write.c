/* Ways to change something outside: the runner looks at what changed. The target is outside/file, new names are outside/new. */
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "attempt.h"

#define E(call) ((call) < 0 ? errno : 0)
#define FILE_ in("outside/file")
#define NEW_ in("outside/new")
#define T(name) static int t_##name(const char *unused)
#define U (void)unused

static int put(int fd) { return fd < 0 ? errno : E(write(fd, "changed", 7)); }
T(open) { U; return put(open(FILE_, O_WRONLY)); }
T(sys_open) { U; return put((int)sys(SYS_open, FILE_, O_WRONLY)); }
T(append) { U; return put(open(FILE_, O_WRONLY | O_APPEND)); }
T(rdwr) { U; return put(openat(AT_FDCWD, FILE_, O_RDWR)); }
T(trunc) { U; return E(open(FILE_, O_RDONLY | O_TRUNC)); }
T(sys_trunc) { U; return E(sys(SYS_open, FILE_, O_RDONLY | O_TRUNC)); }
T(create) { U; return E(open(NEW_, O_CREAT | O_WRONLY, 0644)); }
T(create_rdonly) { U; return E(open(NEW_, O_CREAT | O_RDONLY, 0644)); }
T(sys_creat) { U; return E(sys(SYS_creat, NEW_, 0644)); }
T(fopen) { U; FILE *f = fopen(FILE_, "w"); return f ? 0 : errno; }
T(truncate) { U; return E(truncate(FILE_, 0)); }
T(sys_truncate) { U; return E(sys(SYS_truncate, FILE_, 0)); }
T(unlink) { U; return E(unlink(FILE_)); }
T(sys_unlinkat) { U; return E(sys(SYS_unlinkat, AT_FDCWD, FILE_, 0)); }
T(remove) { U; return E(remove(FILE_)); }
T(rmdir) { U; return E(rmdir(in("outside/empty"))); }
T(rename_in) { U; return E(rename(FILE_, in("work/taken"))); }
T(rename_out) { U; close(open(in("work/w"), O_CREAT | O_WRONLY, 0644)); return E(rename(in("work/w"), NEW_)); }
T(sys_rename_over) { U; close(open(in("work/w"), O_CREAT | O_WRONLY, 0644)); return E(sys(SYS_rename, in("work/w"), FILE_)); }
T(sys_exchange) { U; close(open(in("work/w"), O_CREAT | O_WRONLY, 0644)); return E(sys(SYS_renameat2, AT_FDCWD, in("work/w"), AT_FDCWD, FILE_, 2)); }
T(link_out) { U; close(open(in("work/w"), O_CREAT | O_WRONLY, 0644)); return E(link(in("work/w"), NEW_)); }
T(hardlink_in) { U; if (link(FILE_, in("work/hard"))) return errno; return put(open(in("work/hard"), O_WRONLY)); }
T(sys_hardlink_in) { U; if (sys(SYS_link, FILE_, in("work/hard"))) return errno; return put((int)sys(SYS_open, in("work/hard"), O_WRONLY)); }
T(symlink) { U; return E(symlink("x", NEW_)); }
T(sys_symlinkat) { U; return E(sys(SYS_symlinkat, "x", AT_FDCWD, NEW_)); }
T(mkdir) { U; return E(mkdir(NEW_, 0755)); }
T(sys_mkdirat) { U; return E(sys(SYS_mkdirat, AT_FDCWD, NEW_, 0755)); }
T(mkfifo) { U; return E(mkfifo(NEW_, 0644)); }
T(sys_mknod) { U; return E(sys(SYS_mknod, NEW_, S_IFREG | 0644, 0)); }
T(mknod_disk) { U; return E(mknod(in("work/disk"), S_IFBLK | 0600, makedev(254, 0))) ? errno : E(open(in("work/disk"), O_RDWR)) ? errno : (rename(FILE_, NEW_), 0); }
T(bind) { U; struct sockaddr_un a = { .sun_family = AF_UNIX }; snprintf(a.sun_path, sizeof a.sun_path, "%s", NEW_);
	return E(bind(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&a, sizeof a)); }
T(chmod) { U; return E(chmod(FILE_, 0600)); }
T(fchmod) { U; return E(fchmod(open(FILE_, O_RDONLY), 0600)); }
T(sys_fchmod) { U; return E(sys(SYS_fchmod, open(FILE_, O_RDONLY), 0600)); }
T(sys_fchmodat) { U; return E(sys(SYS_fchmodat, AT_FDCWD, FILE_, 0600)); }
T(chmod_proc_fd) { U; char p[64]; snprintf(p, sizeof p, "/proc/self/fd/%d", open(FILE_, O_RDONLY)); return E(chmod(p, 0600)); }
T(chown) { U; return E(chown(FILE_, (uid_t)-1, getgid())) ? errno : E(chmod(FILE_, 0600)); }
T(utimes) { U; struct timeval t[2] = { { 1, 0 }, { 1, 0 } }; return E(utimes(FILE_, t)); }
T(futimens) { U; struct timespec t[2] = { { 1, 0 }, { 1, 0 } }; return E(futimens(open(FILE_, O_RDONLY), t)); }
T(sys_utimensat) { U; struct timespec t[2] = { { 1, 0 }, { 1, 0 } }; return E(sys(SYS_utimensat, AT_FDCWD, FILE_, t, 0)); }
T(setxattr) { U; return E(setxattr(FILE_, "user.x", "y", 1, 0)); }
T(fsetxattr) { U; return E(fsetxattr(open(FILE_, O_RDONLY), "user.x", "y", 1, 0)); }
T(sys_setxattr) { U; return E(sys(SYS_setxattr, FILE_, "user.x", "y", 1, 0)); }
T(sys_fsetxattr) { U; return E(sys(SYS_fsetxattr, open(FILE_, O_RDONLY), "user.x", "y", 1, 0)); }
T(setflags) { U; int f = FS_NODUMP_FL; return E(ioctl(open(FILE_, O_RDONLY), FS_IOC_SETFLAGS, &f)); }
T(tmpfile_link) { U; int fd = open(in("outside"), O_TMPFILE | O_WRONLY, 0644); char p[64]; if (fd < 0) return errno;
	snprintf(p, sizeof p, "/proc/self/fd/%d", fd); return E(linkat(AT_FDCWD, p, AT_FDCWD, NEW_, AT_SYMLINK_FOLLOW)); }
T(dirfd) { U; return E(openat(open(in("outside"), O_RDONLY), "new", O_CREAT | O_WRONLY, 0644)); }
T(sys_dirfd_path) { U; return E(sys(SYS_openat, open(in("outside"), O_PATH), "new", O_CREAT | O_WRONLY, 0644)); }
T(chdir) { U; return chdir(in("outside")) ? errno : E(open("new", O_CREAT | O_WRONLY, 0644)); }
T(symlink_through) { U; symlink("../outside/file", in("work/s")); return put(open(in("work/s"), O_WRONLY)); }
T(symlink_dir) { U; symlink("../outside", in("work/d")); return E(open(in("work/d/new"), O_CREAT | O_WRONLY, 0644)); }
T(dangling) { U; symlink(NEW_, in("work/s")); return E(open(in("work/s"), O_CREAT | O_WRONLY, 0644)); }
T(proc_fd) { U; char p[64]; snprintf(p, sizeof p, "/proc/self/fd/%d", open(FILE_, O_RDONLY)); return put(open(p, O_WRONLY)); }
T(sys_proc_root) { U; char p[600]; snprintf(p, sizeof p, "/proc/self/root%s", FILE_); return put((int)sys(SYS_open, p, O_WRONLY)); }
static int child(char *const *argv)
{
	char *none[] = { NULL };
	int s = 0;
	pid_t pid = fork();
	if (!pid) {
		execve(argv[0], argv, none);
		_exit(1);
	}
	waitpid(pid, &s, 0);
	return s ? EACCES : 0;
}
T(sh_clean) { U; char l[700]; snprintf(l, sizeof l, "echo x > '%s'", NEW_); char *v[] = { "/bin/sh", "-c", l, NULL }; return child(v); }
T(busybox) { U; char *v[] = { "/bin/busybox", "touch", (char *)(uintptr_t)NEW_, NULL }; return child(v); }
T(busybox_rm) { U; char *v[] = { "/bin/busybox", "rm", "-f", (char *)(uintptr_t)FILE_, NULL }; return child(v); }
T(background) { U; if (!fork()) { setsid(); if (!fork()) _exit(put(open(FILE_, O_WRONLY))); _exit(0); } wait(NULL); usleep(50000); return EACCES; }
T(bind_mount) { U; mkdir(in("work/m"), 0755); return mount(in("outside"), in("work/m"), NULL, MS_BIND, NULL) ? errno : E(open(in("work/m/new"), O_CREAT | O_WRONLY, 0644)); }
T(sys_userns) { U; mkdir(in("work/m"), 0755); if (sys(SYS_unshare, 0x10020000)) return errno;
	return sys(SYS_mount, in("outside"), in("work/m"), 0, MS_BIND, 0) ? errno : E(sys(SYS_open, in("work/m/new"), O_CREAT | O_WRONLY, 0644)); }
T(sys_chroot) { U; return sys(SYS_chroot, in("outside")) ? errno : E(sys(SYS_open, "/new", O_CREAT | O_WRONLY, 0644)); }
T(sys_acct) { U; return E(sys(SYS_acct, FILE_)) ? errno : (sys(SYS_acct, 0), 0); }
T(shared_map) { U; int fd = open(FILE_, O_RDWR); char *m = fd < 0 ? MAP_FAILED : mmap(NULL, 8, PROT_WRITE, MAP_SHARED, fd, 0);
	if (m == MAP_FAILED) return errno; m[0] = 'X'; return 0; }
T(sys_fallocate) { U; int fd = (int)sys(SYS_open, FILE_, O_WRONLY); return fd < 0 ? errno : E(fallocate(fd, 0, 0, 4096)); }
T(deep_open) { U; int fd = open(deep("outside/file"), O_WRONLY | O_APPEND); return fd < 0 ? errno : (write(fd, "X", 1), 0); }
T(deep_create) { U; return E(open(deep("outside/new"), O_CREAT | O_WRONLY, 0644)); }
T(deep_chmod) { U; return E(chmod(deep("outside/file"), 0600)); }
T(sys_deep_chmod) { U; return E(sys(SYS_chmod, deep("outside/file"), 0600)); }
T(deep_unlink) { U; return E(unlink(deep("outside/file"))); }
T(deep_fchmod) {
	U;
	symlink(deep("outside/file"), "link");
	int fd = open("link", O_RDONLY);
	return fd < 0 ? errno : E(fchmod(fd, 0600));
}
T(jit) {
	U;
#if defined(__x86_64__)
	static volatile const unsigned char code[] = { 0xe2, 0xd, 0x5a, 0x5a, 0x5a, 0x55, 0x5f, 0x99 }; /* xor 0x5a: no scan finds it */
	unsigned char *m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (unsigned i = 0; i < sizeof code; i++)
		m[i] = code[i] ^ 0x5a;
	if (mprotect(m, 4096, PROT_READ | PROT_EXEC))
		return errno;
	long r = ((long (*)(const char *))(uintptr_t)m)(FILE_);
	return (int)-r;
#else
	return ENOSYS;
#endif
}

const struct attempt write_attempts[] = {
	{ "open", t_open }, { "sys-open", t_sys_open }, { "append", t_append }, { "rdwr", t_rdwr }, { "trunc", t_trunc },
	{ "sys-trunc", t_sys_trunc }, { "create", t_create }, { "create-rdonly", t_create_rdonly }, { "sys-creat", t_sys_creat },
	{ "fopen", t_fopen }, { "truncate", t_truncate }, { "sys-truncate", t_sys_truncate }, { "unlink", t_unlink },
	{ "sys-unlinkat", t_sys_unlinkat }, { "remove", t_remove }, { "rmdir", t_rmdir }, { "rename-in", t_rename_in },
	{ "rename-out", t_rename_out }, { "sys-rename-over", t_sys_rename_over }, { "sys-exchange", t_sys_exchange },
	{ "link-out", t_link_out }, { "hardlink-in", t_hardlink_in }, { "sys-hardlink-in", t_sys_hardlink_in }, { "symlink", t_symlink },
	{ "sys-symlinkat", t_sys_symlinkat }, { "mkdir", t_mkdir }, { "sys-mkdirat", t_sys_mkdirat }, { "mkfifo", t_mkfifo },
	{ "sys-mknod", t_sys_mknod }, { "mknod-disk", t_mknod_disk }, { "bind", t_bind }, { "chmod", t_chmod }, { "fchmod", t_fchmod },
	{ "sys-fchmod", t_sys_fchmod }, { "sys-fchmodat", t_sys_fchmodat }, { "chmod-proc-fd", t_chmod_proc_fd }, { "chown", t_chown },
	{ "utimes", t_utimes }, { "futimens", t_futimens }, { "sys-utimensat", t_sys_utimensat }, { "setxattr", t_setxattr },
	{ "fsetxattr", t_fsetxattr }, { "sys-setxattr", t_sys_setxattr }, { "sys-fsetxattr", t_sys_fsetxattr }, { "setflags", t_setflags },
	{ "tmpfile-link", t_tmpfile_link }, { "dirfd", t_dirfd }, { "sys-dirfd-path", t_sys_dirfd_path }, { "chdir", t_chdir },
	{ "symlink-through", t_symlink_through }, { "symlink-dir", t_symlink_dir }, { "dangling", t_dangling }, { "proc-fd", t_proc_fd },
	{ "sys-proc-root", t_sys_proc_root }, { "sh-clean", t_sh_clean }, { "busybox", t_busybox }, { "busybox-rm", t_busybox_rm },
	{ "background", t_background }, { "bind-mount", t_bind_mount }, { "sys-userns", t_sys_userns }, { "sys-chroot", t_sys_chroot },
	{ "sys-acct", t_sys_acct }, { "shared-map", t_shared_map }, { "sys-fallocate", t_sys_fallocate }, { "jit", t_jit },
	{ "deep-open", t_deep_open }, { "deep-create", t_deep_create }, { "deep-chmod", t_deep_chmod },
	{ "sys-deep-chmod", t_sys_deep_chmod }, { "deep-unlink", t_deep_unlink }, { "deep-fchmod", t_deep_fchmod }, { NULL, NULL },
};
