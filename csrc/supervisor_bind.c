/*
 * bind(2). The name of a socket is what the program wrote, for everybody who asks: so it cannot be made on a directory that
 * we hold. It is made in the program's place all the same, from a copy of the address, in a thread that is where the
 * program is and behind the session's fence; what else exchanges something on the way, another process with its links,
 * shows in that the outcome does not fit the directory that was judged.
 */
#include <linux/openat2.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>

#include "fence_linux.h"
#include "supervisor_answer.h"

struct place {
	const struct pt_task *task;
	const struct pt_address *address;
	int socket, error;
	bool named;
};

static int bind_here(const struct place *p)
{
	char path[4096];
	if (p->named) {
		snprintf(path, sizeof path, "/proc/%d/cwd", (int)p->task->pid);
		if (unshare(CLONE_FS) || (((const struct sockaddr_un *)&p->address->text)->sun_path[0] != '/' && chdir(path)))
			return EACCES;
		pt_take_umask(p->task);
		snprintf(path, sizeof path, "%s/fence", p->task->sup->dir);
		if (access(path, F_OK) == 0 && pt_fence_raise_file(path, false))
			return EACCES;
	}
	return bind(p->socket, (const struct sockaddr *)&p->address->text, p->address->size) ? errno : 0;
}

static void *binds(void *argument)
{
	struct place *p = argument;
	p->error = bind_here(p);
	return NULL;
}

/* Where a thread stands, and its fence, are its own: one for each name. */
static int bind_apart(struct place *p)
{
	pthread_attr_t attr;
	pthread_t thread;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 64 * 1024);
	if (pthread_create(&thread, &attr, binds, p))
		return EAGAIN;
	pthread_join(thread, NULL);
	return p->error;
}

/* The directory that was judged, where the socket's name (`last`) is made. -errno, or AGAIN. */
static int directory_of(struct pt_task *t, char **last)
{
	struct open_how how = { .flags = O_PATH | O_DIRECTORY | O_CLOEXEC, .resolve = starts(t->at.real, "/proc") ? 0 : RESOLVE_NO_SYMLINKS };
	char *slash = strrchr(t->at.real, '/');
	if (!slash)
		return -EACCES;
	*slash = 0;
	long fd = pt_target_openat2(slash == t->at.real ? "/" : t->at.real, &how);
	int error = errno;
	*slash = '/';
	*last = slash + 1;
	return fd >= 0 ? (int)fd : error == ELOOP ? AGAIN : -error;
}

/* Is that what the directory has to say to a name that is to be made in it? */
static bool fits(int directory, int error, bool there)
{
	if ((error == EADDRINUSE) != there)
		return false;
	if (error != EACCES && error != EPERM && error != ENOENT && error != ENOTDIR && error != ELOOP && error != EROFS)
		return true;
	return faccessat(directory, ".", W_OK | X_OK, AT_EACCESS) && errno == error;
}

static int bind_named(struct pt_task *t, struct place *p)
{
	char *name;
	struct stat st;
	int error = pt_task_resolve_text(t, AT_FDCWD, t->asked, strlen(t->asked), PT_RES_CREATE | PT_RES_NOFOLLOW_LAST);
	t->access = PT_ACC_CREATE;
	t->last_link = true;
	if (!error)
		error = pt_task_judge(t, 0);
	if (error)
		return error == EEXIST ? EADDRINUSE : error;
	int directory = directory_of(t, &name);
	if (directory < 0)
		return directory == AGAIN ? AGAIN : -directory;
	bool there = fstatat(directory, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
	error = bind_apart(p);
	if (error)
		error = error == EAGAIN || fits(directory, error, there) ? error : AGAIN;
	else if (fstatat(directory, name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISSOCK(st.st_mode))
		kill(t->pid, SIGKILL); /* it has come to lie elsewhere, and the program would know by that what is there */
	close(directory);
	return error;
}

int pt_answer_bind(struct pt_task *t, int number, uint64_t at, uint64_t size)
{
	struct pt_address a;
	struct place p = { .task = t, .address = &a };
	int domain = 0, error;
	socklen_t length = sizeof domain;
	if (t->sup->flags & PT_IMG_AUDIT)
		return GO_ON;
	p.socket = pt_target_fd(t->pid, number);
	if (p.socket < 0)
		return p.socket == -EPERM ? EACCES : EBADF;
	error = getsockopt(p.socket, SOL_SOCKET, SO_DOMAIN, &domain, &length) ? errno : pt_read_address(t, at, size, &a);
	p.named = !error && domain == AF_UNIX && a.named;
	if (!error && !p.named)
		error = bind_here(&p);
	for (int tries = 0; p.named && tries < TRIES; tries++) {
		error = bind_named(t, &p);
		if (error != AGAIN)
			break;
	}
	close(p.socket);
	return error == AGAIN ? ELOOP : error ? error : DONE;
}
