/*
 * What lies below a directory that gets another name. Whose a file of the ask area is is asked by its name: by another one it
 * would be nobody's, and be seen.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "supervisor_answer.h"

#define DEEPEST 256            /* each level keeps a descriptor; what lies deeper is not known, and not let through */

/* `t->full` has the `len` bytes of the directory's path; `fd` is given up. */
static bool holds(struct pt_task *t, int fd, size_t len, int depth)
{
	DIR *dir = depth < DEEPEST ? fdopendir(fd) : NULL;
	bool found = !dir;
	if (!dir)
		close(fd);
	for (struct dirent *entry; !found && (entry = readdir(dir));) {
		size_t n = strlen(entry->d_name);
		if (entry->d_name[0] == '.' && (n == 1 || (n == 2 && entry->d_name[1] == '.')))
			continue;
		struct stat st;
		found = len + n + 2 > PT_PATH_CAP || fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW);
		if (found)
			break;
		t->full[len] = '/';
		memcpy(t->full + len + 1, entry->d_name, n + 1);
		if (S_ISDIR(st.st_mode)) {
			int below = openat(fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
			found = below < 0 || holds(t, below, len + 1 + n, depth + 1);
			continue;
		}
		struct pt_verdict v = pt_decide(t->sup->image, PT_READ, t->full, len + 1 + n);
		pt_task_ask_live(t, PT_READ, t->full, len + 1 + n, &v);
		found = v.action == PT_DENY && v.flags & (PT_V_ASKED | PT_V_LIVE);
	}
	if (dir)
		closedir(dir);
	return found;
}

bool pt_holds_hidden(struct pt_task *t, struct pt_verdict read)
{
	if (!(read.flags & (PT_V_ASKED | PT_V_LIVE)) || (t->sup->flags & PT_IMG_AUDIT))
		return false;
	int fd = open(t->at.physical, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno != ENOTDIR && errno != ELOOP;
	memcpy(t->full, t->at.real, t->at.real_len);
	return holds(t, fd, t->at.real_len, 0);
}
