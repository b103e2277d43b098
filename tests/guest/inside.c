/*
 * Files that are reached without a path of their own in the call: inside DIR NAME. DIR holds `seen`, `hidden`, `readonly` and
 * `writeonly`, each with a `file`; objects called NAME-hidden are hidden, NAME-seen are not, NAME-fixed may not be changed and
 * NAME-blind not be read.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>
#include <wordexp.h>

#include "../../csrc/sysraw.h"

#define CHECK(x) do { if (!(x)) { printf("%d: %s: %s\n", __LINE__, #x, strerror(errno)); return 1; } } while (0)

#ifdef __GLIBC__
static int by_handle(const char *dir, const char *file, int flags)
{
	union {
		struct file_handle head;
		char room[256];
	} h = { .head = { .handle_bytes = 128 } };
	char path[5000];
	int mount_id, mount = open(dir, O_RDONLY | O_DIRECTORY);
	snprintf(path, sizeof path, "%s/%s", dir, file);
	long r = pt_raw5(SYS_name_to_handle_at, AT_FDCWD, path, &h, &mount_id, 0);
	if (r < 0)
		return errno = (int)-r, -1;
	return open_by_handle_at(mount, &h.head, flags);
}
#define SEMAPHORE "sem."
#else
#define SEMAPHORE ""
#endif

/* Past the library: the file of an object. */
static int made(const char *kind, const char *name)
{
	char path[400];
	snprintf(path, sizeof path, "/dev/shm/%s%s", kind, name + 1);
	return pt_raw4(SYS_openat, AT_FDCWD, path, O_CREAT | O_WRONLY, 0600) >= 0;
}

int main(int argc, char **argv)
{
	char seen[300], hidden[300], path[5000], buf[8192];
	if (argc != 3)
		return 2;
	snprintf(seen, sizeof seen, "/%s-seen", argv[2]);
	snprintf(hidden, sizeof hidden, "/%s-hidden", argv[2]);

	CHECK(shm_open(seen, O_RDWR | O_CREAT | O_EXCL, 0600) >= 0);
	CHECK(shm_open(seen, O_RDWR | O_CREAT | O_EXCL, 0600) < 0 && errno == EEXIST);
	CHECK(shm_unlink(seen) == 0);
	CHECK(shm_open(seen, O_RDONLY, 0) < 0 && errno == ENOENT);
	CHECK(shm_open(hidden, O_RDONLY, 0) < 0 && errno == ENOENT);
	CHECK(shm_open(hidden, O_RDWR | O_CREAT, 0600) < 0 && errno == EACCES);
	CHECK(shm_unlink(hidden) < 0 && errno == ENOENT);
	CHECK(shm_open("/a/b", O_RDONLY, 0) < 0 && errno == EINVAL);

	sem_t *s = sem_open(seen, O_CREAT, 0600, 3);
	int value;
	CHECK(s != SEM_FAILED && sem_getvalue(s, &value) == 0 && value == 3);
	CHECK(sem_unlink(seen) == 0);
	CHECK(sem_open(hidden, O_CREAT, 0600, 1) == SEM_FAILED && errno == EACCES);
	CHECK(sem_open(hidden, 0) == SEM_FAILED && errno == ENOENT);
	CHECK(shm_open(strcat(strcpy(path, hidden), "2"), O_RDONLY, 0) < 0);
	CHECK(sem_unlink(path) < 0 && errno == ENOENT);   /* another name: one finding a path */

	/* objects that are there */
	char fixed[300], fixed2[300], blind[300];
	snprintf(fixed, sizeof fixed, "/%s-fixed", argv[2]);
	snprintf(fixed2, sizeof fixed2, "/%s-fixed2", argv[2]);
	snprintf(blind, sizeof blind, "/%s-blind", argv[2]);
	CHECK(made("", fixed) && made(SEMAPHORE, fixed) && made(SEMAPHORE, fixed2) && made(SEMAPHORE, blind));
	CHECK(shm_unlink(fixed) < 0 && errno == EACCES && shm_open(fixed, O_RDONLY, 0) >= 0);
	CHECK(sem_open(fixed, 0) == SEM_FAILED && errno == EACCES);
	CHECK(sem_open(fixed, O_CREAT | O_EXCL, 0600, 1) == SEM_FAILED && errno == EEXIST);
	CHECK(sem_open(fixed2, O_CREAT, 0600, 1) == SEM_FAILED && errno == EACCES);
	CHECK(sem_open(blind, 0) == SEM_FAILED && errno == ENOENT);

	FILE *f = tmpfile();
	CHECK(f && fputs("text", f) >= 0 && fseek(f, 0, SEEK_SET) == 0 && fgets(buf, sizeof buf, f) && !strcmp(buf, "text"));

	wordexp_t words;
	snprintf(path, sizeof path, "%s/* $((1 + 1)) `echo said`", argv[1]);
	CHECK(wordexp(path, &words, 0) == 0);
	CHECK(words.we_wordc == 4 && strstr(words.we_wordv[0], "/readonly") && strstr(words.we_wordv[1], "/seen"));
	CHECK(!strcmp(words.we_wordv[2], "2") && !strcmp(words.we_wordv[3], "said"));
	wordfree(&words);

	struct open_how how = { .flags = O_RDONLY };
	snprintf(path, sizeof path, "%s/hidden/file", argv[1]);
	CHECK(syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how) < 0 && errno == ENOENT);
	CHECK(syscall(SYS_getxattr, path, "user.x", buf, sizeof buf) < 0 && errno == ENOENT);
	CHECK(syscall(452 /* fchmodat2 */, AT_FDCWD, path, 0600, 0) < 0 && errno == ENOENT);
	CHECK(syscall(SYS_io_uring_setup, 1, buf) < 0 && errno == ENOSYS);
	snprintf(path, sizeof path, "%s/seen/file", argv[1]);
	CHECK(syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how) >= 0);

	/* made by number where the C library (musl) has no such function */
	char other[5000];
	snprintf(other, sizeof other, "%s/seen/other", argv[1]);
	CHECK(syscall(SYS_renameat2, AT_FDCWD, path, AT_FDCWD, other, 0) == 0 && access(path, F_OK) < 0);
	CHECK(syscall(SYS_renameat2, AT_FDCWD, other, AT_FDCWD, path, 1 /* RENAME_NOREPLACE */) == 0);
	snprintf(other, sizeof other, "%s/hidden/file", argv[1]);
	CHECK(syscall(SYS_renameat2, AT_FDCWD, other, AT_FDCWD, path, 0) < 0 && errno == ENOENT);
	int last = dup(0);
	CHECK(syscall(SYS_close_range, last, last, 0) == 0 && fcntl(last, F_GETFD) < 0 && errno == EBADF);

	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct iovec part = { buf, 1 };
	struct msghdr message = { .msg_name = &un, .msg_namelen = sizeof un, .msg_iov = &part, .msg_iovlen = 1 };
	int from = socket(AF_UNIX, SOCK_DGRAM, 0), to = socket(AF_UNIX, SOCK_DGRAM, 0);
	snprintf(un.sun_path, sizeof un.sun_path, "%.90s/seen/sock", argv[1]);
	CHECK(bind(to, (struct sockaddr *)&un, sizeof un) == 0);
	CHECK(sendto(from, buf, 1, 0, (struct sockaddr *)&un, sizeof un) == 1);
	CHECK(sendmsg(from, &message, 0) == 1);
	snprintf(un.sun_path, sizeof un.sun_path, "%.90s/hidden/one", argv[1]);
	CHECK(sendto(from, buf, 1, 0, (struct sockaddr *)&un, sizeof un) < 0 && errno == ENOENT);
	snprintf(un.sun_path, sizeof un.sun_path, "%.90s/hidden/two", argv[1]);
	CHECK(sendmsg(from, &message, 0) < 0 && errno == ENOENT);

#ifdef __GLIBC__
	off_t at = 0;
	ssize_t n, fd = open(argv[1], O_RDONLY | O_DIRECTORY);
	int found = 0;
	while ((n = getdirentries((int)fd, buf, sizeof buf, &at)) > 0)
		for (ssize_t i = 0; i < n;) {
			struct dirent *e = (struct dirent *)(void *)(buf + i);
			CHECK(strcmp(e->d_name, "hidden"));
			found |= !strcmp(e->d_name, "seen");
			i += e->d_reclen;
		}
	CHECK(n == 0 && found);
	if (by_handle(argv[1], "seen/file", O_RDONLY) >= 0) {
		struct stat st;
		CHECK(by_handle(argv[1], "hidden/file", O_RDONLY) < 0 && errno == ENOENT);
		CHECK(by_handle(argv[1], "hidden/file", O_RDONLY | O_NOFOLLOW) < 0 && errno == ENOENT);
		CHECK(by_handle(argv[1], "readonly/file", O_RDONLY) >= 0 && by_handle(argv[1], "readonly/file", O_PATH) >= 0);
		CHECK(by_handle(argv[1], "readonly/file", O_RDWR) < 0 && errno == EACCES);
		CHECK(by_handle(argv[1], "readonly/file", O_WRONLY | O_TRUNC) < 0 && errno == EACCES);
		CHECK(stat(strcat(strcpy(path, argv[1]), "/readonly/file"), &st) == 0 && st.st_size == 4);
		CHECK(by_handle(argv[1], "writeonly/file", O_WRONLY) >= 0);
		CHECK(by_handle(argv[1], "writeonly/file", O_RDONLY) < 0 && errno == ENOENT);
		CHECK(by_handle(argv[1], "writeonly/file", O_RDWR) < 0 && errno == ENOENT);
	} else
		printf("no handles: %s\n", strerror(errno));
#endif
	printf("ok\n");
	return 0;
}
