/* Ways to the contents of a hidden file. */
#include <dirent.h>
#include <glob.h>
#include <linux/io_uring.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "attempt.h"

extern char **environ;

static int t_open(const char *p) { return show_fd(open(p, O_RDONLY)); }
static int t_openat(const char *p) { return show_fd(openat(AT_FDCWD, p, O_RDONLY)); }
static int t_sys_open(const char *p) { return show_fd((int)sys(SYS_open, p, O_RDONLY)); }
static int t_sys_openat(const char *p) { return show_fd((int)sys(SYS_openat, AT_FDCWD, p, O_RDONLY)); }
static int t_sys_openat2(const char *p)
{
	struct open_how how = { 0 };
	return show_fd((int)sys(SYS_openat2, AT_FDCWD, p, &how, sizeof how));
}
static int t_sys_openat2_in_root(const char *p)
{
	struct open_how how = { .resolve = 0x10 };
	(void)p;
	int d = open(base, O_PATH);
	return show_fd((int)sys(SYS_openat2, d, "/hidden/secret", &how, sizeof how));
}
static int t_fopen(const char *p)
{
	char buf[128] = "";
	FILE *f = fopen(p, "r");
	return f && fgets(buf, sizeof buf, f) ? show(buf) : errno;
}
static int t_freopen(const char *p)
{
	char buf[128] = "";
	FILE *f = freopen(p, "r", stdin);
	return f && fgets(buf, sizeof buf, f) ? show(buf) : errno;
}
static int t_relative(const char *p) { (void)p; return chdir(in("work")) ? errno : show_fd(open("../hidden/secret", O_RDONLY)); }
static int t_sys_chdir(const char *p) { (void)p; return sys(SYS_chdir, in("hidden")) ? errno : show_fd(open("secret", O_RDONLY)); }
static int t_dirfd(const char *p) { (void)p; return show_fd(openat(open(base, O_RDONLY | O_DIRECTORY), "hidden/secret", O_RDONLY)); }
static int t_dirfd_hidden(const char *p) { (void)p; return show_fd(openat(open(in("hidden"), O_PATH), "secret", O_RDONLY)); }
static int t_fchdir(const char *p)
{
	(void)p;
	return fchdir(open(base, O_RDONLY)) ? errno : show_fd(open("hidden/secret", O_RDONLY));
}
static int t_dots(const char *p) { (void)p; return show_fd(open(in("work/../hidden/./secret"), O_RDONLY)); }
static int t_slashes(const char *p) { (void)p; return show_fd(open(in("/hidden///secret"), O_RDONLY)); }
static int t_symlink(const char *p)
{
	if (symlink(p, in("work/link")))
		return errno;
	return show_fd(open(in("work/link"), O_RDONLY));
}
static int t_symlink_dir(const char *p)
{
	(void)p;
	if (symlink("../hidden", in("work/dirlink")))
		return errno;
	return show_fd(open(in("work/dirlink/secret"), O_RDONLY));
}
static int t_sys_symlink_chain(const char *p)
{
	sys(SYS_symlink, p, in("work/a"));
	sys(SYS_symlink, "a", in("work/b"));
	return show_fd((int)sys(SYS_open, in("work/b"), O_RDONLY));
}
static int t_hardlink(const char *p) { return link(p, in("work/hard")) ? errno : show_fd(open(in("work/hard"), O_RDONLY)); }
static int t_sys_linkat(const char *p)
{
	return sys(SYS_linkat, AT_FDCWD, p, AT_FDCWD, in("work/hard"), 0) ? errno : show_fd((int)sys(SYS_open, in("work/hard"), 0));
}
static int t_rename_out(const char *p) { return rename(p, in("work/moved")) ? errno : show_fd(open(in("work/moved"), O_RDONLY)); }
static int t_sys_exchange(const char *p)
{
	close(open(in("work/x"), O_CREAT | O_WRONLY, 0644));
	return sys(SYS_renameat2, AT_FDCWD, in("work/x"), AT_FDCWD, p, 2) ? errno : show_fd(open(in("work/x"), O_RDONLY));
}
static int t_deep(const char *p) { (void)p; return show_fd(open(deep("hidden/secret"), O_RDONLY)); }
static int t_sys_deep(const char *p) { (void)p; return show_fd((int)sys(SYS_open, deep("hidden/secret"), O_RDONLY)); }
static int t_deep_link(const char *p)
{
	(void)p;
	symlink(deep("hidden/secret"), "link");
	return show_fd(open("link", O_RDONLY));
}
static int t_deep_dirfd(const char *p)
{
	(void)p;
	const char *way = deep("hidden/secret");
	return show_fd(openat(open(".", O_RDONLY | O_DIRECTORY), way, O_RDONLY));
}
static int t_deep_proc(const char *p)
{
	(void)p;
	char path[1024];
	snprintf(path, sizeof path, "/proc/self/cwd/%s", deep("hidden/secret"));
	return show_fd(open(path, O_RDONLY));
}
static int t_deep_chdir(const char *p)
{
	(void)p;
	return chdir(deep("hidden")) ? errno : show_fd(open("secret", O_RDONLY));
}
/* The way down cannot be looked at from above any more; a program is started by a link there. */
static int t_blind_exec(const char *p)
{
	(void)p;
	if (mkdir(in("work/blind"), 0755) || mkdir(in("work/blind/below"), 0755) || chdir(in("work/blind/below")) ||
	    symlink(in("hidden/program"), "link") || chmod("..", 0))
		return errno;
	execl("./link", "link", (char *)NULL);
	return errno;
}
static int t_proc_cwd(const char *p) { (void)p; return chdir(in("work")) ? errno : show_fd(open("/proc/self/cwd/../hidden/secret", O_RDONLY)); }
static int t_proc_root(const char *p)
{
	char path[1024];
	snprintf(path, sizeof path, "/proc/self/root%s", p);
	return show_fd(open(path, O_RDONLY));
}
static int t_sys_proc_1_root(const char *p)
{
	char path[1024];
	snprintf(path, sizeof path, "/proc/1/root%s", p);
	return show_fd((int)sys(SYS_open, path, O_RDONLY));
}
static int t_proc_fd(const char *p)
{
	char path[1024];
	(void)p;
	snprintf(path, sizeof path, "/proc/self/fd/%d/hidden/secret", open(base, O_RDONLY));
	return show_fd(open(path, O_RDONLY));
}
static int t_sys_thread_self(const char *p)
{
	char path[1024];
	snprintf(path, sizeof path, "/proc/thread-self/root%s", p);
	return show_fd((int)sys(SYS_open, path, O_RDONLY));
}
static int t_o_path(const char *p)
{
	char path[64];
	int fd = open(p, O_PATH);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	return fd < 0 ? errno : show_fd(open(path, O_RDONLY));
}
static int t_mmap(const char *p)
{
	int fd = open(p, O_RDONLY);
	char *m = fd < 0 ? MAP_FAILED : mmap(NULL, 64, PROT_READ, MAP_PRIVATE, fd, 0);
	return m == MAP_FAILED ? errno : show(m);
}
static int t_sendfile(const char *p)
{
	int out = open(in("work/copy"), O_RDWR | O_CREAT, 0644), fd = open(p, O_RDONLY);
	if (fd < 0 || sendfile(out, fd, NULL, 64) < 0)
		return errno;
	lseek(out, 0, SEEK_SET);
	return show_fd(out);
}
static int wait_for(pid_t pid)
{
	int status = 0;
	waitpid(pid, &status, 0);
	return status ? EACCES : 0;
}
static int t_exec_cat(const char *p)
{
	char *argv[] = { "cat", (char *)(uintptr_t)p, NULL };
	pid_t pid = fork();
	if (!pid) {
		execv("/bin/cat", argv);
		_exit(1);
	}
	return wait_for(pid);
}
static int t_exec_clean_env(const char *p)
{
	char *argv[] = { "cat", (char *)(uintptr_t)p, NULL }, *none[] = { NULL };
	pid_t pid = fork();
	if (!pid) {
		execve("/bin/cat", argv, none);
		_exit(1);
	}
	return wait_for(pid);
}
static int t_sys_execve_clean(const char *p)
{
	char *argv[] = { "cat", (char *)(uintptr_t)p, NULL }, *none[] = { NULL };
	pid_t pid = fork();
	if (!pid) {
		sys(SYS_execve, "/bin/cat", argv, none);
		_exit(1);
	}
	return wait_for(pid);
}
static int t_sys_execveat_clean(const char *p)
{
	char *argv[] = { "cat", (char *)(uintptr_t)p, NULL }, *none[] = { NULL };
	pid_t pid = fork();
	if (!pid) {
		sys(SYS_execveat, open("/bin/cat", O_PATH), "", argv, none, AT_EMPTY_PATH);
		_exit(1);
	}
	return wait_for(pid);
}
static int t_exec_static(const char *p)
{
	char *argv[] = { "busybox", "cat", (char *)(uintptr_t)p, NULL };
	pid_t pid = fork();
	if (!pid) {
		execv("/bin/busybox", argv);
		_exit(1);
	}
	return wait_for(pid);
}
static int t_spawn_static(const char *p)
{
	char *argv[] = { "busybox", "cat", (char *)(uintptr_t)p, NULL }, *none[] = { NULL };
	pid_t pid;
	int e = posix_spawn(&pid, "/bin/busybox", NULL, NULL, argv, none);
	return e ? e : wait_for(pid);
}
static int t_spawn_action(const char *p)
{
	char *argv[] = { "cat", NULL };
	posix_spawn_file_actions_t a;
	pid_t pid;
	posix_spawn_file_actions_init(&a);
	posix_spawn_file_actions_addopen(&a, 0, p, O_RDONLY, 0);
	int e = posix_spawn(&pid, "/bin/cat", &a, NULL, argv, environ);
	return e ? e : wait_for(pid);
}
static int t_vfork(const char *p)
{
	char *argv[] = { "cat", (char *)(uintptr_t)p, NULL };
	pid_t pid = vfork();
	if (!pid) {
		execve("/bin/cat", argv, environ);
		_exit(1);
	}
	return wait_for(pid);
}
static int t_system_clean(const char *p)
{
	char line[1024];
	clearenv();
	snprintf(line, sizeof line, "/bin/cat '%s'", p);
	return system(line);
}
static int t_popen_unset(const char *p)
{
	char line[1024], buf[128] = "";
	unsetenv("LD_PRELOAD");
	snprintf(line, sizeof line, "env -i /bin/busybox cat '%s'", p);
	FILE *f = popen(line, "r");
	return f && fgets(buf, sizeof buf, f) ? show(buf) : EACCES;
}
static int t_ld_so(const char *p)
{
	char *argv[] = { "ld.so", "/bin/cat", (char *)(uintptr_t)p, NULL }, *none[] = { NULL };
	pid_t pid = fork();
	if (!pid) {
		execve("/lib64/ld-linux-x86-64.so.2", argv, none);
		_exit(1);
	}
	return wait_for(pid);
}
static int t_memfd(const char *p)
{
	char *argv[] = { "busybox", "cat", (char *)(uintptr_t)p, NULL }, *none[] = { NULL };
	int m = memfd_create("x", 0), b = open("/bin/busybox", O_RDONLY);
	while (sendfile(m, b, NULL, 1 << 20) > 0)
		;
	pid_t pid = fork();
	if (!pid) {
		fexecve(m, argv, none);
		_exit(1);
	}
	return wait_for(pid);
}
static int t_copied_static(const char *p)
{
	char *argv[] = { "busybox", "cat", (char *)(uintptr_t)p, NULL };
	int m = open(in("work/bb"), O_CREAT | O_WRONLY, 0755), b = open("/bin/busybox", O_RDONLY);
	while (sendfile(m, b, NULL, 1 << 20) > 0)
		;
	close(m);
	pid_t pid = fork();
	if (!pid) {
		execv(in("work/bb"), argv);
		_exit(1);
	}
	return wait_for(pid);
}
static int t_shebang(const char *p)
{
	(void)p;
	int f = open(in("work/script"), O_CREAT | O_WRONLY, 0755);
	dprintf(f, "#!%s\n", in("hidden/program"));
	close(f);
	pid_t pid = fork();
	if (!pid) {
		execl(in("work/script"), "script", NULL);
		_exit(1);
	}
	return wait_for(pid);
}
static int t_exec_hidden(const char *p)
{
	(void)p;
	pid_t pid = fork();
	if (!pid) {
		execl(in("hidden/program"), "program", NULL);
		_exit(1);
	}
	return wait_for(pid);
}
static int t_listing(const char *p)
{
	(void)p;
	DIR *d = opendir(base);
	struct dirent *e;
	if (!d)
		return errno;
	while ((e = readdir(d)))
		if (!strcmp(e->d_name, "hidden"))
			return show("secret-name");
	return ENOENT;
}
static int t_sys_getdents(const char *p)
{
	char buf[4096] = "";
	(void)p;
	int fd = (int)sys(SYS_open, base, O_RDONLY | O_DIRECTORY);
	long n = sys(SYS_getdents64, fd, buf, sizeof buf);
	return n > 0 && memmem(buf, (size_t)n, "hidden", 6) ? show("secret-name") : ENOENT;
}
static int t_glob(const char *p)
{
	glob_t g;
	(void)p;
	return glob(in("hid*"), 0, NULL, &g) == 0 ? show("secret-name") : ENOENT;
}
static int t_readlink(const char *p)
{
	char buf[256] = "";
	(void)p;
	return readlink(in("hidden/link"), buf, sizeof buf - 1) < 0 ? errno : show(buf);
}
static int t_sys_readlinkat(const char *p)
{
	char buf[256] = "";
	(void)p;
	return sys(SYS_readlinkat, AT_FDCWD, in("hidden/link"), buf, sizeof buf - 1) < 0 ? errno : show(buf);
}
static int t_connect(const char *p)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	(void)p;
	snprintf(a.sun_path, sizeof a.sun_path, "%s", in("hidden/socket"));
	int s = socket(AF_UNIX, SOCK_STREAM, 0);
	return connect(s, (struct sockaddr *)&a, sizeof a) ? errno : show_fd(s);
}
static int t_io_uring(const char *p)
{
	struct io_uring_params params = { 0 };
	int ring = (int)sys(SYS_io_uring_setup, 4, &params);
	if (ring < 0)
		return errno;
	char *sq = mmap(NULL, params.sq_off.array + 64, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
	char *cq = mmap(NULL, params.cq_off.cqes + 64 * 16, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_CQ_RING);
	struct io_uring_sqe *sqe = mmap(NULL, 4 * sizeof *sqe, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
	memset(sqe, 0, sizeof *sqe);
	sqe->opcode = IORING_OP_OPENAT;
	sqe->fd = AT_FDCWD;
	sqe->addr = (uint64_t)(uintptr_t)p;
	*(unsigned *)(void *)(sq + params.sq_off.array) = 0;
	++*(volatile unsigned *)(void *)(sq + params.sq_off.tail);
	if (sys(SYS_io_uring_enter, ring, 1, 1, 1, NULL, 0) < 0)
		return errno;
	struct io_uring_cqe *cqe = (void *)(cq + params.cq_off.cqes);
	if (cqe->res < 0)
		return -cqe->res;
	return show_fd(cqe->res);
}
static int t_chroot(const char *p) { (void)p; return chroot(base) ? errno : show_fd(open("/hidden/secret", O_RDONLY)); }
static int t_sys_chroot(const char *p) { (void)p; return sys(SYS_chroot, base) ? errno : show_fd((int)sys(SYS_open, "/hidden/secret", 0)); }
static int t_bind_mount(const char *p)
{
	(void)p;
	mkdir(in("work/m"), 0755);
	return mount(in("hidden"), in("work/m"), NULL, MS_BIND, NULL) ? errno : show_fd(open(in("work/m/secret"), O_RDONLY));
}
static int t_sys_userns_mount(const char *p)
{
	(void)p;
	mkdir(in("work/m"), 0755);
	if (sys(SYS_unshare, CLONE_NEWUSER | CLONE_NEWNS))
		return errno;
	return sys(SYS_mount, in("hidden"), in("work/m"), 0, MS_BIND, 0) ? errno : show_fd((int)sys(SYS_open, in("work/m/secret"), 0));
}
static int t_sys_userns_chroot(const char *p)
{
	(void)p;
	if (sys(SYS_unshare, CLONE_NEWUSER))
		return errno;
	return sys(SYS_chroot, base) ? errno : show_fd((int)sys(SYS_open, "/hidden/secret", 0));
}
static int t_handle(const char *p)
{
	char room[sizeof(struct file_handle) + 128];
	struct file_handle *h = (void *)room;
	int id;
	h->handle_bytes = 128;
	if (name_to_handle_at(AT_FDCWD, p, h, &id, 0))
		return errno;
	return show_fd(open_by_handle_at(open(base, O_RDONLY), h, O_RDONLY));
}
static int t_sys_handle_parent(const char *p)
{
	char room[sizeof(struct file_handle) + 128];
	struct file_handle *h = (void *)room;
	int id;
	(void)p;
	h->handle_bytes = 128;
	if (sys(SYS_name_to_handle_at, AT_FDCWD, base, h, &id, 0))
		return errno;
	int d = (int)sys(SYS_open_by_handle_at, open("/", O_RDONLY), h, O_RDONLY);
	return d < 0 ? errno : show_fd((int)sys(SYS_openat, d, "hidden/secret", O_RDONLY));
}
static int t_open_tree(const char *p)
{
	int t = (int)sys(428, AT_FDCWD, base, 1);
	(void)p;
	return t < 0 ? errno : show_fd((int)sys(SYS_openat, t, "hidden/secret", O_RDONLY));
}

/* Another thread changes the path between the question and the kernel's own look at it. */
static char racing[1024];
static volatile int stop;
static char good[1024], evil[1024];
static void *swap_text(void *unused)
{
	while (!stop) {
		memcpy(racing, evil, sizeof evil);
		memcpy(racing, good, sizeof good);
	}
	return unused;
}
static int race_text(int inline_call)
{
	pthread_t t;
	char buf[64];
	snprintf(good, sizeof good, "%s", in("work/ok"));
	snprintf(evil, sizeof evil, "%s", in("hidden/secret"));
	close(open(good, O_CREAT | O_WRONLY, 0644));
	memcpy(racing, good, sizeof good);
	pthread_create(&t, NULL, swap_text, NULL);
	for (int i = 0; i < 3000; i++) {
		int fd = inline_call ? (int)sys(SYS_open, racing, O_RDONLY) : open(racing, O_RDONLY);
		ssize_t n = fd < 0 ? 0 : read(fd, buf, sizeof buf - 1);
		if (n > 0) {
			buf[n] = 0;
			stop = 1;
			return show(buf);
		}
		if (fd >= 0)
			close(fd);
	}
	stop = 1;
	pthread_join(t, NULL);
	return ENOENT;
}
static int t_race(const char *p) { (void)p; return race_text(0); }
static int t_sys_race(const char *p) { (void)p; return race_text(1); }

/* Two names are exchanged between the question and the answer, while the program looks at `way`. */
static char link_a[1024], link_b[1024], way[1024];
static void *swap_links(void *unused)
{
	while (!stop)
		sys(SYS_renameat2, AT_FDCWD, link_a, AT_FDCWD, link_b, 2);
	return unused;
}
static int race_links(int (*look)(void))
{
	pthread_t t;
	int seen = 0;
	pthread_create(&t, NULL, swap_links, NULL);
	for (int i = 0; i < 2000 && !seen; i++)
		seen = look();
	stop = 1;
	pthread_join(t, NULL);
	return seen ? 0 : ENOENT;
}
static int opened(void)
{
	char buf[64];
	int fd = (int)sys(SYS_open, way, O_RDONLY);
	ssize_t n = fd < 0 ? 0 : read(fd, buf, sizeof buf - 1);
	close(fd);
	if (n <= 0)
		return 0;
	buf[n] = 0;
	show(buf);
	return 1;
}
static int sized(void)
{
	char room[512] = "";
	if (sys(SYS_statx, AT_FDCWD, way, 0, 0x200 /* STATX_SIZE */, room) || *(uint64_t *)(void *)(room + 40) != 16)
		return 0;
	show("secret size");
	return 1;
}
static int race_link(const char *wanted, int (*look)(void))
{
	close(open(in("work/ok"), O_CREAT | O_WRONLY, 0644));
	snprintf(link_a, sizeof link_a, "%s", in("work/a"));
	snprintf(link_b, sizeof link_b, "%s", in("work/b"));
	snprintf(way, sizeof way, "%s", in("work/a"));
	symlink(in("work/ok"), link_a);
	symlink(wanted, link_b);
	return race_links(look);
}
static int t_sys_race_link(const char *p) { return race_link(p, opened); }
static int t_sys_race_link_stat(const char *p) { return race_link(p, sized); }
/* Two directories that exchange their places: the look and the call meet different ones. */
static int race_dir(int (*look)(void))
{
	mkdir(in("work/r1"), 0755);
	close(open(in("work/r1/secret"), O_CREAT | O_WRONLY, 0644));
	snprintf(link_a, sizeof link_a, "%s", in("work/r1"));
	snprintf(link_b, sizeof link_b, "%s", in("work/r2"));
	snprintf(way, sizeof way, "%s", in("work/r1/secret"));
	symlink(in("hidden"), link_b);
	return race_links(look);
}
static int t_sys_race_dir(const char *p) { (void)p; return race_dir(opened); }
static int t_sys_race_dir_stat(const char *p) { (void)p; return race_dir(sized); }

static int in_thread_result;
static void *thread_open(void *p)
{
	in_thread_result = t_sys_open(p);
	return NULL;
}
static int t_sys_thread(const char *p)
{
	pthread_t t;
	pthread_create(&t, NULL, thread_open, (void *)(uintptr_t)p);
	pthread_join(t, NULL);
	return in_thread_result;
}
static int t_sys_fork(const char *p)
{
	pid_t pid = (pid_t)sys(SYS_fork);
	if (!pid) {
		int e = t_sys_open(p);
		_exit(e);
	}
	return wait_for(pid);
}

/* Code that is made at run time: no scan of the program's file can see it. */
static int t_jit(const char *p)
{
#if defined(__x86_64__)
	static volatile const unsigned char code[] = { 0xe2, 0x58, 0x5a, 0x5a, 0x5a, 0x6b, 0xac, 0x55, 0x5f, 0x99 }; /* xor 0x5a: no scan finds it */
	unsigned char *m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (unsigned i = 0; i < sizeof code; i++)
		m[i] = code[i] ^ 0x5a;
	if (mprotect(m, 4096, PROT_READ | PROT_EXEC))
		return errno;
	long fd = ((long (*)(const char *))(uintptr_t)m)(p);
	if (fd < 0)
		return (int)-fd;
	return show_fd((int)fd);
#else
	(void)p;
	return ENOSYS;
#endif
}
static int t_jit_mmap(const char *p)
{
#if defined(__x86_64__)
	static volatile const unsigned char code[] = { 0xe2, 0x58, 0x5a, 0x5a, 0x5a, 0x6b, 0xac, 0x55, 0x5f, 0x99 };
	volatile unsigned char *m = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (unsigned i = 0; i < sizeof code; i++)
		m[i] = code[i] ^ 0x5a;
	long fd = ((long (*)(const char *))(uintptr_t)m)(p);
	return fd < 0 ? (int)-fd : show_fd((int)fd);
#else
	(void)p;
	return ENOSYS;
#endif
}
static int t_ptrace_parent(const char *p)
{
	(void)p;
	return sys(SYS_ptrace, 0x4206 /* PTRACE_SEIZE: the parent is not stopped */, getppid(), 0, 0) ? errno : show("secret attached");
}

/* A descriptor that a process outside the session has open, taken and not given. */
static int t_sys_pidfd_getfd(const char *p)
{
	(void)p;
	int process = (int)sys(434 /* pidfd_open */, getppid(), 0);
	if (process < 0)
		return errno;
	return sys(438 /* pidfd_getfd */, process, 1, 0) < 0 ? errno : show("secret descriptor");
}
static int t_sys_vm_writev(const char *p)
{
	char byte = 0;
	struct { void *at; size_t size; } here = { &byte, 1 }, there = { (void *)4096, 1 };
	(void)p;
	/* nothing is mapped there: EFAULT means that the kernel would have written */
	return sys(SYS_process_vm_writev, getppid(), &here, 1, &there, 1, 0) == 1 || errno == EFAULT ? show("secret memory") : errno;
}

/* What is hidden where the build may write: moved away with the directory that holds it. */
static int r_rename_above(const char *p)
{
	(void)p;
	if (sys(SYS_rename, in("work/near"), in("work/moved")))
		return errno;
	return show_fd(open(in("work/moved/hidden/secret"), O_RDONLY));
}

static int r_exchange_above(const char *p)
{
	(void)p;
	mkdir(in("work/other"), 0755);
	if (sys(SYS_renameat2, AT_FDCWD, in("work/other"), AT_FDCWD, in("work/near"), 2 /* EXCHANGE */))
		return errno;
	return show_fd(open(in("work/other/hidden/secret"), O_RDONLY));
}

const struct attempt read_attempts[] = {
	{ "sys-rename-above", r_rename_above },
	{ "sys-exchange-above", r_exchange_above },
	{ "sys-race-dir", t_sys_race_dir }, { "sys-race-dir-stat", t_sys_race_dir_stat }, { "sys-pidfd-getfd", t_sys_pidfd_getfd }, { "sys-vm-writev", t_sys_vm_writev },
	{ "open", t_open }, { "openat", t_openat }, { "fopen", t_fopen }, { "freopen", t_freopen },
	{ "sys-open", t_sys_open }, { "sys-openat", t_sys_openat }, { "sys-openat2", t_sys_openat2 },
	{ "sys-openat2-in-root", t_sys_openat2_in_root }, { "relative", t_relative }, { "sys-chdir", t_sys_chdir },
	{ "dirfd", t_dirfd }, { "dirfd-hidden", t_dirfd_hidden }, { "fchdir", t_fchdir }, { "dots", t_dots }, { "slashes", t_slashes },
	{ "symlink", t_symlink }, { "symlink-dir", t_symlink_dir }, { "sys-symlink-chain", t_sys_symlink_chain },
	{ "hardlink", t_hardlink }, { "sys-linkat", t_sys_linkat }, { "rename-out", t_rename_out }, { "sys-exchange", t_sys_exchange },
	{ "deep", t_deep }, { "sys-deep", t_sys_deep }, { "deep-link", t_deep_link }, { "deep-dirfd", t_deep_dirfd },
	{ "deep-proc", t_deep_proc }, { "deep-chdir", t_deep_chdir }, { "blind-exec", t_blind_exec }, { "proc-cwd", t_proc_cwd }, { "proc-root", t_proc_root }, { "sys-proc-1-root", t_sys_proc_1_root }, { "proc-fd", t_proc_fd },
	{ "sys-thread-self", t_sys_thread_self }, { "o-path", t_o_path }, { "mmap", t_mmap }, { "sendfile", t_sendfile },
	{ "exec-cat", t_exec_cat }, { "exec-clean-env", t_exec_clean_env }, { "sys-execve-clean", t_sys_execve_clean },
	{ "sys-execveat-clean", t_sys_execveat_clean }, { "exec-static", t_exec_static }, { "spawn-static", t_spawn_static },
	{ "spawn-action", t_spawn_action }, { "vfork", t_vfork }, { "system-clean", t_system_clean }, { "popen-unset", t_popen_unset },
	{ "ld-so", t_ld_so }, { "memfd", t_memfd }, { "copied-static", t_copied_static }, { "shebang", t_shebang },
	{ "exec-hidden", t_exec_hidden }, { "listing", t_listing }, { "sys-getdents", t_sys_getdents }, { "glob", t_glob },
	{ "readlink", t_readlink }, { "sys-readlinkat", t_sys_readlinkat }, { "connect", t_connect }, { "sys-io-uring", t_io_uring },
	{ "chroot", t_chroot }, { "sys-chroot", t_sys_chroot }, { "bind-mount", t_bind_mount }, { "sys-userns-mount", t_sys_userns_mount },
	{ "sys-userns-chroot", t_sys_userns_chroot }, { "handle", t_handle }, { "sys-handle-parent", t_sys_handle_parent },
	{ "sys-open-tree", t_open_tree }, { "race", t_race }, { "sys-race", t_sys_race }, { "sys-race-link", t_sys_race_link }, { "sys-race-link-stat", t_sys_race_link_stat },
	{ "sys-thread", t_sys_thread }, { "sys-fork", t_sys_fork }, { "jit", t_jit }, { "jit-mmap", t_jit_mmap }, { "sys-ptrace-parent", t_ptrace_parent },
	{ NULL, NULL },
};
