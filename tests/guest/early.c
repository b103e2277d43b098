/* A library whose constructor runs before tracelib's, with an allocator of its own that opens a file when first used. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static _Alignas(16) char arena[4 << 20];
static size_t used;
int early_errno;

void *malloc(size_t size)
{
	static int first = 1;
	if (first) {
		first = 0;
		int fd = open("/etc/hostname", O_RDONLY);
		if (fd >= 0)
			close(fd);
	}
	void *p = arena + used;
	used += (size + 31) & ~(size_t)15;
	return used < sizeof arena ? p : NULL;
}

void free(void *p)
{
	(void)p;
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

/* getenv knows nothing yet: the C library's own constructor comes later. */
__attribute__((constructor)) static void early(int argc, char **argv, char **envp)
{
	static const char name[] = "EARLY_HIDDEN=";
	(void)argc, (void)argv;
	for (; *envp; envp++)
		if (strncmp(*envp, name, sizeof name - 1) == 0 && access(*envp + sizeof name - 1, F_OK) == 0)
			_exit(77);
}
