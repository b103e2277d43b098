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

bool pt_in_session(pid_t pid)
{
	pid_t host = getppid(), process;
	for (int depth = 0; host > 1 && pid > 1 && depth < 10000; depth++, pt_target_ids(pid, &process, &pid))
		if (pid == host)
			return true;
	return false;
}

/*
 * A build of root's may become whoever it wants, and is known by whose descendant it is: of the process that started us,
 * which adopts its orphans. Any other build can only be its user.
 */
bool pt_may_join(uid_t owner, uid_t uid, pid_t pid)
{
	return uid == owner || uid == 0 || (owner == 0 && pt_in_session(pid));
}
