/* Who may be supervised in a session: its build user, whose writing into the session's report is nobody's harm but its own. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "supervisor.h"

uid_t pt_session_owner(const char *dir)
{
	char path[4096];
	struct stat st;
	snprintf(path, sizeof path, "%s/events", dir);
	return lstat(path, &st) == 0 && S_ISREG(st.st_mode) ? st.st_uid : geteuid();
}

static pid_t parent_of(pid_t pid)
{
	char path[64], text[1024];
	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	FILE *file = fopen(path, "re");
	size_t n = file ? fread(text, 1, sizeof text - 1, file) : 0;
	if (file)
		fclose(file);
	text[n] = 0;
	int parent = 0;
	const char *rest = strrchr(text, ')'); /* proc(5): the name may hold anything */
	return rest && sscanf(rest + 1, " %*c %d", &parent) == 1 ? parent : 0;
}

/*
 * A build of root's may become whoever it wants, and is known by whose descendant it is: of the process that started us,
 * which adopts its orphans. Any other build can only be its user.
 */
bool pt_may_join(uid_t owner, uid_t uid, pid_t pid)
{
	if (uid == owner || uid == 0)
		return true;
	if (owner != 0)
		return false;
	pid_t host = getppid();
	for (int depth = 0; host > 1 && pid > 1 && depth < 10000; depth++, pid = parent_of(pid))
		if (pid == host)
			return true;
	return false;
}
