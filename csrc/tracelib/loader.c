/*
 * What the loader finds by itself. It looks for libraries by system calls of its own, past every wrapper: in the
 * directories of RUNPATH and LD_LIBRARY_PATH, in its cache (on Debian /usr/local/lib stands first there), in its own places. Where
 * that leads to a library that is hidden, the process goes to the supervisor, which hides it from the loader as well;
 * the loader then goes on to the next place, or says in its own words that there is none.
 */
#include <dlfcn.h>
#include <link.h>

#include "exec.h"
#include "headers.h"
#include "supervise_linux.h"

static bool is_system(const char *dir)
{
	return !strncmp(dir, "/lib", 4) || !strncmp(dir, "/usr/lib", 8);
}

#ifdef __GLIBC__
#define NO_LIBRARY "/nonexistent/hidden"

/* ---- dlopen of a name without a slash ---- */

struct search {
	const char *name;
	size_t len;
	struct pt_slab *slab;
	bool hidden;                   /* one that is hidden comes first */
	bool found;                    /* visible one, its path in slab->extra */
};

/* False: the search ends here. */
static bool candidate(struct search *s, const char *path)
{
	struct stat st;
	if (sys_fstatat(AT_FDCWD, path, &st, 0) < 0 || !S_ISREG(st.st_mode))
		return true;
	struct pt_at at = { .dirfd = AT_FDCWD, .path = path, .access = PT_ACC_READ, .flags = PT_FOLLOW };
	int error = pt_judge(PT_OP_dlopen, &at);
	pt_done(PT_OP_dlopen, &at, error);
	if (error) {
		s->hidden = true;
		return true;
	}
	s->found = true;
	memmove(s->slab->extra, path, strlen(path) + 1);
	return false;
}

static bool in_directory(struct search *s, const char *dir)
{
	size_t n = strlen(dir);
	if (!n || n + s->len + 2 > s->slab->cap)
		return true;
	memcpy(s->slab->link, dir, n);
	s->slab->link[n] = '/';
	memcpy(s->slab->link + n + 1, s->name, s->len + 1);
	return candidate(s, s->slab->link);
}

struct cache_file {            /* /etc/ld.so.cache since glibc 2.32; before, the same lies behind an older table */
	char magic[20];
	uint32_t entries, strings;
	uint32_t unused[5];
	struct { int32_t flags; uint32_t name, path, os; uint64_t capabilities; } entry[];
};

static bool in_cache(struct search *s)
{
	int fd = sys_open("/etc/ld.so.cache", O_RDONLY | O_CLOEXEC);
	struct stat st;
	bool go_on = true;
	if (fd < 0)
		return true;
	const char *bytes = sys_fstat(fd, &st) == 0 && st.st_size > (off_t)sizeof(struct cache_file)
				    ? sys_mmap((size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd) : NULL;
	sys_close(fd);
	if (!bytes)
		return true;
	size_t size = (size_t)st.st_size;
	const struct cache_file *c = (const struct cache_file *)(const void *)bytes;
	if (!memcmp(c->magic, "glibc-ld.so.cache1.1", 20) && c->entries <= (size - sizeof *c) / sizeof c->entry[0])
		for (uint32_t i = 0; i < c->entries && go_on; i++)
			if (c->entry[i].name < size && size - c->entry[i].name > s->len && c->entry[i].path < size &&
			    !memcmp(bytes + c->entry[i].name, s->name, s->len + 1) && memchr(bytes + c->entry[i].path, 0, size - c->entry[i].path))
				go_on = candidate(s, bytes + c->entry[i].path);
	sys_munmap((void *)(uintptr_t)bytes, size);
	return go_on;
}

static bool is_loaded(const char *name)
{
	for (const struct link_map *m = _r_debug.r_map; m; m = m->l_next) {
		const char *base = m->l_name ? strrchr(m->l_name, '/') : NULL;
		if (base && !strcmp(base + 1, name))
			return true;
	}
	return false;
}

/* The places in which the loader looks for whoever called us, without its cache. */
static Dl_serinfo *places(const void *caller, struct pt_slab *s)
{
	typedef int map_t(const void *, Dl_info *, void **, int);
	typedef int info_t(void *, int, void *);
	map_t *map_of = PT_REAL(map_t, dladdr1);
	info_t *info = PT_REAL(info_t, dlinfo);
	Dl_info where;
	void *map = NULL;
	Dl_serinfo *list = (Dl_serinfo *)(void *)s->pending;
	if (!map_of || !info || !map_of(caller, &where, &map, RTLD_DL_LINKMAP) || !map || info(map, RTLD_DI_SERINFOSIZE, list) ||
	    list->dls_size > s->cap)
		return NULL;
	return info(map, RTLD_DI_SERINFO, list) ? NULL : list;
}

/* The name to give to the loader in the place of one without a slash; in a slab that stays as it is until its next use. */
const char *pt_library_by_name(const char *name, const void *caller)
{
	if (!pt_on() || !*name || strchr(name, '/') || strlen(name) > 255 || (pt.flags & PT_IMG_AUDIT) || is_loaded(name))
		return name;
	struct search s = { .name = name, .len = strlen(name), .slab = pt_slab_take(PT_PATH_CAP) };
	int kept_errno = errno;
	if (!s.slab)
		return NO_LIBRARY;
	Dl_serinfo *list = places(caller, s.slab);
	bool go_on = true;
	for (unsigned i = 0; list && i < list->dls_cnt && go_on; i++)
		if (!is_system(list->dls_serpath[i].dls_name))
			go_on = in_directory(&s, list->dls_serpath[i].dls_name);
	go_on = go_on && in_cache(&s);
	for (unsigned i = 0; list && i < list->dls_cnt && go_on; i++)
		if (is_system(list->dls_serpath[i].dls_name))
			go_on = in_directory(&s, list->dls_serpath[i].dls_name);
	const char *use = name;
	if (s.hidden && !(pt_supervise_all() && pt_supervised())) {
		use = s.found ? s.slab->extra : NO_LIBRARY;
	}
	pt_slab_give(s.slab);
	errno = kept_errno;
	return use;
}
#endif

/* ---- what a program is linked to ---- */

/* A library that is loaded already, by the name by which the loader found it: is it hidden? Told. */
static bool is_hidden(const char *name)
{
	size_t len = strlen(name);
	if (name[0] != '/' || (len == pt.path_len && !memcmp(name, pt.path, len)))
		return false;
	struct pt_verdict v = pt_decide(pt.image, PT_READ, name, len);
	/* what the base system has, by a name that nobody in the session can give to something else, is what it seems */
	if (v.action == PT_ALLOW && is_system(name) && pt_decide(pt.image, PT_WRITE, name, len).action == PT_DENY)
		return false;
	if (v.action == PT_REDIRECT)
		return false;
	struct pt_at at = { .dirfd = AT_FDCWD, .path = name, .access = PT_ACC_READ, .flags = PT_FOLLOW };
	int error = pt_judge(PT_OP_dlopen, &at);
	pt_done(PT_OP_dlopen, &at, error);
	return error != 0;
}

/*
 * Before any code of the program or its libraries has run (this library is marked to be the first). It is started
 * once more, under the supervisor.
 */
PT_HOT void pt_start_again(char *const *argv, char *const *envp)
{
	char exe[512];
	bool hidden = false;
	/* MacPorts' own map (all directories show) is made for a library that does not see what the loader opens. */
	if (pt.flags & (PT_IMG_AUDIT | PT_IMG_DIRS_VISIBLE))
		return;
	for (const struct link_map *m = pt_loaded(); m; m = m->l_next)
		if (m->l_name && m != pt_loaded() && is_hidden(m->l_name))
			hidden = true;
	if (!hidden || !argv || !pt_has_supervisor() || pt_supervised())
		return;
	ssize_t n = sys_exe(exe, sizeof exe - 1);
	if (n <= 0 || n == sizeof exe - 1)
		return;
	exe[n] = 0;
	const char *base = strrchr(exe, '/');
	if (!base || !strncmp(base, "/ld-", 4) || pt_supervise_self())
		return;                        /* started as the loader's argument: its words are not ours */
	sys_execve("/proc/self/exe", argv, envp);
}
