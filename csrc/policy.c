/*
 * Reading a policy image. Every index is checked where it is used, so that a
 * broken image can give a wrong answer but never reads outside its bytes;
 * pt_image_check() therefore only has to look at the header, which keeps the
 * start of a process cheap.
 */
#include "policy.h"

#include "bytes.h"
#include "image.h"

struct pt_image {
	struct pti_header h;
};

#define AT(image, section) ((const char *)(image) + (image)->h.section.offset)

static const struct { size_t field, unit, align; } sections[] = {
	{offsetof(struct pti_header, rules), sizeof(struct pti_rule), 4},
	{offsetof(struct pti_header, nodes), sizeof(struct pti_node), 8},
	{offsetof(struct pti_header, owners), sizeof(struct pti_owner), 8},
	{offsetof(struct pti_header, ports), sizeof(struct pti_port), 4},
	{offsetof(struct pti_header, labels), sizeof(struct pti_label), 4},
	{offsetof(struct pti_header, strings), 1, 1},
	{offsetof(struct pti_header, places), sizeof(struct pti_place), 8},
	{offsetof(struct pti_header, programs), sizeof(struct pti_place), 8},
	{offsetof(struct pti_header, closed), 8, 8},
};

static const struct pt_image *refuse(const char **why, size_t *offset, const char *text, size_t at)
{
	if (why)
		*why = text;
	if (offset)
		*offset = at;
	return NULL;
}

const struct pt_image *pt_image_check(const void *bytes, size_t size, const char **why, size_t *offset)
{
	const struct pti_header *h = bytes;
	size_t i;

	if (!bytes || size < sizeof *h)
		return refuse(why, offset, "shorter than an image's header", size);
	if ((uintptr_t)bytes % 8)
		return refuse(why, offset, "not mapped at a multiple of 8", 0);
	if (memcmp(h->magic, PTI_MAGIC, sizeof h->magic) != 0)
		return refuse(why, offset, "does not begin as a policy image", 0);
	if (h->version != PTI_VERSION)
		return refuse(why, offset, "made by another version of porttrace", offsetof(struct pti_header, version));
	if (h->size != size)
		return refuse(why, offset, "its size is not the one it was made with", offsetof(struct pti_header, size));
	for (i = 0; i < sizeof sections / sizeof *sections; i++) {
		const struct pti_section *s = (const struct pti_section *)((const char *)bytes + sections[i].field);

		if (s->offset % sections[i].align || s->offset < sizeof *h || s->offset > size)
			return refuse(why, offset, "a section begins outside the image", sections[i].field);
		if (s->count > (size - s->offset) / sections[i].unit || s->count >= UINT32_MAX)
			return refuse(why, offset, "a section ends outside the image", sections[i].field + 8);
	}
	if (!h->strings.count || ((const char *)bytes)[h->strings.offset + h->strings.count - 1])
		return refuse(why, offset, "its texts do not end", offsetof(struct pti_header, strings));
	if (h->root[PT_READ] >= h->nodes.count || h->root[PT_WRITE] >= h->nodes.count)
		return refuse(why, offset, "a map begins outside the image", offsetof(struct pti_header, root));
	if (h->max_probe > h->owners.count)
		return refuse(why, offset, "unsound ownership table", offsetof(struct pti_header, max_probe));
	if (why)
		*why = NULL;
	if (offset)
		*offset = 0;
	return bytes;
}

size_t pt_image_front(const void *bytes, size_t size)
{
	const struct pti_header *h = bytes;
	size_t i;

	if (size < sizeof *h)
		return 0;
	for (i = 0; i < sizeof sections / sizeof *sections; i++) {
		const struct pti_section *s = (const struct pti_section *)((const char *)bytes + sections[i].field);

		if (s != &h->owners && (s->offset > h->owners.offset || s->count > (h->owners.offset - s->offset) / sections[i].unit))
			return 0;
	}
	return h->owners.offset;
}

const struct pt_image *pt_image_check_front(const void *bytes, size_t room)
{
	const struct pti_header *h = bytes;
	size_t front = memcmp(h->magic, PTI_MAGIC, sizeof h->magic) ? 0 : pt_image_front(bytes, room);

	return front && front <= room ? pt_image_check(bytes, h->size, NULL, NULL) : NULL;
}

static const struct pt_image *(*whole_of_front)(void);

void pt_image_whole_from(const struct pt_image *(*whole)(void))
{
	whole_of_front = whole;
}

uint32_t pt_image_flags(const struct pt_image *image)
{
	return image->h.flags;
}

uint64_t pt_image_seed(const struct pt_image *image)
{
	return image->h.seed;
}

uint32_t pt_image_rules(const struct pt_image *image)
{
	return (uint32_t)image->h.rules.count;
}

/* A text of the image, or "" for an offset that lies outside; always ends inside the section. */
static const char *text(const struct pt_image *image, uint32_t offset)
{
	if (offset >= image->h.strings.count)
		offset = (uint32_t)image->h.strings.count - 1;
	return AT(image, strings) + offset;
}

static bool text_holds(const struct pt_image *image, uint32_t offset, uint32_t len)
{
	return (uint64_t)offset + len < image->h.strings.count;
}

static const struct pti_rule *rule_at(const struct pt_image *image, uint32_t rule)
{
	return rule < image->h.rules.count ? (const struct pti_rule *)AT(image, rules) + rule : NULL;
}

bool pt_image_rule(const struct pt_image *image, uint32_t rule, struct pt_rule_view *out)
{
	const struct pti_rule *r = rule_at(image, rule);

	if (!r || !text_holds(image, r->path, r->path_len) || !text_holds(image, r->target, r->target_len))
		return false;
	out->path = text(image, r->path);
	out->path_len = r->path_len;
	out->target = r->action == PT_REDIRECT ? text(image, r->target) : NULL;
	out->target_len = out->target ? r->target_len : 0;
	out->origin = text(image, r->origin);
	out->action = r->action;
	out->map = r->map;
	out->literal = r->flags & PTI_LITERAL;
	out->live = r->flags & PTI_LIVE;
	out->silent = r->flags & PTI_SILENT;
	out->fallback = r->flags & PTI_FALLBACK;
	return true;
}

const char *pt_image_port(const struct pt_image *image, uint32_t port, bool *in_closure)
{
	const struct pti_port *p;

	if (port >= image->h.ports.count)
		return NULL;
	p = (const struct pti_port *)AT(image, ports) + port;
	if (in_closure)
		*in_closure = p->in_closure != 0;
	return text(image, p->name);
}

const char *pt_image_label(const struct pt_image *image, const char *key)
{
	const struct pti_label *l = (const struct pti_label *)AT(image, labels);
	uint64_t i;

	for (i = 0; i < image->h.labels.count; i++)
		if (strcmp(text(image, l[i].key), key) == 0)
			return text(image, l[i].value);
	return NULL;
}

static const char *sought(const struct pt_image *image, const struct pti_section *table, const char *path, size_t len, size_t *real_len)
{
	const struct pti_place *places = (const struct pti_place *)((const char *)image + table->offset), *p;
	uint64_t count = table->count, hash, at, tries;

	if (!count)
		return NULL;
	hash = pt_hash_path(image->h.seed, path, len);
	hash += !hash;
	for (at = PTI_SLOT(hash, count), tries = 0; tries < count; tries++) {
		p = places + at;
		if (!p->hash)
			return NULL;
		if (p->hash == hash && p->path_len == len && text_holds(image, p->path, p->path_len) &&
		    text_holds(image, p->real, p->real_len) && memcmp(text(image, p->path), path, len) == 0) {
			*real_len = p->real_len;
			return text(image, p->real);
		}
		if (++at == count)
			at = 0;
	}
	return NULL;
}

const char *pt_image_place(const struct pt_image *image, const char *path, size_t len, size_t *real_len)
{
	return sought(image, &image->h.places, path, len, real_len);
}

const char *pt_image_program(const struct pt_image *image, const char *path, size_t len, size_t *real_len)
{
	return sought(image, &image->h.programs, path, len, real_len);
}

/* --- hashes -------------------------------------------------------------------- */

/* The two halves of a 128-bit product, folded: every input bit reaches every output bit. */
static inline uint64_t fold(uint64_t a, uint64_t b)
{
	unsigned __int128 p = (unsigned __int128)a * b;

	return (uint64_t)p ^ (uint64_t)(p >> 64);
}

static inline uint64_t load(const char *p, size_t n)
{
	uint32_t a, b;

	if (n >= 4) {
		memcpy(&a, p, 4);
		memcpy(&b, p + n - 4, 4);
		return a | (uint64_t)b << 32;
	}
	return (unsigned char)p[0] | (uint64_t)(unsigned char)p[n / 2] << 8 | (uint64_t)(unsigned char)p[n - 1] << 16;
}

static inline uint64_t hash_child(uint64_t h, const char *name, size_t len)
{
	if (!len)
		return h;
	h ^= len * UINT64_C(0x9e3779b97f4a7c15);
	for (; len > 8; name += 8, len -= 8) {
		uint64_t w;

		memcpy(&w, name, 8);
		h = fold(h ^ w, UINT64_C(0xd1b54a32d192ed03));
	}
	return fold(h ^ load(name, len), UINT64_C(0xaef17502108ef2d9));
}

uint64_t pt_hash_child(uint64_t h, const char *name, size_t len)
{
	return hash_child(h, name, len);
}

/* A directory's hash is its path's hash, so that walks can go on from either. */
uint64_t pt_hash_path(uint64_t seed, const char *path, size_t len)
{
	const char *end = path + len, *name;

	for (;;) {
		while (path < end && *path == '/')
			path++;
		for (name = path; path < end && *path != '/'; path++)
			;
		if (path == name)
			return seed;
		seed = hash_child(seed, name, (size_t)(path - name));
	}
}

uint64_t pt_hash_dir(uint64_t seed, const char *dir, size_t len)
{
	return pt_hash_path(seed, dir, len);
}

/* --- the walk ---------------------------------------------------------------- */

static const struct pti_node *node_at(const struct pt_image *image, uint32_t node)
{
	return (const struct pti_node *)AT(image, nodes) + node;
}

/* Not the compiler's: on processors of any age that is a call into its own library. */
static inline unsigned ones(uint64_t w)
{
	w -= w >> 1 & UINT64_C(0x5555555555555555);
	w = (w & UINT64_C(0x3333333333333333)) + (w >> 2 & UINT64_C(0x3333333333333333));
	w = (w + (w >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
	return (unsigned)(w * UINT64_C(0x0101010101010101) >> 56);
}

/* The child of `n` whose edge begins with `byte`, or 0. */
static uint32_t child_of(const struct pt_image *image, const struct pti_node *n, unsigned char byte)
{
	unsigned word = byte >> 6, i;
	uint64_t bit = UINT64_C(1) << (byte & 63);
	uint64_t child = n->first_child;

	if (!(n->present[word] & bit))
		return 0;
	for (i = 0; i < word; i++)
		child += ones(n->present[i]);
	child += ones(n->present[word] & (bit - 1));
	return child < image->h.nodes.count ? (uint32_t)child : 0;
}

static inline void better(struct pt_cursor *c, uint32_t rule)
{
	if (rule < c->rule)
		c->rule = rule;
}

/*
 * Follow `len` bytes. A literal rule matches as soon as its last byte was
 * read, a component rule only where the path ends or goes on with a '/'.
 */
static void walk(const struct pt_image *image, struct pt_cursor *c, const char *bytes, size_t len)
{
	while (len && c->node) {
		const struct pti_node *n = node_at(image, c->node);
		const char *edge;
		size_t k;

		if (c->edge >= n->edge_len) {
			c->node = child_of(image, n, (unsigned char)*bytes);
			c->edge = 0;
			n = node_at(image, c->node);
			/* each step must take a byte, or a broken image could hold us here */
			if (!c->node || !n->edge_len || !text_holds(image, n->edge, n->edge_len)) {
				c->node = 0;
				return;
			}
		}
		edge = AT(image, strings) + n->edge;
		for (k = c->edge; k < n->edge_len && len; k++, bytes++, len--)
			if (edge[k] != *bytes) {
				c->node = 0;
				return;
			}
		c->edge = (uint32_t)k;
		if (k == n->edge_len) {
			better(c, n->literal);
			if (!len || *bytes == '/')
				better(c, n->component);
		}
	}
}

/* The node that is reached, partly or wholly, by going on with '/'; NULL: nothing lies below. */
static const struct pti_node *below(const struct pt_image *image, const struct pt_cursor *c)
{
	const struct pti_node *n;
	uint32_t child;

	if (!c->node)
		return NULL;
	n = node_at(image, c->node);
	if (c->edge < n->edge_len)
		return text(image, n->edge)[c->edge] == '/' ? n : NULL;
	child = child_of(image, n, '/');
	return child ? node_at(image, child) : NULL;
}

struct pt_cursor pt_cursor_root(const struct pt_image *image, enum pt_map map)
{
	struct pt_cursor c = {image->h.root[map == PT_WRITE], 0, PT_NO_RULE, (uint8_t)map};

	if (c.node) {
		const struct pti_node *n = node_at(image, c.node);

		c.edge = n->edge_len; /* 0 in a sound image */
		better(&c, n->component);
		if (!below(image, &c))
			c.node = 0;
	}
	return c;
}

struct pt_cursor pt_cursor_descend(const struct pt_image *image, struct pt_cursor c, const char *name, size_t len)
{
	if (!c.node)
		return c;
	if (c.node >= image->h.nodes.count) {
		c.node = 0;
		return c;
	}
	walk(image, &c, "/", 1);
	walk(image, &c, name, len);
	if (!below(image, &c))
		c.node = 0;
	return c;
}

bool pt_cursor_uniform(const struct pt_image *image, struct pt_cursor c)
{
	(void)image;
	return !c.node;
}

bool pt_rules_below(const struct pt_image *image, enum pt_map map, const char *path, size_t len)
{
	struct pt_cursor c = pt_cursor_root(image, map);
	for (size_t at = 0, to; at < len; at = to) {
		for (to = at + 1; to < len && path[to] != '/'; to++)
			;
		if (to > at + 1)
			c = pt_cursor_descend(image, c, path + at + 1, to - at - 1);
	}
	return !pt_cursor_uniform(image, c);
}

/* False: it is not known, where the table cannot be seen. */
static inline bool owner_of(const struct pt_image *image, uint64_t hash, uint32_t *port)
{
	const struct pti_owner *table;
	uint64_t slots = image->h.owners.count, at;
	uint32_t probes;

	*port = PT_NO_PORT;
	if (!slots)
		return true;
	if (whole_of_front && !(image = whole_of_front()))
		return false;
	table = (const struct pti_owner *)AT(image, owners);
	hash += !hash; /* 0 marks a free slot */
	at = PTI_SLOT(hash, slots);
	for (probes = 0; probes <= image->h.max_probe; probes++) {
		if (table[at].hash == hash) {
			*port = table[at].port;
			break;
		}
		if (!table[at].hash)
			break;
		if (++at == slots)
			at = 0;
	}
	return true;
}

/* `hash` is taken only where the ownership table is asked: as a whole path or as directory and name. */
struct subject {
	uint64_t dirhash;
	const char *name;
	size_t len;
};

static struct pt_verdict verdict(const struct pt_image *image, const struct pt_cursor *c, const struct subject *s, bool whole)
{
	struct pt_verdict v = {PT_DENY, 0, 0, c->rule, PT_NO_PORT};
	const struct pti_rule *r = rule_at(image, c->rule);
	const struct pti_node *n;

	if (!r) {
		v.rule = PT_NO_RULE;
	} else {
		if (r->flags & PTI_SILENT)
			v.flags |= PT_V_SILENT;
		if (r->action == PT_ASK) {
			bool in_closure = false, known;

			v.flags |= PT_V_ASKED;
			if (r->flags & PTI_LIVE)
				v.flags |= PT_V_LIVE;
			known = owner_of(image, whole ? pt_hash_path(image->h.seed, s->name, s->len)
						      : pt_hash_child(s->dirhash, s->name, s->len), &v.port);
			if (v.port != PT_NO_PORT && !pt_image_port(image, v.port, &in_closure))
				v.port = PT_NO_PORT;
			if (v.port == PT_NO_PORT && known)
				v.flags |= PT_V_UNOWNED;
			if (!known)
				v.action = PT_DENY; /* what is not known is not let through */
			else if (v.port == PT_NO_PORT ? !(image->h.flags & PT_IMG_STRICT) : in_closure)
				v.action = PT_ALLOW;
		} else if (r->action == PT_REDIRECT) {
			v.action = PT_REDIRECT;
			if (r->flags & PTI_FALLBACK)
				v.flags |= PT_V_FALLBACK;
		} else if (r->action == PT_ALLOW) {
			v.action = PT_ALLOW;
		}
	}
	if (v.action == PT_DENY) {
		n = below(image, c);
		if (n && n->visible)
			v.flags |= PT_V_BELOW;
	}
	return v;
}

struct pt_verdict pt_decide_child(const struct pt_image *image, struct pt_cursor c, uint64_t dirhash, const char *name, size_t len)
{
	struct subject s = {dirhash, name, len};

	if (c.node >= image->h.nodes.count)
		c.node = 0;
	if (c.node && len) {
		walk(image, &c, "/", 1);
		walk(image, &c, name, len);
	}
	return verdict(image, &c, &s, false);
}

/* False: no port outside the closure has a file in this directory. */
static bool holds_closed(const struct pt_image *image, uint64_t dirhash)
{
	const uint64_t *words = (const uint64_t *)AT(image, closed);
	uint32_t bit = PTI_CLOSED_BIT(dirhash);

	return image->h.closed.count != PTI_CLOSED_WORDS || (words[bit / 64] >> bit % 64 & 1);
}

enum pt_children pt_children(const struct pt_image *image, struct pt_cursor c, uint64_t dirhash)
{
	const struct pti_rule *r = c.node ? NULL : rule_at(image, c.rule);

	if (!r)
		return PT_CHILDREN_DIFFER;
	if (r->action == PT_ALLOW)
		return PT_CHILDREN_ALLOWED;
	if (r->action != PT_ASK || r->flags & PTI_LIVE)
		return PT_CHILDREN_DIFFER;
	return image->h.flags & PT_IMG_STRICT || holds_closed(image, dirhash) ? PT_CHILDREN_OWNED : PT_CHILDREN_ALLOWED;
}

bool pt_owned_child_allowed(const struct pt_image *image, uint64_t dirhash, const char *name, size_t len)
{
	uint32_t port;

	if (!owner_of(image, len ? hash_child(dirhash, name, len) : dirhash, &port))
		return false;
	if (port == PT_NO_PORT)
		return !(image->h.flags & PT_IMG_STRICT);
	return port < image->h.ports.count && ((const struct pti_port *)AT(image, ports) + port)->in_closure;
}

struct pt_verdict pt_decide(const struct pt_image *image, enum pt_map map, const char *path, size_t len)
{
	struct pt_cursor c = pt_cursor_root(image, map);
	struct subject s = {0, path, len};
	struct pt_verdict v;

	walk(image, &c, path, len);
	v = verdict(image, &c, &s, true);
	/* "/" was read with its slash: what lies below the root directory is what begins there. */
	if (v.action == PT_DENY && len == 1 && *path == '/' && c.node && node_at(image, c.node)->visible)
		v.flags |= PT_V_BELOW;
	return v;
}
