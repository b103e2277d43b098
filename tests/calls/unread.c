/*
 * unread WAY TOP: files go from one place to the other, or get a name there. TOP/writeonly, which may be changed and not read,
 * has `secret`, TOP/seen has `plain`; each way begins with a letter: o out of the first, i into it, w within it. Prints 0 or the errno.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char secret[2000], plain[2000], inside[2000], outside[2000], number[64];
static int top;

static int opened(const char *path, int flags)
{
	int fd = open(path, flags, 0600);
	if (fd < 0) {
		printf("cannot open: %d\n", errno);
		exit(1);
	}
	snprintf(number, sizeof number, "/proc/self/fd/%d", fd);
	return fd;
}

static int follow(const char *to) { return linkat(AT_FDCWD, number, AT_FDCWD, to, AT_SYMLINK_FOLLOW); }
static int made(const char *in, const char *to) { return opened(in, O_TMPFILE | O_WRONLY), follow(to); }
static int o_link(void) { return link(secret, outside); }
static int o_linkat(void) { return linkat(top, "writeonly/secret", top, "seen/outside", 0); }
static int o_linkat_followed(void)
{
	char there[2100];
	snprintf(there, sizeof there, "%s.link", outside);
	return symlink(secret, there) || linkat(AT_FDCWD, there, AT_FDCWD, outside, AT_SYMLINK_FOLLOW) ? -1 : 0;
}
static int o_linkat_number(void) { return opened(secret, O_WRONLY), follow(outside); }
static int o_linkat_empty(void) { return linkat(opened(secret, O_WRONLY), "", AT_FDCWD, outside, AT_EMPTY_PATH); }
static int o_rename(void) { return rename(secret, outside); }
static int o_renameat(void) { return renameat(top, "writeonly/secret", AT_FDCWD, outside); }
static int o_renameat2(void) { return renameat2(AT_FDCWD, secret, top, "seen/outside", RENAME_NOREPLACE); }
static int o_exchange(void) { return renameat2(AT_FDCWD, secret, AT_FDCWD, plain, RENAME_EXCHANGE); }
static int o_exchange_back(void) { return renameat2(AT_FDCWD, plain, AT_FDCWD, secret, RENAME_EXCHANGE); }
static int o_directory(void)
{
	char sub[2100];
	snprintf(sub, sizeof sub, "%s.d", inside);
	return mkdir(sub, 0700) || rename(sub, outside) ? -1 : 0;
}
static int o_made(void) { return made(secret, outside); }
static int i_link(void) { return link(plain, inside); }
static int i_rename(void) { return rename(plain, inside); }
static int i_rename_over(void) { return rename(plain, secret); }
static int w_link(void) { return link(secret, inside); }
static int w_linkat_number(void) { return opened(secret, O_WRONLY), follow(inside); }
static int w_rename(void) { return rename(secret, inside); }
static int w_exchange(void) { return link(plain, inside) || renameat2(AT_FDCWD, secret, top, "writeonly/inside", RENAME_EXCHANGE) ? -1 : 0; }
static int w_made(void) { return made(secret, inside); }

#define WAY(name) { #name, name }
static const struct { const char *name; int (*call)(void); } ways[] = {
	WAY(o_link), WAY(o_linkat), WAY(o_linkat_followed), WAY(o_linkat_number), WAY(o_linkat_empty), WAY(o_rename), WAY(o_renameat),
	WAY(o_renameat2), WAY(o_exchange), WAY(o_exchange_back), WAY(o_directory), WAY(o_made), WAY(i_link), WAY(i_rename), WAY(i_rename_over),
	WAY(w_link), WAY(w_linkat_number), WAY(w_rename), WAY(w_exchange), WAY(w_made),
};

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	bool made = !strcmp(argv[1] + 1, "_made"); /* files without a name are made in a directory */
	snprintf(secret, sizeof secret, "%s/writeonly%s", argv[2], made ? "" : "/secret");
	snprintf(inside, sizeof inside, "%s/writeonly/inside", argv[2]);
	snprintf(plain, sizeof plain, "%s/seen/plain", argv[2]);
	snprintf(outside, sizeof outside, "%s/seen/outside", argv[2]);
	top = open(argv[2], O_PATH | O_DIRECTORY);
	for (unsigned i = 0; i < sizeof ways / sizeof *ways; i++)
		if (!strcmp(ways[i].name, argv[1])) {
			printf("%d\n", ways[i].call() ? errno : 0);
			return 0;
		}
	return 2;
}
