/* Looking into the process that asks: its memory, its directories, its descriptors. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "longpath_linux.h"
#include "procstat.h"
#include "supervisor.h"

#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL /* Linux 6.9 */
#endif

/* errno says why not: EPERM where the process does not let us look, which is not the program's bad pointer. */
bool pt_target_read(pid_t pid, uint64_t address, void *out, size_t size)
{
	struct iovec here = { out, size }, there = { (void *)(uintptr_t)address, size };
	return process_vm_readv(pid, &here, 1, &there, 1, 0) == (ssize_t)size;
}

bool pt_target_write(pid_t pid, uint64_t address, const void *from, size_t size)
{
	struct iovec here = { (void *)(uintptr_t)from, size }, there = { (void *)(uintptr_t)address, size };
	return process_vm_writev(pid, &here, 1, &there, 1, 0) == (ssize_t)size;
}

#define USUAL 256 /* hardly a path is longer: the rest of its page need not be copied */

ssize_t pt_target_text(pid_t pid, uint64_t address, char *out, size_t cap)
{
	size_t have = 0;
	while (have < cap) {
		size_t want = 4096 - (size_t)((address + have) & 4095); /* a text may end right before unmapped memory */
		if (!have && want > USUAL)
			want = USUAL;
		if (want > cap - have)
			want = cap - have;
		if (!pt_target_read(pid, address + have, out + have, want))
			return errno == EPERM || errno == ESRCH ? -EPERM : -EFAULT;
		char *end = memchr(out + have, 0, want);
		if (end)
			return end - out;
		have += want;
	}
	return -ENAMETOOLONG;
}

/* Where a link of the kernel's leads. */
static ssize_t read_link(const char *link, char *out, size_t cap)
{
	ssize_t got = readlink(link, out, cap - 1);
	if (got < 0 && errno == ENAMETOOLONG)
		got = pt_long_readlink(link, out, cap - 1);
	else if (got < 0)
		got = errno == ENOENT ? -EBADF : -errno;
	if (got < 0)
		return got;
	if ((size_t)got == cap - 1)
		return -ENAMETOOLONG;
	out[got] = 0;
	return got;
}

ssize_t pt_target_path(pid_t pid, int fd, char *out, size_t cap)
{
	char link[64];
	if (fd == AT_FDCWD)
		snprintf(link, sizeof link, "/proc/%d/cwd", (int)pid);
	else if (fd == PT_TARGET_EXE)
		snprintf(link, sizeof link, "/proc/%d/exe", (int)pid);
	else if (fd < 0)
		return -EBADF;
	else
		snprintf(link, sizeof link, "/proc/%d/fd/%d", (int)pid, fd);
	return read_link(link, out, cap);
}

#define STATUS_SIZE 2048

/* What the kernel tells of a process, as text. */
static bool read_status(pid_t pid, char text[STATUS_SIZE])
{
	return pt_process_file((int32_t)pid, "status", text, STATUS_SIZE) > 0;
}

bool pt_target_ids(pid_t pid, pid_t *process, pid_t *parent)
{
	char text[STATUS_SIZE];
	*process = pid;
	*parent = 0;
	if (!read_status(pid, text))
		return false;
	const char *line = strstr(text, "\nTgid:"); /* the name in the first line has its newlines escaped */
	if (line)
		*process = (pid_t)atoi(line + 6);
	line = strstr(text, "\nPPid:");
	if (line)
		*parent = (pid_t)atoi(line + 6);
	return true;
}

bool pt_target_traced(pid_t thread, pid_t *process, bool *traced)
{
	char text[STATUS_SIZE];
	if (!read_status(thread, text))
		return false;
	const char *group = strstr(text, "\nTgid:"), *tracer = strstr(text, "\nTracerPid:");
	*process = group ? (pid_t)atoi(group + 6) : thread;
	*traced = tracer && atoi(tracer + 11) != 0;
	return true;
}

/* A line of /proc/PID/status as a number. */
static bool status_number(pid_t pid, const char *label, int base, long *out)
{
	char text[STATUS_SIZE];
	if (!read_status(pid, text))
		return false;
	const char *line = strstr(text, label);
	if (line)
		*out = strtol(line + strlen(label), NULL, base);
	return line;
}

unsigned pt_target_umask(pid_t pid)
{
	long mask;
	return status_number(pid, "\nUmask:", 8, &mask) ? (unsigned)mask & 0777 : 077;
}

bool pt_target_signalled(pid_t thread)
{
	char text[STATUS_SIZE];
	pid_t process = 0;
	unsigned threads = 0;
	unsigned long long own, shared, blocked, ignored;
	if (!read_status(thread, text))
		return false;
	const char *line = strstr(text, "\nTgid:"), *many = strstr(text, "\nThreads:"), *masks = strstr(text, "\nSigPnd:");
	if (!line || !many || !masks || sscanf(line, "\nTgid: %d", &process) != 1 || sscanf(many, "\nThreads: %u", &threads) != 1 ||
	    sscanf(masks, "\nSigPnd: %llx ShdPnd: %llx SigBlk: %llx SigIgn: %llx", &own, &shared, &blocked, &ignored) != 4)
		return false;
	/* What is for the whole process the kernel gives to its first thread, if that takes it. */
	if (threads == 1 || thread == process)
		own |= shared;
	return own & ~blocked & ~ignored;
}

bool pt_target_rights(pid_t pid, struct pt_target_rights *out)
{
	static __thread char text[8192]; /* as many groups as are held here */
	memset(out, 0, sizeof *out);
	if (pt_process_file((int32_t)pid, "status", text, sizeof text) <= 0)
		return false;
	unsigned long long caps = 0;
	const char *uid = strstr(text, "\nUid:"), *gid = strstr(text, "\nGid:"), *groups = strstr(text, "\nGroups:"), *cap = strstr(text, "\nCapEff:");
	if (!uid || !gid || !groups || !cap || sscanf(uid + 5, " %*u %*u %*u %u", &out->uid) != 1 ||
	    sscanf(gid + 5, " %*u %*u %*u %u", &out->gid) != 1 || sscanf(cap + 8, " %llx", &caps) != 1)
		return false;
	out->caps = caps;
	for (const char *at = groups + 8; out->count < PT_TARGET_GROUPS; out->count++) {
		char *end;
		while (*at == ' ' || *at == '\t')
			at++;
		if (*at == '\n')
			return true;
		out->groups[out->count] = (gid_t)strtoul(at, &end, 10);
		if (end == at)
			return false;
		at = end;
	}
	return false;
}

uint64_t pt_ticks_now(void)
{
	struct timespec ts;
	long hz = sysconf(_SC_CLK_TCK);
	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * (uint64_t)hz + (uint64_t)ts.tv_nsec / (1000000000u / (uint64_t)hz);
}

bool pt_target_filtered(pid_t pid)
{
	long filter = 0;
	return status_number(pid, "\nSeccomp:", 10, &filter) && filter == 2;
}

bool pt_target_descends(pid_t pid, pid_t from, uint64_t since)
{
	if (!pt_target_filtered(pid))
		return false; /* started before its parent came under the supervisor */
	for (int depth = 0; depth < 64 && pid > 1; depth++) {
		struct pt_process p;
		if (pid == from)
			return true;
		if (!pt_process_look((int32_t)pid, &p) || p.started < since)
			return false;
		pid = p.ppid;
	}
	return false;
}

ssize_t pt_target_mapped(pid_t pid, const char **at, struct pt_mapped_file *file, char *out, size_t cap)
{
	unsigned long long from, to, inode;
	unsigned major, minor;
	int head;
	while (sscanf(*at, "%llx-%llx %*s %*s %x:%x %llu%n", &from, &to, &major, &minor, &inode, &head) == 5) {
		const char *path = *at + head + strspn(*at + head, " ");
		const size_t len = strcspn(path, "\n");
		*at = path + len + (path[len] != 0);
		if (!inode || (inode == file->inode && major == file->major && minor == file->minor))
			continue;
		*file = (struct pt_mapped_file){ major, minor, inode };
		if (len >= cap)
			return -ENAMETOOLONG;
		memcpy(out, path, len);
		out[len] = 0;
		if (!strstr(out, "\\012"))
			return (ssize_t)len;
		char link[96]; /* a newline, or just that */
		snprintf(link, sizeof link, "/proc/%d/map_files/%llx-%llx", (int)pid, from, to);
		return read_link(link, out, cap);
	}
	return 0;
}

bool pt_target_maps(pid_t pid, const char *dir, const char *name)
{
	char path[64], line[4352];
	bool found = false;
	size_t d = strlen(dir), n = strlen(name);
	snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
	FILE *f = fopen(path, "re");
	while (f && !found && fgets(line, sizeof line, f)) {
		const char *at = strchr(line, '/');
		found = at && !strncmp(at, dir, d) && !strncmp(at + d, name, n);
	}
	if (f)
		fclose(f);
	return found;
}

int pt_target_program(pid_t pid, struct pt_program *program, char *path, size_t cap)
{
	char name[64];
	uint64_t aux[128] = { 0 };
	*program = (struct pt_program){ 0 };
	snprintf(name, sizeof name, "/proc/%d/auxv", (int)pid);
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? -1 : read(fd, aux, sizeof aux);
	if (fd >= 0)
		close(fd);
	if (got <= 0)
		return -EACCES;
	uint64_t layout = 14695981039346656037u, execfn = 0, random = 0;
	const uint32_t *narrow = (const uint32_t *)(const void *)aux; /* a 32-bit program's entries are half as wide */
	bool wide = got >= 16 && aux[0] < 0x10000 && (aux[0] >> 32) == 0 && narrow[1] == 0;
	for (size_t i = 0; i + 1 < (size_t)got / (wide ? 8 : 4); i += 2) {
		uint64_t key = wide ? aux[i] : narrow[i], value = wide ? aux[i + 1] : narrow[i + 1];
		layout = (layout ^ value) * 1099511628211u;
		if (key == 31) /* AT_EXECFN */
			execfn = value;
		else if (key == 25) /* AT_RANDOM */
			random = value;
	}
	program->layout = layout | 1;
	/* Between two looks the process may have come to the next program, or its first thread have ended in favour of another. */
	if (!random || !execfn || !pt_target_read(pid, random, &program->random, sizeof program->random))
		return -ENOENT;
	return (int)pt_target_text(pid, execfn, path, cap);
}

int pt_target_fd(pid_t pid, int fd)
{
	long process = syscall(SYS_pidfd_open, pid, PIDFD_THREAD);
	if (process < 0)
		process = syscall(SYS_pidfd_open, pid, 0);
	if (process < 0)
		return -errno;
	long copy = syscall(SYS_pidfd_getfd, process, fd, 0);
	int err = errno;
	close((int)process);
	return copy < 0 ? -err : (int)copy;
}

int pt_target_lstat(const char *path, struct stat *st)
{
	int dir = pt_long_dir(&path);
	if (dir < 0 && dir != AT_FDCWD) {
		errno = -dir;
		return -1;
	}
	int result = fstatat(dir, path, st, AT_SYMLINK_NOFOLLOW), err = errno;
	pt_long_close(dir);
	errno = err;
	return result;
}

/* "self" and "thread-self" mean the one that asks, not the one that looks. */
static ssize_t fs_readlink(void *user, const char *path, char *buf, size_t size)
{
	struct pt_task *t = user;
	const pid_t pid = t->pid;
	const size_t path_len = strlen(path);
	uint64_t hash = pt_hash_path(pt_image_seed(t->sup->image), path, path_len);
	_Atomic uint64_t *known = &t->tree->no_links[hash % PT_NO_LINKS];
	if (atomic_load_explicit(known, memory_order_relaxed) == hash && hash)
		return -EINVAL;
	if (!strncmp(path, "/proc/", 6) && (!strcmp(path + 6, "self") || !strcmp(path + 6, "thread-self"))) {
		char text[64];
		/* A thread's directory shows the same files as its process's, and works for both. */
		int n = snprintf(text, sizeof text, path[6] == 's' ? "%d" : "%d/task/%d", (int)pid, (int)pid);
		size_t len = (size_t)n < size ? (size_t)n : size;
		memcpy(buf, text, len);
		return (ssize_t)len;
	}
	if (pt_is_others_place(t, path))
		return -EACCES;
	ssize_t got = readlink(path, buf, size);
	int err = errno;
	if (got < 0 && err == ENAMETOOLONG) {
		got = pt_long_readlink(path, buf, size);
		err = (int)-got;
	}
	/* What the session cannot write stays what it is; /proc belongs to nobody. */
	bool stays = strncmp(path, "/proc", 5) && !(t->sup->flags & PT_IMG_AUDIT) &&
		     pt_decide(t->sup->image, PT_WRITE, path, path_len).action == PT_DENY;
	t->loose |= !stays;
	if (got >= 0)
		return got;
	if (err == EINVAL && stays)
		atomic_store_explicit(known, hash, memory_order_relaxed);
	return -err;
}

static int fs_exists(void *user, const char *path)
{
	struct stat st;
	(void)user;
	return pt_target_lstat(path, &st) ? -errno : 0;
}

const struct pt_fs pt_target_fs = { NULL, fs_readlink, fs_exists };
