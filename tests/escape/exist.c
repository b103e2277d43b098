/* Ways to learn that something is there: the runner compares the errno with that for a name that does not exist. */
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <utime.h>

#include "attempt.h"

#define E(call) ((call) < 0 ? errno : 0)
static int t_stat(const char *p) { struct stat s; return E(stat(p, &s)); }
static int t_lstat(const char *p) { struct stat s; return E(lstat(p, &s)); }
static int t_fstatat(const char *p) { struct stat s; return E(fstatat(AT_FDCWD, p, &s, 0)); }
static int t_sys_stat(const char *p) { char s[512]; return E(sys(SYS_stat, p, s)); }
static int t_sys_statx(const char *p) { char s[512]; return E(sys(SYS_statx, AT_FDCWD, p, 0, 1, s)); }
static int t_access(const char *p) { return E(access(p, F_OK)); }
static int t_sys_access(const char *p) { return E(sys(SYS_access, p, F_OK)); }
static int t_sys_faccessat2(const char *p) { return E(sys(SYS_faccessat2, AT_FDCWD, p, F_OK, 0)); }
static int t_readlink(const char *p) { char b[64]; return E(readlink(p, b, sizeof b)); }
static int t_chdir(const char *p) { return E(chdir(p)); }
static int t_sys_o_path(const char *p) { return E(sys(SYS_open, p, O_PATH)); }
static int t_sys_o_directory(const char *p) { return E(sys(SYS_open, p, O_DIRECTORY)); }
static int t_unlink(const char *p) { return E(unlink(p)); }
static int t_sys_unlink(const char *p) { return E(sys(SYS_unlink, p)); }
static int t_rmdir(const char *p) { return E(rmdir(p)); }
static int t_truncate(const char *p) { return E(truncate(p, 0)); }
static int t_chmod(const char *p) { return E(chmod(p, 0644)); }
static int t_utimes(const char *p) { return E(utimes(p, NULL)); }
static int t_exec(const char *p) { char *v[] = { "x", NULL }; return E(execv(p, v)); }
static int t_sys_exec(const char *p) { char *v[] = { "x", NULL }; return E(sys(SYS_execve, p, v, NULL)); }
static int t_getxattr(const char *p) { char b[64]; return E(getxattr(p, "user.x", b, sizeof b)); }
static int t_sys_lgetxattr(const char *p) { char b[64]; return E(sys(SYS_lgetxattr, p, "user.x", b, sizeof b)); }
static int t_statfs(const char *p) { struct statfs s; return E(statfs(p, &s)); }
static int t_inotify(const char *p) { return E(inotify_add_watch(inotify_init(), p, IN_ALL_EVENTS)); }
static int t_sys_inotify(const char *p) { return E(sys(SYS_inotify_add_watch, inotify_init(), p, IN_ALL_EVENTS)); }
static int t_link(const char *p) { return E(link(p, in("work/l"))); }
static int t_rename(const char *p) { return E(rename(p, in("work/r"))); }
static int t_mkdir(const char *p) { return E(mkdir(p, 0755)); }
static int t_sys_mkdir(const char *p) { return E(sys(SYS_mkdir, p, 0755)); }
static int t_symlink(const char *p) { return E(symlink("x", p)); }
static int t_mkfifo(const char *p) { return E(mkfifo(p, 0644)); }
static int t_create_excl(const char *p) { return E(open(p, O_CREAT | O_EXCL | O_WRONLY, 0644)); }
static int t_realpath(const char *p) { return realpath(p, NULL) ? 0 : errno; }
static int t_connect(const char *p)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	snprintf(a.sun_path, sizeof a.sun_path, "%s", p);
	return E(connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&a, sizeof a));
}
static int t_bind(const char *p)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	snprintf(a.sun_path, sizeof a.sun_path, "%s", p);
	return E(bind(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&a, sizeof a));
}
static int t_via_symlink(const char *p) { struct stat s; symlink(p, in("work/sl")); return E(stat(in("work/sl"), &s)); }

static int t_deep(const char *p)
{
	struct stat s;
	return E(stat(deep(p + strlen(base) + 1), &s));
}

/* What a file answers that is taken for a directory, and what is made in a place that may not be one. */
static const char *below(const char *p, const char *rest)
{
	static char path[1024];
	snprintf(path, sizeof path, "%s%s", p, rest);
	return path;
}

static int t_sys_creat_readonly(const char *p) { return E(sys(SYS_open, p, O_CREAT | O_RDONLY, 0644)); }
static int t_sys_creat_excl_readonly(const char *p) { return E(sys(SYS_open, p, O_CREAT | O_EXCL | O_RDONLY, 0644)); }
static int t_sys_tmpfile(const char *p) { return E(sys(SYS_open, p, O_TMPFILE | O_RDWR, 0644)); }
static int t_sys_slash(const char *p) { return E(sys(SYS_access, below(p, "/"), F_OK)); }
static int t_sys_slash_dot(const char *p) { return E(sys(SYS_open, below(p, "/."), O_RDONLY)); }
static int t_sys_slash_up(const char *p) { return E(sys(SYS_mkdir, below(p, "/../absent"), 0755)); }
static int t_sys_rename_slash(const char *p) { return sys(SYS_mkdir, in("work/d"), 0755) ? -1 : E(sys(SYS_rename, in("work/d"), below(p, "/"))); }
static int t_sys_make_below(const char *p) { return E(sys(SYS_mkdir, below(p, "/x"), 0755)); }
static int t_sys_creat_below(const char *p) { return E(sys(SYS_open, below(p, "/x"), O_CREAT | O_WRONLY, 0644)); }
static int t_sys_unlink_far_below(const char *p) { return E(sys(SYS_unlink, below(p, "/x/y"))); }
static int t_sys_make_far_below(const char *p) { return E(sys(SYS_mkdir, below(p, "/x/y"), 0755)); }

const struct attempt exist_attempts[] = {
	{ "stat", t_stat }, { "lstat", t_lstat }, { "fstatat", t_fstatat }, { "sys-stat", t_sys_stat }, { "sys-statx", t_sys_statx },
	{ "access", t_access }, { "sys-access", t_sys_access }, { "sys-faccessat2", t_sys_faccessat2 }, { "readlink", t_readlink },
	{ "chdir", t_chdir }, { "sys-o-path", t_sys_o_path }, { "sys-o-directory", t_sys_o_directory }, { "unlink", t_unlink },
	{ "sys-unlink", t_sys_unlink }, { "rmdir", t_rmdir }, { "truncate", t_truncate }, { "chmod", t_chmod }, { "utimes", t_utimes },
	{ "exec", t_exec }, { "sys-exec", t_sys_exec }, { "getxattr", t_getxattr }, { "sys-lgetxattr", t_sys_lgetxattr },
	{ "statfs", t_statfs }, { "inotify", t_inotify }, { "sys-inotify", t_sys_inotify }, { "link", t_link }, { "rename", t_rename },
	{ "mkdir", t_mkdir }, { "sys-mkdir", t_sys_mkdir }, { "symlink", t_symlink }, { "mkfifo", t_mkfifo },
	{ "create-excl", t_create_excl }, { "realpath", t_realpath }, { "connect", t_connect }, { "bind", t_bind },
	{ "via-symlink", t_via_symlink }, { "deep", t_deep },
	{ "sys-creat-readonly", t_sys_creat_readonly }, { "sys-creat-excl-readonly", t_sys_creat_excl_readonly },
	{ "sys-tmpfile", t_sys_tmpfile }, { "sys-slash", t_sys_slash }, { "sys-slash-dot", t_sys_slash_dot },
	{ "sys-slash-up", t_sys_slash_up }, { "sys-rename-slash", t_sys_rename_slash }, { "sys-make-below", t_sys_make_below },
	{ "sys-creat-below", t_sys_creat_below }, { "sys-unlink-far-below", t_sys_unlink_far_below },
	{ "sys-make-far-below", t_sys_make_far_below }, { NULL, NULL },
};
