/*
 * The definition behind ours: a walk over the loader's list of objects, as
 * RTLD_NEXT would do it. dlsym takes the loader's lock and may allocate; this
 * does neither, so that it can run in a signal handler or a vfork child.
 */
#include <elf.h>
#include <link.h>

#include "trace.h"

extern ElfW(Dyn) _DYNAMIC[] __attribute__((visibility("hidden")));

#ifdef __GLIBC__
#define LOADED _r_debug.r_map
#else
extern struct r_debug *_dl_debug_addr;
#define LOADED _dl_debug_addr->r_map
#endif

static const struct link_map *own_map(void)
{
	const struct link_map *m = LOADED;
	while (m && m->l_ld != _DYNAMIC)
		m = m->l_next;
	return m;
}

const char *pt_own_path(void)
{
	const struct link_map *m = own_map();
	return m ? m->l_name : NULL;
}

const struct link_map *pt_loaded(void)
{
	return LOADED;
}

void pt_used_libraries(void)
{
	for (const struct link_map *m = LOADED; m; m = m->l_next)
		if (m->l_name)
			pt_used_library(m->l_name);
}

static uint32_t gnu_hash(const char *name)
{
	uint32_t h = 5381;
	for (; *name; name++)
		h = h * 33 + (unsigned char)*name;
	return h;
}

struct object {
	const ElfW(Sym) *symbols;
	const char *strings;
	const uint32_t *gnu, *sysv;
	const ElfW(Half) *versions;
	ElfW(Addr) base;
};

/* glibc relocates the pointers of the dynamic section, musl and the vDSO leave offsets. */
static const void *place(const struct link_map *m, ElfW(Addr) value)
{
	return (const void *)(value < m->l_addr ? value + m->l_addr : value);
}

static bool describe(const struct link_map *m, struct object *o)
{
	memset(o, 0, sizeof *o);
	o->base = m->l_addr;
	if (!m->l_ld)
		return false;
	for (const ElfW(Dyn) *d = m->l_ld; d->d_tag != DT_NULL; d++) {
		switch (d->d_tag) {
		case DT_SYMTAB: o->symbols = place(m, d->d_un.d_ptr); break;
		case DT_STRTAB: o->strings = place(m, d->d_un.d_ptr); break;
		case DT_GNU_HASH: o->gnu = place(m, d->d_un.d_ptr); break;
		case DT_HASH: o->sysv = place(m, d->d_un.d_ptr); break;
		case DT_VERSYM: o->versions = place(m, d->d_un.d_ptr); break;
		default: break;
		}
	}
	return o->symbols && o->strings && (o->gnu || o->sysv);
}

/* The default version of a defined function. */
static void *usable(const struct object *o, uint32_t n, const char *name)
{
	const ElfW(Sym) *s = &o->symbols[n];
	if (s->st_shndx == SHN_UNDEF || !s->st_value || strcmp(o->strings + s->st_name, name) != 0)
		return NULL;
	if (o->versions && (o->versions[n] & 0x8000))
		return NULL;
	void *address = (void *)(o->base + s->st_value);
	int type = s->st_info & 15;
	if (type == STT_GNU_IFUNC)
		return ((void *(*)(void))address)();
	return type == STT_FUNC || type == STT_NOTYPE ? address : NULL;
}

static void *find(const struct object *o, const char *name, uint32_t hash)
{
	if (o->gnu) {
		uint32_t buckets = o->gnu[0], first = o->gnu[1], words = o->gnu[2];
		const uint32_t *bucket = o->gnu + 4 + words * (sizeof(ElfW(Addr)) / 4);
		const uint32_t *chain = bucket + buckets;
		if (!buckets)
			return NULL;
		uint32_t n = bucket[hash % buckets];
		if (n < first)
			return NULL;
		for (;; n++) {
			uint32_t h = chain[n - first];
			if ((h | 1) == (hash | 1)) {
				void *found = usable(o, n, name);
				if (found)
					return found;
			}
			if (h & 1)
				return NULL;
		}
	}
	for (uint32_t n = 0; n < o->sysv[1]; n++) {
		void *found = usable(o, n, name);
		if (found)
			return found;
	}
	return NULL;
}

void *pt_next(const char *name)
{
	uint32_t hash = gnu_hash(name);
	const struct link_map *m = own_map();
	for (m = m ? m->l_next : NULL; m; m = m->l_next) {
		struct object o;
		if (!describe(m, &o))
			continue;
		void *found = find(&o, name, hash);
		if (found)
			return found;
	}
	return pt_lacking(name);
}
