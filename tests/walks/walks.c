/*
 * Walks trees with ftw, nftw and fts in every way that they know, and prints all that a program can see of it.
 * usage: walks {all|plain} TREE...    `plain`: one walk of each kind
 *        walks raw DIRECTORY          lists it by system calls, a little at a time
 *        walks spawn DIRECTORY        /bin/pwd there, and the result of the spawn
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <fts.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int actions, stop;
static const char *where(void)
{
	static char cwd[16384];
	return getcwd(cwd, sizeof cwd) ? cwd : strerror(errno);
}

static int at_nftw(const char *path, const struct stat *st, int what, struct FTW *f)
{
	printf("%s what=%d base=%d level=%d cwd=%s", path, what, f->base, f->level, where());
	if (what != FTW_NS)
		printf(" ino=%lu mode=%o nlink=%lu", (unsigned long)st->st_ino, st->st_mode, (unsigned long)st->st_nlink);
	putchar('\n');
	const char *name = path + f->base;
	if (stop && strcmp(name, "stop") == 0)
		return 42;
	if (!actions)
		return FTW_CONTINUE;
	return strcmp(name, "skip") == 0 ? FTW_SKIP_SUBTREE : strcmp(name, "siblings") == 0 ? FTW_SKIP_SIBLINGS :
		strcmp(name, "end") == 0 ? FTW_STOP : FTW_CONTINUE;
}

static int at_ftw(const char *path, const struct stat *st, int what)
{
	printf("%s what=%d mode=%o\n", path, what, what == FTW_NS ? 0 : st->st_mode);
	return stop && strstr(path, "/stop") ? 42 : 0;
}

static int backwards(const FTSENT **a, const FTSENT **b)
{
	return strcmp((*b)->fts_name, (*a)->fts_name);
}

static void show(const FTS *f, const FTSENT *e, int options)
{
	printf("%s name=%s level=%d info=%d errno=%d lengths=%d,%d cwd=%s", e->fts_path, e->fts_name, e->fts_level, e->fts_info,
	       e->fts_errno, e->fts_pathlen, e->fts_namelen, where());
	if (e->fts_info != FTS_NS && e->fts_info != FTS_NSOK && e->fts_info != FTS_ERR && e->fts_info != FTS_DNR) {
		struct stat st;
		printf(" mode=%o reached=%d", options & FTS_NOSTAT ? 0 : e->fts_statp->st_mode, lstat(e->fts_accpath, &st));
		if (e->fts_info != FTS_DP || !(options & FTS_LOGICAL))
			printf(" accpath=%s", e->fts_accpath);
	}
	if (e->fts_info == FTS_DC)
		printf(" cycle=%s", e->fts_cycle->fts_name);
	printf(" current=%d\n", f->fts_cur == e);
}

static void walk_fts(char **trees, int options, int (*compare)(const FTSENT **, const FTSENT **), int extras)
{
	printf("-- fts options=%x sorted=%d extras=%d\n", options, !!compare, extras);
	FTS *f = fts_open(trees, options, compare);
	if (!f) {
		printf("failed: %s\n", strerror(errno));
		return;
	}
	if (extras)
		for (FTSENT *c = fts_children(f, 0); c; c = c->fts_link)
			printf("root %s info=%d\n", c->fts_name, c->fts_info);
	int again = 0;
	errno = 0;
	for (FTSENT *e; (e = fts_read(f)) != NULL; errno = 0) {
		show(f, e, options);
		if (extras && e->fts_info == FTS_D && strncmp(e->fts_name, "kids", 4) == 0) {
			for (FTSENT *c = fts_children(f, e->fts_name[4] ? FTS_NAMEONLY : 0); c; c = c->fts_link)
				printf("child %s info=%d level=%d len=%d\n", c->fts_name, c->fts_info, c->fts_level, c->fts_namelen);
			printf("errno=%d cwd=%s\n", errno, where());
		}
		if (extras && strcmp(e->fts_name, "skip") == 0 && e->fts_info == FTS_D)
			fts_set(f, e, FTS_SKIP);
		if (extras && strcmp(e->fts_name, "todir") == 0 && e->fts_info == FTS_SL)
			fts_set(f, e, FTS_FOLLOW);
		if (extras && strcmp(e->fts_name, "again") == 0 && !again++)
			fts_set(f, e, FTS_AGAIN);
		if (stop && strcmp(e->fts_name, "stop") == 0)
			break;
	}
	printf("end errno=%d", errno);
	printf(" close=%d", fts_close(f));
	printf(" cwd=%s\n", where());
}

static long list(int way, int fd, char *buf, size_t size)
{
#ifdef SYS_getdents
	if (way == 2)
		return syscall(SYS_getdents, fd, buf, size);
#endif
	return way == 1 ? syscall(SYS_getdents64, fd, buf, size) : getdents64(fd, buf, size);
}

static void raw(const char *path)
{
	static const char *const ways[] = { "getdents64", "syscall", "old" };
#ifdef SYS_getdents
	int count = 3;
#else
	int count = 2;
#endif
	for (int way = 0; way < count; way++) {
		char buf[40];
		int fd = open(path, O_RDONLY);
		printf("%s", ways[way]);
		for (long n; (n = list(way, fd, buf, sizeof buf)) > 0;)
			for (long at = 0; at < n; at += *(unsigned short *)(void *)(buf + at + 16))
				printf(" %s", buf + at + (way == 2 ? 18 : 19));
		putchar('\n');
		close(fd);
	}
}

static int spawn(const char *path)
{
	pid_t child;
	posix_spawn_file_actions_t actions;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addchdir_np(&actions, path);
	int r = posix_spawn(&child, "/bin/pwd", &actions, NULL, (char *[]){ (char *)"pwd", NULL }, environ);
	if (r == 0)
		waitpid(child, NULL, 0);
	printf("%d\n", r);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	if (strcmp(argv[1], "raw") == 0)
		return raw(argv[2]), 0;
	if (strcmp(argv[1], "spawn") == 0)
		return spawn(argv[2]);
	if (strcmp(argv[1], "plain") == 0) {
		nftw(argv[2], at_nftw, 9, FTW_PHYS);
		ftw(argv[2], at_ftw, 9);
		nftw(argv[2], at_nftw, 9, FTW_CHDIR | FTW_DEPTH);
		walk_fts(argv + 2, FTS_PHYSICAL, NULL, 1);
		walk_fts(argv + 2, FTS_LOGICAL, NULL, 1);
		walk_fts(argv + 2, FTS_PHYSICAL | FTS_NOCHDIR, backwards, 1);
		return 0;
	}
	static const int fds[] = { 0, 1, 2, 20 };
	for (stop = 0; stop < 2; stop++) {
		for (int t = 2; t < argc; t++)
			for (size_t d = 0; d < sizeof fds / sizeof *fds; d++) {
				for (int flags = 0; flags <= 64; flags++) {
					/* here glibc loses its way: it comes back from behind a link by ".." */
					if ((flags & (FTW_CHDIR | FTW_PHYS)) == FTW_CHDIR && fds[d] < 20)
						continue;
					actions = flags & FTW_ACTIONRETVAL;
					errno = 0;
					printf("-- nftw %s flags=%d descriptors=%d\n", argv[t], flags, fds[d]);
					int r = nftw(argv[t], at_nftw, fds[d], flags);
					printf("result=%d errno=%d cwd=%s\n", r, r == -1 ? errno : 0, where());
				}
				errno = 0;
				printf("-- ftw %s\n", argv[t]);
				int r = ftw(argv[t], at_ftw, fds[d]);
				printf("result=%d errno=%d\n", r, r == -1 ? errno : 0);
			}
		for (int options = 0; options <= 0x7f; options++)
			for (int more = 0; more < 4; more++)
				if (!(options & FTS_LOGICAL) != !(options & FTS_PHYSICAL))
					walk_fts(argv + 2, options, more & 1 ? backwards : NULL, more & 2);
	}
	walk_fts(argv + 2, 0x100, NULL, 0);
	return 0;
}
