/*
 * Every way to open a file, for reading, for writing and to make one: opening DIR. DIR holds `seen`, `readonly`, `writeonly`
 * and `hidden`. One line for each way and kind of access: what it says in each place of a file that is there, of one that
 * is not, of a link to one that is there and of a link to one that is not. Each is tried by a process that knows nothing
 * and by one that knows the place.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <mntent.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

int openat2(int, const char *, const struct open_how *, size_t) __attribute__((weak));
extern char **environ;

static const char *const places[] = { "seen", "readonly", "writeonly", "hidden" };
static const char *const kinds[] = { "file", "new", "link", "dangling" };
static const struct access {
	const char *name, *mode;       /* as streams have it, where they can say it */
	int flags;
} accesses[] = {
	{ "R", "r", O_RDONLY }, { "W", NULL, O_WRONLY }, { "RW", "r+", O_RDWR }, { "R,trunc", NULL, O_RDONLY | O_TRUNC },
	{ "R,create", NULL, O_RDONLY | O_CREAT }, { "W,create", "a", O_WRONLY | O_CREAT | O_APPEND },
	{ "W,create,trunc", "w", O_WRONLY | O_CREAT | O_TRUNC }, { "RW,create", "a+", O_RDWR | O_CREAT | O_APPEND },
	{ "RW,create,trunc", "w+", O_RDWR | O_CREAT | O_TRUNC }, { "W,create,new", "wx", O_WRONLY | O_CREAT | O_EXCL },
	{ "RW,create,new", "w+x", O_RDWR | O_CREAT | O_EXCL }, { "path", NULL, O_PATH },
};

static int by_open(const char *path, const struct access *a) { return open(path, a->flags, 0600); }
static int by_openat(const char *path, const struct access *a) { return openat(AT_FDCWD, path, a->flags, 0600); }

static int by_openat2(const char *path, const struct access *a)
{
	struct open_how how = { .flags = (unsigned)a->flags, .mode = a->flags & O_CREAT ? 0600 : 0 };
	return openat2(AT_FDCWD, path, &how, sizeof how);
}

static int by_fopen(const char *path, const struct access *a) { return fopen(path, a->mode) ? 0 : -1; }
static int by_freopen(const char *path, const struct access *a) { return freopen(path, a->mode, fopen("/dev/null", "r")) ? 0 : -1; }
static int by_setmntent(const char *path, const struct access *a) { return setmntent(path, a->mode) ? 0 : -1; }

static int by_spawn(const char *path, const struct access *a)
{
	posix_spawn_file_actions_t actions;
	char *argv[] = { (char *)"true", NULL };
	int status;
	pid_t pid;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 5, path, a->flags, 0600);
	errno = posix_spawn(&pid, "/bin/true", &actions, NULL, argv, environ);
	return errno || waitpid(pid, &status, 0) != pid || status ? -1 : 0;
}

static const struct {
	const char *name;
	int (*make)(const char *, const struct access *);
	int stream;
} ways[] = {
	{ "open", by_open, 0 }, { "openat", by_openat, 0 }, { "openat2", by_openat2, 0 }, { "fopen", by_fopen, 1 },
	{ "freopen", by_freopen, 1 }, { "setmntent", by_setmntent, 1 }, { "spawn", by_spawn, 0 },
};

int main(int argc, char **argv)
{
	char path[5000];
	if (argc != 2)
		return 2;
	for (size_t w = 0; w < sizeof ways / sizeof *ways; w++)
		for (size_t i = 0; i < sizeof accesses / sizeof *accesses; i++)
			for (int known = 0; known < 2 && (!ways[w].stream || accesses[i].mode); known++) {
				printf("%s %s", ways[w].name, accesses[i].name);
				for (size_t p = 0; p < 4; p++)
					for (size_t k = 0; k < 4; k++) {
						int answer[2], error = -1;
						if (pipe(answer))
							return 3;
						pid_t pid = fork();
						if (pid == 0) {
							snprintf(path, sizeof path, "%s/%s/none", argv[1], places[p]);
							for (int n = 0; n < 2 * known; n++)
								(void)!access(path, F_OK);
							snprintf(path, sizeof path, "%s/%s/%s", argv[1], places[p], kinds[k]);
							error = ways[w].make(path, &accesses[i]) < 0 ? errno : 0;
							_exit(write(answer[1], &error, sizeof error) != sizeof error);
						}
						close(answer[1]);
						if (read(answer[0], &error, sizeof error) != sizeof error)
							error = -1;
						close(answer[0]);
						waitpid(pid, NULL, 0);
						snprintf(path, sizeof path, "%s/%s/new", argv[1], places[p]);
						unlink(path);
						snprintf(path, sizeof path, "%s/%s/missing", argv[1], places[p]);
						unlink(path);
						printf("%s%s", k ? " " : "  ", error < 0 ? "?" : error ? strerrorname_np(error) : "-");
					}
				printf("\n");
			}
	return 0;
}
