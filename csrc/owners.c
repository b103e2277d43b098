/* The table of files and their ports: hashes of paths in open addressing, as an image holds it. */
#include "owners.h"

#include <stdlib.h>
#include <string.h>

#include "image.h"
#include "policy.h"

static bool own(struct pt_owners *o, uint64_t hash, uint32_t port, uint64_t directory)
{
	uint32_t probes = 0;
	size_t at;

	hash += !hash;
	for (at = PTI_SLOT(hash, o->size); o->slots[at].hash; probes++) {
		if (o->slots[at].hash == hash)
			return false;
		if (++at == o->size)
			at = 0;
	}
	o->slots[at].hash = hash;
	o->slots[at].port = port;
	o->slots[at].directory = (uint32_t)directory;
	if (probes > o->max_probe)
		o->max_probe = probes;
	o->count++;
	return true;
}

struct pt_owners *pt_owners_new(const char *paths, size_t size, const uint32_t *ports, size_t count, uint64_t seed)
{
	struct pt_owners *o = calloc(1, sizeof *o);
	const char *end = paths + size;
	size_t i;

	if (!o)
		return NULL;
	o->seed = seed;
	o->size = count + count / 2 + 8; /* load at most 2/3 */
	o->slots = calloc(o->size, sizeof *o->slots);
	if (!o->slots)
		goto fail;
	for (i = 0; i < count; i++) {
		const char *nul = paths < end ? memchr(paths, 0, (size_t)(end - paths)) : NULL;

		if (!nul)
			goto fail;
		const char *name = nul;
		uint64_t directory;

		while (name > paths && name[-1] != '/')
			name--;
		directory = pt_hash_dir(seed, paths, (size_t)(name - paths));
		own(o, pt_hash_child(directory, name, (size_t)(nul - name)), ports[i], directory);
		paths = nul + 1;
	}
	return o;
fail:
	pt_owners_free(o);
	return NULL;
}

struct pt_owners *pt_owners_adopt(const void *slots, size_t size, size_t count, uint32_t max_probe, uint64_t seed)
{
	size_t room = size / sizeof(struct pti_owner);
	struct pt_owners *o;

	if (!room || size % sizeof(struct pti_owner) || (uintptr_t)slots % 8 || count >= room || max_probe >= room)
		return NULL;
	o = calloc(1, sizeof *o);
	if (!o)
		return NULL;
	o->slots = (struct pti_owner *)(uintptr_t)slots;
	o->size = room;
	o->count = count;
	o->max_probe = max_probe;
	o->borrowed = true;
	o->seed = seed;
	return o;
}

const void *pt_owners_slots(const struct pt_owners *o, size_t *size, uint32_t *max_probe)
{
	*size = o->size * sizeof *o->slots;
	*max_probe = o->max_probe;
	return o->slots;
}

void pt_owners_free(struct pt_owners *o)
{
	if (o && !o->borrowed)
		free(o->slots);
	free(o);
}

size_t pt_owners_count(const struct pt_owners *o)
{
	return o->count;
}
