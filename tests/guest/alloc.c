/*
 * A program with an allocator of its own that may not be entered while the library works: alloc DIR. Prints how often it
 * was, and the memory in KiB that is the process's own (once more than was asked for: "alloc DIR" under the library and
 * without it are compared).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static _Alignas(16) char arena[4 << 20];
static size_t used;
static volatile int calls;

void *malloc(size_t size)
{
	void *p = arena + used;
	calls++;
	used += (size + 31) & ~(size_t)15;
	return used < sizeof arena ? p : NULL;
}

void free(void *p)
{
	calls += p != NULL;
}

void *calloc(size_t n, size_t size)
{
	return malloc(n * size);
}

void *realloc(void *p, size_t size)
{
	void *q = malloc(size);
	return p && q ? memcpy(q, p, size) : q;
}

int main(int argc, char **argv)
{
	char path[4096], other[4096];
	struct stat st;
	if (argc != 2)
		return 2;
	int before = calls;
	for (int i = 0; i < 300; i++) {
		snprintf(path, sizeof path, "%s/seen/made%d", argv[1], i);
		snprintf(other, sizeof other, "%s/seen/other%d", argv[1], i);
		int fd = open(path, O_RDWR | O_CREAT, 0644);
		if (fd < 0 || fchmod(fd, 0600) || close(fd) || stat(path, &st) || access(path, R_OK) || chmod(path, 0644) ||
		    rename(path, other) || symlink(other, path) || readlink(path, other, 1) < 0 || lstat(path, &st) || unlink(path))
			return 3;
		snprintf(other, sizeof other, "%s/seen/other%d", argv[1], i);
		if (unlink(other) || mkdir(path, 0755) || chdir(path) || chdir("..") || rmdir(path))
			return 4;
		snprintf(path, sizeof path, "%s/hidden/../hidden/none%d", argv[1], i);
		if (stat(path, &st) == 0 || open(path, O_RDONLY) >= 0 || execv(path, argv) == 0)
			return 5;
	}
	printf("%d\n", calls - before);
	return 0;
}
