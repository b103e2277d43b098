/*
 * Ways that lead through the loader, or past the injected library in its own process: code that the build made gets
 * into a program, or the C library's own calls are found by hand. Names that begin with "so-" use the objects that the
 * runner makes of objects.c.
 */
#include <dlfcn.h>
#include <iconv.h>
#include <link.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/shm.h>
#include <sys/wait.h>

#include "attempt.h"

extern char **environ;

static int run(char *const *argv, char *const *envp)
{
	int s = 0;
	pid_t pid = fork();
	if (!pid) {
		execve(argv[0], argv, envp);
		_exit(127);
	}
	waitpid(pid, &s, 0);
	return s ? EACCES : 0;
}

static char *text(const char *a, const char *b)
{
	char *out = malloc(strlen(a) + strlen(b) + 1);
	return strcat(strcpy(out, a), b);
}

/* The environment with one variable set, ours and the loader's own left as they are. */
static int with(const char *name, const char *value, const char *program)
{
	char *argv[] = { (char *)(uintptr_t)program, NULL };
	setenv("BASE", base, 1);
	setenv(name, value, 1);
	return run(argv, environ);
}

typedef int open_t(const char *, int, ...);

static int t_dlsym_libc(const char *p)
{
	void *libc = dlopen("libc.so.6", RTLD_LAZY);
	open_t *f = libc ? (open_t *)dlsym(libc, "open") : NULL;
	return f ? show_fd(f(p, O_RDONLY)) : ENOSYS;
}
static int t_dlsym_next(const char *p)
{
	open_t *f = (open_t *)dlsym(RTLD_NEXT, "open");
	return f ? show_fd(f(p, O_RDONLY)) : ENOSYS;
}
static int t_dlsym_internal(const char *p)
{
	void *libc = dlopen("libc.so.6", RTLD_LAZY);
	open_t *f = libc ? (open_t *)dlsym(libc, "__open64_nocancel") : NULL;
	if (!f)
		f = libc ? (open_t *)dlsym(libc, "__open64") : NULL;
	return f ? show_fd(f(p, O_RDONLY)) : ENOSYS;
}
static int t_dlsym_syscall(const char *p)
{
	void *libc = dlopen("libc.so.6", RTLD_LAZY);
	long (*f)(long, ...) = libc ? (long (*)(long, ...))dlsym(libc, "syscall") : NULL;
	return f ? show_fd((int)f(SYS_openat, AT_FDCWD, p, O_RDONLY)) : ENOSYS;
}
static int t_dlvsym(const char *p)
{
#ifdef __GLIBC__
	void *libc = dlopen("libc.so.6", RTLD_LAZY);
	open_t *f = libc ? (open_t *)dlvsym(libc, "open", sizeof(void *) == 8 ? "GLIBC_2.2.5" : "GLIBC_2.0") : NULL;
	return f ? show_fd(f(p, O_RDONLY)) : ENOSYS;
#else
	(void)p;
	return ENOSYS;
#endif
}
static int t_dlmopen(const char *p)
{
#ifdef __GLIBC__
	void *libc = dlmopen(LM_ID_NEWLM, "libc.so.6", RTLD_LAZY);
	open_t *f = libc ? (open_t *)dlsym(libc, "open") : NULL;
	return f ? show_fd(f(p, O_RDONLY)) : ENOSYS;
#else
	(void)p;
	return ENOSYS;
#endif
}
static int seen(struct dl_phdr_info *info, size_t size, void *out)
{
	(void)size;
	if (info->dlpi_name && strstr(info->dlpi_name, "libc.so.6"))
		*(struct dl_phdr_info *)out = *info;
	return 0;
}
/* The C library's own instructions, found in its text: nothing of the program's own can be seen in any file. */
static int t_gadget(const char *p)
{
#if defined(__x86_64__)
	struct dl_phdr_info libc = { 0 };
	dl_iterate_phdr(seen, &libc);
	for (int i = 0; i < libc.dlpi_phnum; i++) {
		const ElfW(Phdr) *h = &libc.dlpi_phdr[i];
		if (h->p_type != PT_LOAD || !(h->p_flags & PF_X))
			continue;
		const unsigned char *at = (const unsigned char *)libc.dlpi_addr + h->p_vaddr, *end = at + h->p_memsz - 3;
		unsigned char first = 0x0f ^ 0; /* not as a constant in a row with the second */
		for (; at < end; at++)
			if (at[0] == first && at[1] == 5 && at[2] == 0xc3) {
				long r = ((long (*)(const char *, long, long))(uintptr_t)at)(p, O_RDONLY, 0);
				(void)r;
				register long a __asm__("rax") = 2;
				__asm__ volatile("call *%1" : "+a"(a) : "r"(at), "D"(p), "S"(0L), "d"(0L) : "rcx", "r11", "memory");
				if (a < 0)
					return (int)-a;
				return show_fd((int)a);
			}
	}
#endif
	(void)p;
	return ENOSYS;
}

/* ---- code of the program's own making, where no mprotect of the C library is called ---- */

static const volatile unsigned char code[] = { 0xe2, 0x58, 0x5a, 0x5a, 0x5a, 0x6b, 0xac, 0x55, 0x5f, 0x99 }; /* open, ^ 0x5a */

static int made(unsigned char *m, const char *p)
{
	long fd = ((long (*)(const char *))(uintptr_t)m)(p);
	return fd < 0 ? (int)-fd : show_fd((int)fd);
}
static void decode(volatile unsigned char *m)
{
	for (unsigned i = 0; i < sizeof code; i++)
		m[i] = code[i] ^ 0x5a;
}
#if defined(__x86_64__)
static int t_jit_shm(const char *p)
{
	int id = shmget(IPC_PRIVATE, 4096, 0700 | IPC_CREAT);
	unsigned char *m = shmat(id, NULL, SHM_EXEC);
	shmctl(id, IPC_RMID, NULL);
	if (m == (void *)-1)
		return errno;
	decode(m);
	return made(m, p);
}
static int t_jit_pkey(const char *p)
{
	unsigned char *m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	decode(m);
#ifdef __GLIBC__
	if (pkey_mprotect(m, 4096, PROT_READ | PROT_EXEC, -1))
		return errno;
#else
	return ENOSYS;
#endif
	return made(m, p);
}
static int t_jit_sys_mprotect(const char *p)
{
	unsigned char *m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	decode(m);
	if (syscall(SYS_mprotect, m, 4096, PROT_READ | PROT_EXEC))
		return errno;
	return made(m, p);
}
static int t_jit_sys_mmap(const char *p)
{
	long m = syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m == -1)
		return errno;
	decode((unsigned char *)m);
	return made((unsigned char *)m, p);
}
static int t_jit_memfd(const char *p)
{
	int fd = memfd_create("x", 0);
	if (ftruncate(fd, 4096))
		return errno;
	unsigned char *w = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	decode(w);
	unsigned char *m = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	return m == MAP_FAILED ? errno : made(m, p);
}
static int t_jit_personality(const char *p)
{
	if (personality(0x0400000 /* READ_IMPLIES_EXEC */) == -1)
		return errno;
	unsigned char *m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	decode(m);
	return made(m, p);
}
/* New code over the wrapper, through a door that asks for no right to the pages. */
static int t_patch_self_mem(const char *p)
{
	unsigned char bytes[sizeof code];
	int fd = open("/proc/self/mem", O_RDWR);
	if (fd < 0)
		return errno;
	decode(bytes);
	if (pwrite(fd, bytes, sizeof bytes, (off_t)(uintptr_t)open) < 0)
		return errno;
	return show_fd(((int (*)(const char *))open)(p));
}
#else
#define NONE(name) static int name(const char *p) { (void)p; return ENOSYS; }
NONE(t_jit_shm) NONE(t_jit_pkey) NONE(t_jit_sys_mprotect) NONE(t_jit_sys_mmap) NONE(t_jit_memfd) NONE(t_jit_personality)
NONE(t_patch_self_mem)
#endif

/* The injected library's own memory: its state lies in the process like everything else. */
static int all_ones(struct dl_phdr_info *info, size_t size, void *unused)
{
	(void)size, (void)unused;
	if (!info->dlpi_name || !strstr(info->dlpi_name, "tracelib"))
		return 0;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *h = &info->dlpi_phdr[i];
		if (h->p_type == PT_LOAD && (h->p_flags & PF_W))
			for (uintptr_t at = (info->dlpi_addr + h->p_vaddr + 3) & ~3ul; at + 4 <= info->dlpi_addr + h->p_vaddr + h->p_memsz; at += 4)
				if (*(volatile int *)at == 1)
					*(volatile int *)at = 2;
	}
	return 1;
}
static int t_patch_state(const char *p)
{
	dl_iterate_phdr(all_ones, NULL);
	return show_fd(open(p, O_RDONLY));
}
/* Other pages where the policy was. */
static int t_patch_policy(const char *p)
{
	char line[1024];
	FILE *maps = fopen("/proc/self/maps", "r");
	while (maps && fgets(line, sizeof line, maps)) {
		unsigned long from, to;
		char *name = strrchr(line, '/');
		if (!name || strcmp(name, "/policy\n") || sscanf(line, "%lx-%lx", &from, &to) != 2)
			continue;
		char *copy = malloc(to - from);
		memcpy(copy, (void *)from, to - from);
		if (mmap((void *)from, to - from, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
			return errno;
		memcpy((void *)from, copy, to - from);
		for (char *at = (char *)from; at + 6 < (char *)to; at++)
			if (!memcmp(at, "hidden", 6))
				memcpy(at, "hiddem", 6);
	}
	return show_fd(open(p, O_RDONLY));
}

/* ---- the loader's own ways to a file: it looks before any code of ours runs ---- */

static int t_preload_hidden(const char *p) { (void)p; return with("LD_PRELOAD", in("hidden/libsecret.so"), "/bin/true"); }
static int t_preload_hidden_link(const char *p)
{
	(void)p;
	symlink(in("hidden/libsecret.so"), in("work/l.so"));
	return with("LD_PRELOAD", in("work/l.so"), "/bin/true");
}
static int t_preload_hidden_bare(const char *p)
{
	(void)p;
	setenv("LD_LIBRARY_PATH", in("hidden"), 1);
	return with("LD_PRELOAD", "libsecret.so", "/bin/true");
}
static int t_audit_hidden(const char *p) { (void)p; return with("LD_AUDIT", in("hidden/libsecret.so"), "/bin/true"); }
static int t_dlopen_hidden(const char *p) { (void)p; return dlopen(in("hidden/libsecret.so"), RTLD_NOW) ? 0 : ENOENT; }
static int t_ld_so_preload(const char *p)
{
	char *argv[] = { "/lib64/ld-linux-x86-64.so.2", "--preload", (char *)(uintptr_t)in("hidden/libsecret.so"), "/bin/true", NULL };
	(void)p;
	return run(argv, environ);
}
static int t_ld_so_path(const char *p)
{
	char *argv[] = { "/lib64/ld-linux-x86-64.so.2", "--library-path", (char *)(uintptr_t)in("hidden"), "--inhibit-cache", "--preload",
			 "libsecret.so", "/bin/true", NULL };
	(void)p;
	return run(argv, environ);
}
static int t_so_rpath_hidden(const char *p) { (void)p; return with("X", "x", in("work/objects/needs-hidden")); }
static int t_so_rpath_link(const char *p)
{
	(void)p;
	symlink(in("hidden"), in("work/objects/libs"));
	return with("X", "x", in("work/objects/needs-libs"));
}
static int t_so_library_path_hidden(const char *p) { (void)p; return with("LD_LIBRARY_PATH", in("hidden"), in("work/objects/needs-none")); }
static int t_so_needed_slash(const char *p) { (void)p; return with("X", "x", in("work/objects/needs-path")); }

/* ---- code that the build made, in a program that it did not make ---- */

static int t_so_preload(const char *p) { (void)p; return with("LD_PRELOAD", in("work/objects/evil.so"), "/bin/true"); }
static int t_so_preload_first(const char *p)
{
	const char *ours = getenv("LD_PRELOAD");
	(void)p;
	return with("LD_PRELOAD", text(text(in("work/objects/evil.so"), ":"), ours ? ours : ""), "/bin/true");
}
static int t_so_audit(const char *p) { (void)p; return with("LD_AUDIT", in("work/objects/evil.so"), "/bin/true"); }
static int t_so_dlopen(const char *p) { (void)p; return dlopen(in("work/objects/evil.so"), RTLD_NOW) ? 0 : ENOENT; }
static int t_so_dlopen_quiet(const char *p) { (void)p; return dlopen(in("work/objects/quiet.so"), RTLD_NOW) ? 0 : ENOENT; }
static int t_so_needed(const char *p) { (void)p; return with("X", "x", in("work/objects/needs-evil")); }
static int t_so_ifunc(const char *p) { (void)p; return with("X", "x", in("work/objects/needs-ifunc")); }
static int t_so_library_path(const char *p) { (void)p; return with("LD_LIBRARY_PATH", in("work/objects"), in("work/objects/needs-none-evil")); }
static int t_so_exec_stack(const char *p) { (void)p; return with("X", "x", in("work/objects/exec-stack")); }
static int t_so_writable_text(const char *p) { (void)p; return with("X", "x", in("work/objects/writable-text")); }
static int t_so_interpreter(const char *p) { (void)p; return with("X", "x", in("work/objects/own-loader")); }
static int t_so_gconv(const char *p)
{
	(void)p;
	FILE *f = fopen(in("work/objects/gconv-modules"), "w");
	if (!f)
		return errno;
	fprintf(f, "module EVIL// INTERNAL evil 1\nmodule INTERNAL EVIL// evil 1\n");
	fclose(f);
	setenv("GCONV_PATH", in("work/objects"), 1);
	return iconv_open("UTF-8", "EVIL") == (iconv_t)-1 ? errno : 0;
}

const struct attempt loader_attempts[] = {
	{ "dlsym-libc", t_dlsym_libc }, { "dlsym-next", t_dlsym_next }, { "dlsym-internal", t_dlsym_internal },
	{ "dlsym-syscall", t_dlsym_syscall }, { "dlvsym", t_dlvsym }, { "dlmopen", t_dlmopen }, { "gadget", t_gadget },
	{ "jit-shm", t_jit_shm }, { "jit-pkey", t_jit_pkey }, { "jit-sys-mprotect", t_jit_sys_mprotect }, { "jit-sys-mmap", t_jit_sys_mmap },
	{ "jit-memfd", t_jit_memfd }, { "jit-personality", t_jit_personality }, { "patch-self-mem", t_patch_self_mem },
	{ "patch-state", t_patch_state }, { "patch-policy", t_patch_policy }, { "preload-hidden", t_preload_hidden },
	{ "preload-hidden-link", t_preload_hidden_link }, { "preload-hidden-bare", t_preload_hidden_bare },
	{ "audit-hidden", t_audit_hidden }, { "dlopen-hidden", t_dlopen_hidden }, { "ld-so-preload", t_ld_so_preload },
	{ "ld-so-path", t_ld_so_path }, { "so-rpath-hidden", t_so_rpath_hidden }, { "so-rpath-link", t_so_rpath_link },
	{ "so-library-path-hidden", t_so_library_path_hidden }, { "so-needed-slash", t_so_needed_slash }, { "so-preload", t_so_preload },
	{ "so-preload-first", t_so_preload_first }, { "so-audit", t_so_audit }, { "so-dlopen", t_so_dlopen },
	{ "so-dlopen-quiet", t_so_dlopen_quiet }, { "so-needed", t_so_needed }, { "so-ifunc", t_so_ifunc },
	{ "so-library-path", t_so_library_path }, { "so-exec-stack", t_so_exec_stack }, { "so-writable-text", t_so_writable_text },
	{ "so-interpreter", t_so_interpreter }, { "so-gconv", t_so_gconv }, { NULL, NULL },
};
