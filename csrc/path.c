/*
 * The walk from a given path to the real one.
 *
 * Two texts are held: `real`, what has been walked so far (virtual, free of
 * links), and the rest that is still to be walked, at the end of `scratch`. A
 * link's text is read into the free space before the rest and moved up to it,
 * so that no further buffer is needed.
 */
#include "bytes.h"
#include "path.h"

#include <errno.h>

#define MAX_LINKS 40 /* as in the kernel */

bool pt_path_is_clean(const char *path, size_t len)
{
	size_t i;

	if (!len || path[0] != '/')
		return false;
	if (len == 1)
		return true;
	for (i = 0; i < len; i++) {
		size_t left = len - i - 1; /* bytes behind this one */

		if (path[i] != '/')
			continue;
		if (!left || path[i + 1] == '/')
			return false;
		if (path[i + 1] == '.' && (left == 1 || path[i + 2] == '/'))
			return false;
		if (path[i + 1] == '.' && path[i + 2] == '.' && (left == 2 || path[i + 3] == '/'))
			return false;
	}
	return true;
}

struct walk {
	const struct pt_image *image; /* NULL: no policy, only links */
	const struct pt_fs *fs;
	struct pt_resolved *out;
	uint32_t image_flags;
};

static bool redirects(const struct walk *w)
{
	return w->image_flags & PT_IMG_REDIRECTS;
}

static struct pt_verdict judge(const struct walk *w, size_t len)
{
	struct pt_verdict free_for_all = {PT_ALLOW, 0, 0, PT_NO_RULE, PT_NO_PORT};

	if (!w->image)
		return free_for_all;
	return len ? pt_decide(w->image, PT_READ, w->out->real, len) : pt_decide(w->image, PT_READ, "/", 1);
}

/* Nobody's files in the ask area are refused, if at all, once it is known that they are no directories. */
static bool is_hidden(const struct walk *w, const struct pt_verdict *v)
{
	return v->action == PT_DENY && !(v->flags & PT_V_BELOW) && !(w->image_flags & PT_IMG_AUDIT) &&
	       (v->flags & (PT_V_ASKED | PT_V_UNOWNED)) != (PT_V_ASKED | PT_V_UNOWNED);
}

/* A link as such. One that nobody owns is passed through on the way to a directory, and where it is the ask area's own top. */
static bool is_hidden_link(const struct walk *w, const struct pt_verdict *v, bool last)
{
	struct pt_rule_view r;

	if (is_hidden(w, v))
		return true;
	return last && v->action == PT_DENY && !(v->flags & PT_V_BELOW) && !(w->image_flags & PT_IMG_AUDIT) &&
	       pt_image_rule(w->image, v->rule, &r) && r.path_len != w->out->real_len;
}

/* Sets `physical` for what `real` holds. The root directory is the empty text in `real`. */
static bool place(struct walk *w, struct pt_verdict *v)
{
	struct pt_resolved *o = w->out;

	if (!redirects(w)) {
		o->physical = o->real;
		o->physical_len = o->real_len;
		return true;
	}
	*v = judge(w, o->real_len);
	if (v->action == PT_REDIRECT) {
		o->physical_len = o->real_len ? pt_redirect(w->image, v->rule, o->real, o->real_len, o->physical, PT_PATH_CAP)
					      : pt_redirect(w->image, v->rule, "/", 1, o->physical, PT_PATH_CAP);
		if (!o->physical_len)
			o->physical[0] = '\0';
		return o->physical_len != 0;
	}
	memcpy(o->physical, o->real, o->real_len + 1);
	o->physical_len = o->real_len;
	return true;
}

/* Gives the physical path back its own name when the redirect's target lacks it. */
static bool fall_back(struct walk *w, const struct pt_verdict *v, long error)
{
	if (!redirects(w) || v->action != PT_REDIRECT || !(v->flags & PT_V_FALLBACK) || (error != -ENOENT && error != -ENOTDIR))
		return false;
	memcpy(w->out->physical, w->out->real, w->out->real_len + 1);
	w->out->physical_len = w->out->real_len;
	return true;
}

/* readlink of the place that `real` stands for; leaves `physical` there. */
static ssize_t read_link(struct walk *w, char *buf, size_t size)
{
	struct pt_verdict v;
	ssize_t n, m;

	if (!place(w, &v))
		return -ENAMETOOLONG;
	n = w->fs->readlink(w->fs->user, w->out->physical, buf, size);
	if (n < 0 && fall_back(w, &v, n)) {
		m = w->fs->readlink(w->fs->user, w->out->physical, buf, size);
		if (m >= 0 || m == -EINVAL)
			return m;
		if (!place(w, &v)) /* neither has it: the target is where it would be made */
			return -ENAMETOOLONG;
	}
	return n;
}

/* 0, or -errno of passing through `real` as a directory; `suffix` is "/" (is one) or "/." (and may be searched). */
static int enter(struct walk *w, const char *suffix)
{
	struct pt_resolved *o = w->out;
	struct pt_verdict v;
	size_t n = strlen(suffix);
	int error, second;

	if (!*suffix && !redirects(w))
		return place(w, &v) ? 0 : -ENAMETOOLONG;
	if (!place(w, &v) || o->physical_len + n >= PT_PATH_CAP)
		return -ENAMETOOLONG;
	memcpy(o->physical + o->physical_len, suffix, n + 1);
	error = w->fs->exists(w->fs->user, o->physical);
	o->physical[o->physical_len] = '\0';
	/* where the target has something that is no directory, that is the answer */
	if (error && *suffix && w->fs->exists(w->fs->user, o->physical) == 0)
		return error;
	if (error && fall_back(w, &v, error) && o->physical_len + n < PT_PATH_CAP) {
		memcpy(o->physical + o->physical_len, suffix, n + 1);
		second = w->fs->exists(w->fs->user, o->physical);
		o->physical[o->physical_len] = '\0';
		if (second != -ENOENT)
			return second;
		place(w, &v);
	}
	return error;
}

static void shorten(struct pt_resolved *o)
{
	while (o->real_len && o->real[o->real_len - 1] != '/')
		o->real_len--;
	if (o->real_len)
		o->real_len--;
	o->real[o->real_len] = '\0';
}

static bool lengthen(struct pt_resolved *o, const char *name, size_t len)
{
	if (o->real_len + 1 + len >= PT_PATH_CAP)
		return false;
	o->real[o->real_len++] = '/';
	memcpy(o->real + o->real_len, name, len);
	o->real_len += len;
	o->real[o->real_len] = '\0';
	return true;
}

static bool is(const char *name, size_t len, const char *word)
{
	return len == strlen(word) && memcmp(name, word, len) == 0;
}

/* The next component, of `size` bytes (0: there is none more); `rest` is moved behind it. */
static const char *component(const char **rest, const char *end, size_t *size)
{
	const char *name;

	while (*rest < end && **rest == '/')
		(*rest)++;
	for (name = *rest; *rest < end && **rest != '/'; (*rest)++)
		;
	*size = (size_t)(*rest - name);
	return name;
}

static bool goes_up(const char *rest, const char *end)
{
	const char *name;
	size_t size;

	while (name = component(&rest, end, &size), size)
		if (is(name, size, ".."))
			return true;
	return false;
}

/* The walk has ended early: the rest is appended as it stands, so that reports can name the whole path. */
static void append_rest(struct pt_resolved *o, const char *rest, const char *end)
{
	const char *name;
	size_t size;

	while (name = component(&rest, end, &size), size)
		if (is(name, size, ".."))
			shorten(o);
		else if (!is(name, size, ".") && !lengthen(o, name, size))
			return;
}

static const char *digits(const char *p)
{
	const char *start = p;

	while (*p >= '0' && *p <= '9')
		p++;
	return p > start ? p : NULL;
}

/* Links of /proc that lead to an object, whatever their text says: /proc/N[/task/N]/{cwd,root,exe,fd/N,map_files/X,ns/X}. */
bool pt_leads_to_object(const char *p)
{
	const char *q;

	if (strncmp(p, "/proc/", 6) != 0 || !(p = digits(p + 6)))
		return false;
	if (strncmp(p, "/task/", 6) == 0 && (q = digits(p + 6)))
		p = q;
	return strcmp(p, "/cwd") == 0 || strcmp(p, "/root") == 0 || strcmp(p, "/exe") == 0 || strncmp(p, "/fd/", 4) == 0 ||
	       strncmp(p, "/map_files/", 11) == 0 || strncmp(p, "/ns/", 4) == 0;
}

/*
 * Files that only the kernel has lie directly below the root by their names ("/memfd:x", "/SYSV00000000", "/[aio]"), or are
 * shared memory.
 */
bool pt_was_hidden(const struct pt_image *image, const char *text, size_t len)
{
	static const char gone[] = " (deleted)";
	const size_t n = sizeof gone - 1;

	if (*text != '/' || (pt_image_flags(image) & PT_IMG_AUDIT))
		return false;
	if (len > n && !memcmp(text + len - n, gone, n))
		len -= n;
	if (!memchr(text + 1, '/', len - 1) || (len == 9 && !memcmp(text, "/dev/zero", 9)))
		return false;
	struct pt_verdict v = pt_decide(image, PT_READ, text, len);
	return v.action == PT_DENY && !(v.flags & PT_V_BELOW);
}

static void finish(struct walk *w)
{
	struct pt_resolved *o = w->out;
	struct pt_verdict v;

	if (!o->real_len) {
		/* the kernel and the reports want the root directory by name */
		o->real[0] = '/';
		o->real[1] = '\0';
		o->real_len = 1;
		if (!place(w, &v))
			o->error = ENAMETOOLONG;
	}
	o->read = judge(w, o->real_len);
}

/* Ends a walk with an error. A hidden directory must not show by another error than a missing one's. */
static void stop(struct walk *w, int error, const char *rest, const char *end)
{
	struct pt_resolved *o = w->out;
	struct pt_verdict v;
	size_t whole = o->real_len;
	char mark;

	o->error = error;
	o->up = o->up || goes_up(rest, end);
	if (error != ENOENT && whole) {
		/* look at the directory that holds the component without losing the component */
		while (o->real_len && o->real[o->real_len - 1] != '/')
			o->real_len--;
		if (o->real_len)
			o->real_len--;
		mark = o->real[o->real_len];
		o->real[o->real_len] = '\0';
		v = judge(w, o->real_len);
		if (o->real_len && is_hidden(w, &v)) {
			o->error = ENOENT;
			o->hidden = true;
		} else {
			o->real[o->real_len] = mark;
			o->real_len = whole;
		}
	}
	if (!o->hidden)
		append_rest(o, rest, end);
	if (o->real_len)
		place(w, &v);
	finish(w);
}

static void stop_hidden(struct walk *w)
{
	w->out->hidden = true;
	stop(w, ENOENT, NULL, NULL);
}

void pt_resolve(const struct pt_image *image, const struct pt_fs *fs, const char *path, size_t len, unsigned flags,
		char *scratch, struct pt_resolved *o)
{
	struct walk w = {image, fs, o, image ? pt_image_flags(image) : 0};
	char *const end = scratch + PT_PATH_CAP;
	char *rest = end - len;
	bool directory = true; /* `real` is known to be one */
	bool placed = false;   /* `physical` belongs to `real` */
	bool last = false, dot = false, missing = false;
	int links = 0;
	struct pt_verdict v;

	o->error = 0;
	o->slash = o->up = o->hidden = false;
	o->real_len = o->physical_len = 0;
	o->real[0] = '\0';
	if (!redirects(&w))
		o->physical = o->real;
	o->physical[0] = '\0';
	if (!len || len >= PT_PATH_CAP) {
		stop(&w, len ? ENAMETOOLONG : ENOENT, NULL, NULL);
		return;
	}
	memcpy(rest, path, len);
	for (;;) {
		char *name, *after;
		size_t size;
		ssize_t n;
		bool trailing, follow;

		while (rest < end && *rest == '/')
			rest++;
		if (rest == end)
			break;
		for (name = rest; rest < end && *rest != '/'; rest++)
			;
		size = (size_t)(rest - name);
		for (after = rest; after < end && *after == '/'; after++)
			;
		trailing = rest < end;
		last = after == end;
		if (is(name, size, ".")) {
			if (last)
				o->slash = dot = true;
			continue;
		}
		if (is(name, size, "..")) {
			if (last)
				o->slash = true;
			if (!directory) {
				int error = 0;

				v = judge(&w, o->real_len);
				if (!is_hidden(&w, &v) || w.image_flags & PT_IMG_DIRS_VISIBLE)
					error = enter(&w, "/.");
				if (is_hidden(&w, &v) && (error || !(w.image_flags & PT_IMG_DIRS_VISIBLE))) {
					o->up = true;
					stop_hidden(&w);
					return;
				}
				if (error) {
					stop(&w, -error, name, end);
					return;
				}
			}
			shorten(o);
			directory = true;
			placed = false;
			continue;
		}
		if (!lengthen(o, name, size)) {
			stop(&w, ENAMETOOLONG, NULL, NULL);
			return;
		}
		if (last && trailing)
			o->slash = true;
		follow = !last || !(flags & (PT_RES_NOFOLLOW_LAST | PT_RES_ENTRY)) || (trailing && !(flags & PT_RES_ENTRY));
		n = read_link(&w, scratch, (size_t)(rest - scratch));
		if (n == -EINVAL) {
			directory = false;
			placed = true;
			continue;
		}
		if (n == -ENOENT && last) {
			missing = true;
			break;
		}
		if (n < 0) {
			stop(&w, (int)-n, rest, end);
			return;
		}
		if (!follow) {
			directory = placed = true; /* nothing more is asked of it here; the caller judges it like any file */
			break;
		}
		v = judge(&w, o->real_len);
		if (is_hidden_link(&w, &v, last)) {
			stop_hidden(&w);
			return;
		}
		if (++links > MAX_LINKS) {
			stop(&w, ELOOP, rest, end);
			return;
		}
		if (n == 0) {
			stop(&w, ENOENT, rest, end);
			return;
		}
		if (n >= rest - scratch) {
			stop(&w, ENAMETOOLONG, rest, end);
			return;
		}
		if (pt_leads_to_object(o->real)) {
			bool object = *scratch != '/';

			if (!object) {
				scratch[n] = '\0';
				object = fs->exists(fs->user, scratch) != 0;
			}
			if (object) {
				/* a pipe, a deleted file …: no path leads to it but this one */
				if (image && pt_was_hidden(image, scratch, (size_t)n)) {
					stop_hidden(&w);
					return;
				}
				if (!last) {
					stop(&w, *scratch == '/' ? ENOENT : ENOTDIR, rest, end);
					return;
				}
				directory = false;
				placed = true;
				continue;
			}
			if (redirects(&w)) {
				size_t m = pt_unredirect(image, scratch, (size_t)n, o->physical, PT_PATH_CAP);

				if (m && m < (size_t)(rest - scratch)) {
					memcpy(scratch, o->physical, m);
					n = (ssize_t)m;
				}
			}
		}
		memmove(rest - n, scratch, (size_t)n);
		rest -= n;
		if (*rest == '/') {
			o->real_len = 0;
			o->real[0] = '\0';
		} else {
			shorten(o);
		}
		directory = true;
		placed = false;
		o->slash = dot = false; /* asked again of what the link leads to */
	}
	if (missing) {
		if (!(flags & PT_RES_CREATE))
			o->error = ENOENT;
	} else if (o->slash && !directory) {
		int error = enter(&w, dot ? "/." : "/");

		if (error == -ENOTDIR) {
			v = judge(&w, o->real_len);
			/* what is asked for as a directory must not show that it is a file: as it would be if it were missing */
			if (is_hidden(&w, &v) && !dot && (flags & PT_RES_CREATE)) {
				error = 0;
			} else if (is_hidden(&w, &v)) {
				stop_hidden(&w);
				return;
			}
		}
		if (error) {
			stop(&w, -error, NULL, NULL);
			return;
		}
	} else if (o->real_len && !placed && enter(&w, "") == -ENAMETOOLONG) {
		o->error = ENAMETOOLONG; /* the name to use had to be found again, and may be the fallback's */
	}
	finish(&w);
}
