/*
 * Doors that are rarely tried: other ways into the kernel, name spaces by calls that take flags in a structure, what the
 * kernel does on its own for whoever may tell it, and the program's memory that answers a look at it differently each time.
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>

#include "attempt.h"

#define E(call) ((call) < 0 ? errno : 0)
#define T(name) static int name(const char *target)
#define U (void)target
#define FILE_ in("outside/file")
#define NEW_ in("outside/new")

/* ---- other ways in ---- */

#if defined(__x86_64__)
#define X32 0x40000000L
static char *low(const char *text)
{
	char *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	return strcpy(at, text);
}
static long old(long n, long a, long b, long c)
{
	long r;
	__asm__ volatile("int $0x80" : "=a"(r) : "0"(n), "b"(a), "c"(b), "d"(c) : "memory", "r8", "r9", "r10", "r11");
	errno = r < 0 ? (int)-r : 0;
	return r < 0 ? -1 : r;
}
T(r_x32) { return show_fd((int)sys(2 | X32, target, O_RDONLY)); }
T(r_int80) { return show_fd((int)old(5, (long)low(target), O_RDONLY, 0)); }
T(r_int80_at) { return show_fd((int)old(295, AT_FDCWD, (long)low(target), O_RDONLY)); }
T(e_int80) { return E(old(33, (long)low(target), F_OK, 0)); }
T(e_int80_readlink) { char *b = low(target); return E(old(85, (long)b, (long)(b + 2048), 100)); }
T(w_int80) { U; return E(old(5, (long)low(NEW_), O_CREAT | O_WRONLY, 0644)); }
T(w_int80_chmod) { U; return E(old(15, (long)low(FILE_), 0600, 0)); }
#else
#define r_x32 none
#define r_int80 none
#define r_int80_at none
#define e_int80 none
#define e_int80_readlink none
#define w_int80 none
#define w_int80_chmod none
T(none) { U; return ENOSYS; }
#endif

/* ---- name spaces ---- */

struct clone3 { uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup; };
static int in_child(uint64_t flags, int three, int (*run)(const char *), const char *target)
{
	struct clone3 a = { .flags = flags, .exit_signal = SIGCHLD };
	int status = 0;
	pid_t pid = three ? (pid_t)sys(435, &a, sizeof a) : -1;
	if (!three || (pid < 0 && errno == ENOSYS)) /* as the C library falls back */
		pid = (pid_t)sys(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
	if (pid < 0)
		return errno;
	if (!pid) {
		usleep(20000);
		_exit(run(target));
	}
	waitpid(pid, &status, 0);
	return WEXITSTATUS(status);
}
static int bind_and_read(const char *target)
{
	U;
	mkdir(in("work/m"), 0755);
	if (sys(SYS_mount, in("hidden"), in("work/m"), "x", MS_BIND, 0))
		return errno;
	return show_fd((int)sys(SYS_openat, AT_FDCWD, in("work/m/secret"), O_RDONLY, 0));
}
static int tree_and_read(const char *target)
{
	U;
	int t = (int)sys(428, AT_FDCWD, in("hidden"), 1 /* OPEN_TREE_CLONE */);
	return t < 0 ? errno : show_fd((int)sys(SYS_openat, t, "secret", O_RDONLY, 0));
}
static int moved_and_read(const char *target)
{
	U;
	mkdir(in("work/m"), 0755);
	int t = (int)sys(428, AT_FDCWD, in("hidden"), 1);
	if (t < 0 || sys(429, t, "", AT_FDCWD, in("work/m"), 4))
		return errno;
	return show_fd((int)sys(SYS_openat, AT_FDCWD, in("work/m/secret"), O_RDONLY, 0));
}
static int overlay_and_read(const char *target)
{
	char options[1600];
	U;
	mkdir(in("work/m"), 0755);
	mkdir(in("work/l"), 0755);
	snprintf(options, sizeof options, "lowerdir=%s:%s", in("hidden"), in("work/l"));
	if (sys(SYS_mount, "o", in("work/m"), "overlay", 0, options))
		return errno;
	return show_fd((int)sys(SYS_openat, AT_FDCWD, in("work/m/secret"), O_RDONLY, 0));
}
static int root_and_read(const char *target)
{
	mkdir(in("work/m"), 0755);
	if (sys(SYS_mount, "/", in("work/m"), "x", MS_BIND | MS_REC, 0) || chdir(in("work/m")))
		return errno;
	return show_fd((int)sys(SYS_openat, AT_FDCWD, target + 1, O_RDONLY, 0));
}
static int pivoted(const char *target)
{
	mkdir(in("work/m"), 0755);
	if (sys(SYS_mount, in("hidden"), in("work/m"), "x", MS_BIND, 0) || chdir(in("work/m")) || sys(SYS_pivot_root, ".", "."))
		return errno;
	U;
	return show_fd((int)sys(SYS_openat, AT_FDCWD, "/secret", O_RDONLY, 0));
}
static int write_bound(const char *target)
{
	U;
	mkdir(in("work/m"), 0755);
	if (sys(SYS_mount, in("outside"), in("work/m"), "x", MS_BIND, 0))
		return errno;
	return E(sys(SYS_openat, AT_FDCWD, in("work/m/new"), O_CREAT | O_WRONLY, 0644));
}
static int chroot_and_read(const char *target)
{
	U;
	if (sys(SYS_chroot, in("hidden")))
		return errno;
	return show_fd((int)sys(SYS_openat, AT_FDCWD, "/secret", O_RDONLY, 0));
}
static int plain_read(const char *target) { return show_fd((int)sys(SYS_openat, AT_FDCWD, target, O_RDONLY, 0)); }
#define USERNS 0x10020000ull /* CLONE_NEWUSER | CLONE_NEWNS */
T(r_clone_bind) { return in_child(USERNS, 0, bind_and_read, target); }
T(r_clone3_bind) { return in_child(USERNS, 1, bind_and_read, target); }
T(r_clone3_tree) { return in_child(USERNS, 1, tree_and_read, target); }
T(r_clone_move) { return in_child(USERNS, 0, moved_and_read, target); }
T(r_clone_overlay) { return in_child(USERNS, 0, overlay_and_read, target); }
T(r_clone_root) { return in_child(USERNS, 0, root_and_read, target); }
T(r_clone_pivot) { return in_child(USERNS, 0, pivoted, target); }
T(r_clone_chroot) { return in_child(USERNS, 0, chroot_and_read, target); }
T(r_clone_pid) { return in_child(0x20000000ull | USERNS, 0, plain_read, target); } /* process numbers of its own */
T(r_clone3_files) { return in_child(0x400 /* CLONE_FILES */ | 0x200 /* CLONE_FS */, 1, plain_read, target); }
T(w_clone_bind) { U; return in_child(USERNS, 0, write_bound, FILE_); }
T(w_clone3_bind) { U; return in_child(USERNS, 1, write_bound, FILE_); }
T(r_unshare_pid)
{
	int status;
	if (sys(SYS_unshare, 0x30000000 /* user, pid */))
		return errno;
	pid_t pid = fork();
	if (!pid)
		_exit(plain_read(target));
	waitpid(pid, &status, 0);
	return WEXITSTATUS(status);
}
T(r_setns_child)
{
	int p[2], status;
	char c;
	if (pipe(p))
		return errno;
	pid_t pid = fork();
	if (!pid) {
		int e = sys(SYS_unshare, USERNS) ? errno : bind_and_read(target);
		(void)!write(p[1], "x", 1);
		usleep(300000);
		_exit(e);
	}
	(void)!read(p[0], &c, 1);
	int fd = (int)sys(434, pid, 0);
	if (sys(SYS_setns, fd, USERNS))
		return errno;
	return show_fd((int)sys(SYS_openat, AT_FDCWD, in("work/m/secret"), O_RDONLY, 0));
}

/* ---- what the kernel does for whoever may tell it: that it can be told is what is shown ---- */

static int may_tell(const char *path)
{
	int fd = (int)sys(SYS_openat, AT_FDCWD, path, O_WRONLY, 0);
	return fd < 0 ? errno : show("secret: it can be told");
}
T(r_core_pattern) { U; return may_tell("/proc/sys/kernel/core_pattern"); }
T(r_parent_oom) { U; char p[64]; snprintf(p, sizeof p, "/proc/%d/oom_score_adj", (int)getppid()); return may_tell(p); }
/* Keys for the terminal's next reader, which after the build is the user's shell. */
T(r_tiocsti)
{
	U;
	char got[16] = "";
	int master = posix_openpt(O_RDWR | O_NOCTTY), status;
	/* the runner's policy lets a terminal be opened, as the default one does */
	if (master < 0 || grantpt(master) || unlockpt(master))
		return errno;
	pid_t pid = fork();
	if (!pid) {
		setsid();
		int tty = open(ptsname(master), O_RDWR);
		if (tty < 0 || ioctl(tty, TIOCSCTTY, 0))
			_exit(errno);
		for (const char *c = "secret\n"; *c; c++)
			if (sys(SYS_ioctl, tty, TIOCSTI, c))
				_exit(errno);
		_exit(read(tty, got, sizeof got - 1) > 0 ? show(got) : errno);
	}
	waitpid(pid, &status, 0);
	return WEXITSTATUS(status);
}

/* ---- memory that answers each look at it differently ---- */

static char *page;
static const char *first, *later;
static int faults_fd, reading = 1000; /* so many microseconds for the one who looks first */
static void *fill(void *unused)
{
	static char copy[4096];
	struct uffd_msg m;
	for (int n = 0; read(faults_fd, &m, sizeof m) == sizeof m; n++) {
		snprintf(copy, sizeof copy, "%s", n ? later : first);
		struct uffdio_copy c = { .dst = (uintptr_t)page, .src = (uintptr_t)copy, .len = 4096 };
		ioctl(faults_fd, UFFDIO_COPY, &c);
		if (!n) {
			usleep((useconds_t)reading);
			madvise(page, 4096, MADV_DONTNEED);
		}
	}
	return unused;
}
static int two_faced(const char *one, const char *other)
{
	pthread_t t;
	struct uffdio_api api = { .api = UFFD_API };
	faults_fd = (int)sys(SYS_userfaultfd, O_CLOEXEC);
	if (faults_fd < 0 || ioctl(faults_fd, UFFDIO_API, &api))
		return errno;
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct uffdio_register r = { .range = { (uintptr_t)page, 4096 }, .mode = UFFDIO_REGISTER_MODE_MISSING };
	if (ioctl(faults_fd, UFFDIO_REGISTER, &r))
		return errno;
	first = one;
	later = other;
	pthread_create(&t, NULL, fill, NULL);
	return 0;
}
T(r_faults_open)
{
	int e = two_faced(target, target), fd = e ? -1 : (int)sys(SYS_openat, AT_FDCWD, page, O_RDONLY, 0);
	return e ? e : show_fd(fd);
}
T(r_faults_swap)
{
	int e = two_faced("/etc/passwd", target), fd = e ? -1 : (int)sys(SYS_openat, AT_FDCWD, page, O_RDONLY, 0);
	usleep(5000);
	return e ? e : show_fd(fd) ? errno : show_fd((int)sys(SYS_openat, AT_FDCWD, page, O_RDONLY, 0));
}
T(r_faults_exec)
{
	char *v[] = { "x", "secret", NULL };
	U;
	/* In children: one for which another program was started than was judged is ended. */
	for (reading = 0; reading < 400; reading += 20) {
		pid_t pid = fork();
		if (!pid) {
			if (!two_faced("/bin/true", in("hidden/echo")))
				sys(SYS_execve, page, v, NULL);
			_exit(1);
		}
		waitpid(pid, NULL, 0);
	}
	return ENOENT;
}
T(w_faults_creat)
{
	U;
	int e = two_faced(in("work/new"), NEW_);
	if (e || sys(SYS_openat, AT_FDCWD, page, O_CREAT | O_WRONLY, 0644) < 0)
		return e ? e : errno;
	usleep(5000);
	return E(sys(SYS_openat, AT_FDCWD, page, O_CREAT | O_WRONLY, 0644));
}

/* ---- whether a name exists: calls that nobody thinks of ---- */

T(e_lchown) { return E(sys(SYS_fchownat, AT_FDCWD, target, -1, -1, AT_SYMLINK_NOFOLLOW)); }
T(e_removexattr) { return E(sys(SYS_removexattr, target, "user.none")); }
T(e_lsetxattr) { return E(sys(SYS_lsetxattr, target, "trusted.none", "x", 1, 0)); }
T(e_openat2_beneath) { struct { uint64_t f, m, r; } how = { O_PATH, 0, 8 }; return E(sys(437, sys(SYS_openat, AT_FDCWD, base, O_PATH, 0), target + strlen(base) + 1, &how, sizeof how)); }
T(e_openat2_cached) { struct { uint64_t f, m, r; } how = { O_RDONLY, 0, 0x20 }; return E(sys(437, AT_FDCWD, target, &how, sizeof how)); }
T(e_openat2_long) { struct { uint64_t f, m, r, more; } how = { O_PATH, 0, 0, 0 }; return E(sys(437, AT_FDCWD, target, &how, sizeof how)); }
T(e_directory_creat) { return E(sys(SYS_openat, AT_FDCWD, target, O_DIRECTORY | O_NOFOLLOW | O_WRONLY, 0)); }
T(e_opath_directory) { return E(sys(SYS_openat, AT_FDCWD, target, O_PATH | O_DIRECTORY, 0)); }
T(e_opath_nofollow) { return E(sys(SYS_openat, AT_FDCWD, target, O_PATH | O_NOFOLLOW, 0)); }
T(e_mknod_device) { return E(sys(SYS_mknodat, AT_FDCWD, target, S_IFCHR | 0666, 0x103)); }
T(e_rename_whiteout) { close(open(in("work/a"), O_CREAT | O_WRONLY, 0644)); return E(sys(SYS_renameat2, AT_FDCWD, in("work/a"), AT_FDCWD, target, 4)); }
T(e_rename_exchange) { close(open(in("work/a"), O_CREAT | O_WRONLY, 0644)); return E(sys(SYS_renameat2, AT_FDCWD, in("work/a"), AT_FDCWD, target, 2)); }
T(e_link_dir) { return E(sys(SYS_linkat, AT_FDCWD, in("work"), AT_FDCWD, target, 0)); }
T(e_name_to_handle_id) { char b[256]; int id; *(unsigned *)b = 128; return E(sys(SYS_name_to_handle_at, AT_FDCWD, target, b, &id, 0x200)); }
T(e_execveat_nofollow) { char *v[] = { "x", NULL }; return E(sys(SYS_execveat, AT_FDCWD, target, v, NULL, AT_SYMLINK_NOFOLLOW)); }
T(e_interpreter)
{
	int f = open(in("work/s"), O_CREAT | O_WRONLY, 0755);
	char *v[] = { "s", NULL };
	dprintf(f, "#!%s\n", target);
	close(f);
	return E(sys(SYS_execve, in("work/s"), v, NULL));
}

/* ---- the disk itself: who may read its blocks reads every file ---- */

static dev_t disk(char name[128])
{
	char line[128];
	struct stat st = { 0 };
	stat(in("outside/file"), &st);
	snprintf(name, 128, "/sys/dev/block/%u:%u/uevent", major(st.st_dev), minor(st.st_dev));
	FILE *f = fopen(name, "r");
	strcpy(name, "/dev/none");
	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "DEVNAME=%100s", name + 5) == 1)
			break;
	if (f)
		fclose(f);
	return st.st_dev;
}
static int blocks(int fd)
{
	static char block[4096] __attribute__((aligned(4096)));
	if (fd < 0)
		return errno;
	return read(fd, block, sizeof block) > 0 ? show("secret blocks") : errno;
}
T(r_disk) { char name[128]; U; disk(name); return blocks(open(name, O_RDONLY)); }
T(r_sys_disk) { char name[128]; U; disk(name); return blocks((int)sys(SYS_open, name, O_RDONLY)); }
T(r_disk_stream) { char name[128]; U; disk(name); FILE *f = fopen(name, "r"); return f ? blocks(fileno(f)) : errno; }
T(r_disk_write) { char name[128]; U; disk(name); int fd = (int)sys(SYS_open, name, O_WRONLY); return fd < 0 ? errno : show("secret disk, to be written"); }
T(r_disk_named) /* by a link that the build has made */
{
	char name[128];
	U;
	disk(name);
	return symlink(name, in("work/disk")) ? errno : blocks(open(in("work/disk"), O_RDONLY));
}
T(r_mknod_disk) { char name[128]; U; return mknod(in("work/disk"), S_IFBLK | 0600, disk(name)) ? errno : blocks(open(in("work/disk"), O_RDONLY)); }
T(r_sys_mknod_disk)
{
	char name[128];
	U;
	return sys(SYS_mknod, in("work/disk"), S_IFBLK | 0600, disk(name)) ? errno : blocks((int)sys(SYS_open, in("work/disk"), O_RDONLY));
}
T(r_mknod_memory) { U; return mknod(in("work/mem"), S_IFCHR | 0600, makedev(1, 1)) ? errno : show("secret memory"); }
T(r_kcore) { U; return blocks(open("/proc/kcore", O_RDONLY)); }

/* ---- what the kernel opens for a script ---- */

static const char *made(const char *name, const void *bytes, size_t n)
{
	put_program(in(name), bytes, n);
	return in(name);
}
/* A program whose loader is the target, as the last of as many interpreters as the kernel follows. */
static int chain(const char *target, int raw)
{
	char line[700], name[32], *v[] = { "x", NULL };
	put_with_loader(in("work/0"), target, 200);
	for (int i = 1; i < 6; i++) {
		snprintf(line, sizeof line, "#!%s/work/%d\n", base, i - 1);
		snprintf(name, sizeof name, "work/%d", i);
		made(name, line, strlen(line));
	}
	return raw ? E(sys(SYS_execve, in("work/5"), v, NULL)) : E(execve(in("work/5"), v, environ));
}
T(e_chain) { return chain(target, 0); }
T(e_sys_chain) { return chain(target, 1); }

/* The script is another one when the kernel reads it. What it names is a script itself: what runs in the end is the system's. */
static int race_script(int raw)
{
	static char script[512], other[512], line[600];
	char *v[] = { "x", NULL };
	snprintf(line, sizeof line, "#!%s\n", in("hidden/program"));
	strcpy(script, made("work/script", "#!/bin/true\n", 12));
	strcpy(other, made("work/other", line, strlen(line)));
	pid_t swapper = fork();
	while (!swapper)
		syscall(SYS_renameat2, AT_FDCWD, script, AT_FDCWD, other, 2 /* EXCHANGE */);
	for (int i = 0; i < 300; i++) {
		pid_t pid = fork();
		if (!pid) {
			if (raw)
				sys(SYS_execve, script, v, NULL);
			else
				execve(script, v, environ);
			_exit(1);
		}
		waitpid(pid, NULL, 0);
	}
	kill(swapper, SIGKILL);
	waitpid(swapper, NULL, 0);
	return ENOENT;
}
T(r_race_script) { U; return race_script(0); }
T(r_sys_race_script) { U; return race_script(1); }

const struct attempt door_read_attempts[] = {
	{ "sys-x32-open", r_x32 }, { "sys-compat-open", r_int80 }, { "sys-compat-openat", r_int80_at }, { "sys-clone-bind", r_clone_bind },
	{ "sys-clone3-bind", r_clone3_bind }, { "sys-clone3-tree", r_clone3_tree }, { "sys-clone-move", r_clone_move },
	{ "sys-clone-overlay", r_clone_overlay }, { "sys-clone-root", r_clone_root }, { "sys-clone-pivot", r_clone_pivot },
	{ "sys-clone-chroot", r_clone_chroot }, { "sys-clone-pid", r_clone_pid }, { "sys-clone3-files", r_clone3_files },
	{ "sys-unshare-pid", r_unshare_pid }, { "sys-setns-child", r_setns_child }, { "sys-core-pattern", r_core_pattern },
	{ "sys-parent-oom", r_parent_oom }, { "sys-terminal-keys", r_tiocsti }, { "sys-faults-open", r_faults_open },
	{ "sys-faults-swap", r_faults_swap }, { "sys-faults-exec", r_faults_exec }, { "disk", r_disk }, { "sys-disk", r_sys_disk },
	{ "disk-stream", r_disk_stream }, { "sys-disk-write", r_disk_write }, { "disk-link", r_disk_named }, { "mknod-disk", r_mknod_disk },
	{ "sys-mknod-disk", r_sys_mknod_disk }, { "mknod-memory", r_mknod_memory }, { "kcore", r_kcore }, { "race-script", r_race_script },
	{ "sys-race-script", r_sys_race_script }, { NULL, NULL },
};
const struct attempt door_exist_attempts[] = {
	{ "sys-compat-access", e_int80 }, { "sys-compat-readlink", e_int80_readlink }, { "sys-lchown", e_lchown }, { "sys-removexattr", e_removexattr },
	{ "sys-lsetxattr", e_lsetxattr }, { "sys-openat2-beneath", e_openat2_beneath }, { "sys-openat2-cached", e_openat2_cached },
	{ "sys-openat2-long", e_openat2_long }, { "sys-directory-write", e_directory_creat }, { "sys-o-path-directory", e_opath_directory },
	{ "sys-o-path-nofollow", e_opath_nofollow }, { "sys-mknod-device", e_mknod_device }, { "sys-rename-whiteout", e_rename_whiteout },
	{ "sys-rename-exchange", e_rename_exchange }, { "sys-link-dir", e_link_dir }, { "sys-handle-fid", e_name_to_handle_id },
	{ "sys-execveat-nofollow", e_execveat_nofollow }, { "sys-interpreter", e_interpreter }, { "exec-chain", e_chain },
	{ "sys-exec-chain", e_sys_chain }, { NULL, NULL },
};
const struct attempt door_write_attempts[] = {
	{ "sys-compat-creat", w_int80 }, { "sys-compat-chmod", w_int80_chmod }, { "sys-clone-bind", w_clone_bind },
	{ "sys-clone3-bind", w_clone3_bind }, { "sys-faults-creat", w_faults_creat }, { NULL, NULL },
};
