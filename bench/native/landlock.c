/*
 * A bare Landlock launcher, the cheapest fence there is: read everything,
 * write only below the directories given before "--". The yardstick for ours.
 *
 * usage: landlock DIR ... -- COMMAND [ARG ...]
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The rights of the third version of the interface: every write, rename across directories and truncation. */
#define WRITES                                                                                               \
	(LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |    \
	 LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |          \
	 LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK |       \
	 LANDLOCK_ACCESS_FS_MAKE_SYM | 1ULL << 13 /* refer */ | 1ULL << 14 /* truncate */)

static int fail(const char *what)
{
	perror(what);
	return 125;
}

int main(int argc, char **argv)
{
	struct landlock_ruleset_attr attr = { .handled_access_fs = WRITES };
	int ruleset = syscall(SYS_landlock_create_ruleset, &attr, sizeof attr, 0);
	int i = 1;

	if (ruleset < 0)
		return fail("landlock_create_ruleset");
	for (; i < argc && strcmp(argv[i], "--"); i++) {
		struct landlock_path_beneath_attr rule = { .allowed_access = WRITES };

		rule.parent_fd = open(argv[i], O_PATH | O_CLOEXEC);
		if (rule.parent_fd < 0)
			return fail(argv[i]);
		if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0))
			return fail("landlock_add_rule");
		close(rule.parent_fd);
	}
	if (i + 1 >= argc)
		return fprintf(stderr, "usage: landlock DIR ... -- COMMAND [ARG ...]\n"), 125;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || syscall(SYS_landlock_restrict_self, ruleset, 0))
		return fail("landlock_restrict_self");
	close(ruleset);
	execvp(argv[i + 1], argv + i + 1);
	return fail(argv[i + 1]);
}
