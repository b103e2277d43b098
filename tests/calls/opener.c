/* opener open|close|remove|replace COMMAND...: opens its session's events past the library, does that to them, and starts
 * COMMAND with them as descriptor 9. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	char name[4096], *end;
	snprintf(name, sizeof name, "%s", getenv("LD_PRELOAD"));
	if (argc < 3 || !(end = strrchr(name, '/')))
		return 99;
	strcpy(end, "/events");
	int fd = open(name, O_RDWR);
	if (fd < 0 || dup2(fd, 9) != 9)
		return 98;
	if (!strcmp(argv[1], "close") && chmod(name, 0))
		return 97;
	if (!strcmp(argv[1], "remove") && unlink(name))
		return 96;
	if (!strcmp(argv[1], "replace") && (unlink(name) || open(name, O_RDWR | O_CREAT, 0600) < 0))
		return 95;
	execv(argv[2], argv + 2);
	return 94;
}
