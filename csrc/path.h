/*
 * From the path that a program gave to the one that counts: "." and "..",
 * doubled and trailing slashes, symlinks in every component, links of /proc
 * that name files (root, cwd, fd/N, exe), redirects.
 *
 * All file system access goes through struct pt_fs, so that tests can run the
 * resolver over a made-up tree and compare it with a slow oracle. No malloc:
 * the caller lends the buffers.
 */
#ifndef PORTTRACE_PATH_H
#define PORTTRACE_PATH_H

#include <sys/types.h>

#include "policy.h"

struct pt_fs {
	void *user;
	/* readlink(2) semantics on a physical absolute path: length, or -errno (EINVAL: no link, ENOENT, ENOTDIR, …). */
	ssize_t (*readlink)(void *user, const char *path, char *buf, size_t size);
	/*
	 * 0 when something exists at the physical path (no link followed), else -errno. The path may end in "/"
	 * (is it a directory?) or "/." (may it be searched as well?): what lstat(2) answers.
	 */
	int (*exists)(void *user, const char *path);
};

enum pt_resolve_flag {
	PT_RES_NOFOLLOW_LAST = 1u << 0, /* the last component's own link is meant (lstat, unlink, …) */
	PT_RES_CREATE = 1u << 1,        /* the last component may be missing */
	PT_RES_ENTRY = 1u << 2,         /* the entry as such is meant, also with a slash behind it (mkdir, rmdir, unlink, rename) */
};

#define PT_PATH_CAP 16384        /* longest path handled; the kernel's own limit per call is 4096, dirfds reach further */

struct pt_resolved {
	int error;                 /* 0, or the errno with which the kernel (or the policy, ENOENT for a hidden link) stops the walk */
	bool slash;                /* the path ended in '/': the last component must be a directory */
	bool up;                   /* the walk ended before a "..": where the path would have led is not known */
	bool hidden;               /* error comes from the policy: the component in `real` is hidden, the rest is left out */
	char *real;                /* virtual real path: what rules and reports speak of */
	size_t real_len;
	char *physical;            /* what the kernel is to be given; where the image has no redirects the pointer is set to `real` */
	size_t physical_len;
	struct pt_verdict read;    /* read-map verdict of the real path */
};

/*
 * Lexical clean-up only: joins nothing, follows nothing. Returns true when
 * `path` is absolute and already clean (no "//", "/./", "/../", no trailing slash).
 */
bool pt_path_is_clean(const char *path, size_t len);

/*
 * Resolve absolute `path` (joined with the working or dirfd's directory by the caller).
 * `out->real` and `out->physical` must point to buffers of PT_PATH_CAP bytes; `scratch` likewise.
 * A loop or more than 40 links is ELOOP, a longer path ENAMETOOLONG, as in the kernel. With another error `real` is
 * the path up to where the walk stopped and the rest as it was given. A path that leads into a redirect is looked
 * up at the target, and with a fallback rule in its own place where the target lacks it; links found there are
 * followed in the program's view. A link of /proc that leads to no path (a pipe, a deleted file) is its own real path.
 * An image of NULL stands for no policy.
 */
void pt_resolve(const struct pt_image *, const struct pt_fs *, const char *path, size_t len, unsigned flags,
		char *scratch, struct pt_resolved *out);

/* Is this the name of such a link of /proc? */
bool pt_leads_to_object(const char *path);

/* Is this text of such a link, to what has no path (any more), the former name of a file that may not be read? */
bool pt_was_hidden(const struct pt_image *, const char *text, size_t len);

#endif
