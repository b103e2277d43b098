/*
 * From a list of rules to an image: two radix tries in which only rules that
 * can win are left, and an open-addressed table of hashes.
 *
 * Rules are inserted in their order, so a rule that an earlier one already
 * covers wholly can never win and is left out of the trie. What remains has
 * the property that the deepest match is the first in order, and that a
 * directory below which the trie ends is uniform.
 */
#include "builder.h"

#include <stdlib.h>
#include <string.h>

#include "image.h"

/* --- the trie while it grows ------------------------------------------------------ */

struct grow {
	struct pti_node n; /* edge, literal, component, visible are already final; edges point into the strings */
	uint32_t child, sibling;
};

struct trie {
	struct grow *nodes;
	uint32_t count, room;
	const char *strings;
};

static uint32_t new_node(struct trie *t)
{
	struct grow *g;

	if (t->count == t->room) {
		uint32_t room = t->room ? t->room * 2 : 64;

		g = realloc(t->nodes, room * sizeof *g);
		if (!g)
			return 0;
		t->nodes = g;
		t->room = room;
	}
	g = t->nodes + t->count;
	memset(g, 0, sizeof *g);
	g->n.literal = g->n.component = PT_NO_RULE;
	return t->count++;
}

static unsigned char first_byte(const struct trie *t, uint32_t node)
{
	return (unsigned char)t->strings[t->nodes[node].n.edge];
}

/* Cut `node`'s edge after `len` bytes; the node itself becomes the upper half. */
static bool split(struct trie *t, uint32_t node, uint32_t len)
{
	uint32_t lower = new_node(t), sibling = t->nodes[node].sibling;

	if (!lower)
		return false;
	t->nodes[lower] = t->nodes[node];
	t->nodes[lower].n.edge += len;
	t->nodes[lower].n.edge_len -= len;
	t->nodes[lower].sibling = 0;
	t->nodes[node].n.edge_len = len;
	t->nodes[node].n.literal = t->nodes[node].n.component = PT_NO_RULE;
	t->nodes[node].child = lower;
	t->nodes[node].sibling = sibling;
	return true;
}

/* Insert rule `r`, whose path lies at `at` in the strings. 1: done, 0: covered by an earlier rule, -1: no memory. */
static int insert(struct trie *t, uint32_t root, uint32_t at, uint32_t len, bool literal, uint32_t r)
{
	uint32_t node = root;

	for (;;) {
		struct grow *g = t->nodes + node;
		uint32_t child, previous = 0, k;

		/* what ended here came earlier; does it hold for all of this rule's paths? */
		if (g->n.literal != PT_NO_RULE)
			return 0;
		if (g->n.component != PT_NO_RULE && (len ? t->strings[at] == '/' : !literal))
			return 0;
		if (!len) {
			if (literal)
				g->n.literal = r;
			else
				g->n.component = r;
			return 1;
		}
		for (child = g->child; child && first_byte(t, child) < (unsigned char)t->strings[at]; child = t->nodes[child].sibling)
			previous = child;
		if (!child || first_byte(t, child) != (unsigned char)t->strings[at]) {
			uint32_t fresh = new_node(t);

			if (!fresh)
				return -1;
			t->nodes[fresh].n.edge = at;
			t->nodes[fresh].n.edge_len = len;
			t->nodes[fresh].sibling = child;
			*(previous ? &t->nodes[previous].sibling : &t->nodes[node].child) = fresh;
			at += len;
			len = 0;
			node = fresh;
			continue;
		}
		g = t->nodes + child;
		for (k = 1; k < g->n.edge_len && k < len && t->strings[g->n.edge + k] == t->strings[at + k]; k++)
			;
		if (k < g->n.edge_len && !split(t, child, k))
			return -1;
		at += k;
		len -= k;
		node = child;
	}
}

/* Lay the grown trie out breadth first, so that children lie side by side; marks what is visible from the leaves up. */
static bool lay_out(struct trie *t, struct pti_node *out, const struct pti_rule *rules, uint32_t roots[2])
{
	uint32_t *order = malloc((t->count + 1) * sizeof *order), head, tail = 0, i, m;

	if (!order)
		return false;
	memset(out, 0, sizeof *out);
	out->literal = out->component = PT_NO_RULE;
	for (m = 0; m < 2; m++)
		if (roots[m])
			order[tail++] = roots[m];
	for (head = 0; head < tail; head++) {
		struct grow *g = t->nodes + order[head];
		uint32_t c;

		g->n.first_child = g->child ? tail + 1 : 0;
		for (c = g->child; c; c = t->nodes[c].sibling) {
			unsigned char b = first_byte(t, c);

			g->n.present[b >> 6] |= UINT64_C(1) << (b & 63);
			order[tail++] = c;
		}
		out[head + 1] = g->n;
	}
	for (i = tail; i > 0; i--) {
		struct pti_node *n = out + i;
		uint32_t c, children = 0;

		for (c = 0; c < 4; c++)
			children += (uint32_t)__builtin_popcountll(n->present[c]);
		n->visible = (n->literal != PT_NO_RULE && rules[n->literal].action != PT_DENY) ||
			     (n->component != PT_NO_RULE && rules[n->component].action != PT_DENY);
		for (c = 0; c < children; c++)
			n->visible |= out[n->first_child + c].visible;
	}
	for (i = 0, m = 0; m < 2; m++)
		roots[m] = roots[m] ? ++i : 0;
	free(order);
	return true;
}

/* --- the image -------------------------------------------------------------------- */

static uint64_t place(uint64_t *end, struct pti_section *s, uint64_t count, size_t unit)
{
	s->offset = *end;
	s->count = count;
	*end = (*end + count * unit + 63) & ~UINT64_C(63);
	return s->offset;
}

/* Counts the texts in a block; SIZE_MAX when the last one does not end. */
static size_t texts_in(const char *texts, size_t size)
{
	size_t n = 0, i;

	for (i = 0; i < size; i++)
		n += !texts[i];
	return size && texts[size - 1] ? SIZE_MAX : n;
}

static const char *check_rule(const struct pti_rule *r, const char *strings)
{
	const char *path = strings + r->path;
	uint32_t n = r->path_len;

	if (r->action > PT_DENY)
		return "unknown action";
	if (r->map > PT_WRITE)
		return "unknown map";
	if (!n || path[0] != '/')
		return "the path does not begin with '/'";
	if (!(r->flags & PTI_LITERAL) && n > 1 && path[n - 1] == '/')
		return "a component rule's path ends in '/'";
	if (r->action == PT_REDIRECT ? strings[r->target] != '/' : r->target_len != 0)
		return r->action == PT_REDIRECT ? "a redirect's target does not begin with '/'" : "only a redirect has a target";
	return NULL;
}

/* Mark the directories in which a port outside the closure has a file. */
static void close_directories(uint64_t *words, const struct pt_build *b)
{
	const struct pti_owner *o = b->owners->slots, *end = o + b->owners->size;

	for (; o < end; o++)
		if (o->hash && (o->port >= b->ports || !b->in_closure[o->port]))
			words[PTI_CLOSED_BIT(o->directory) / 64] |= UINT64_C(1) << PTI_CLOSED_BIT(o->directory) % 64;
}

/* Fill a table of places or programs from `n` pairs of texts that begin at `at`; where they end. */
static uint64_t settle(char *image, const struct pti_header *h, const struct pti_section *table, const char *strings, uint64_t at, uint32_t n)
{
	struct pti_place *places = (struct pti_place *)(image + table->offset);

	while (n--) {
		struct pti_place p = {.path = (uint32_t)at, .path_len = (uint32_t)strlen(strings + at)};
		uint64_t slot;

		p.real = p.path + p.path_len + 1;
		p.real_len = (uint32_t)strlen(strings + p.real);
		at = p.real + (uint64_t)p.real_len + 1;
		p.hash = pt_hash_path(h->seed, strings + p.path, p.path_len);
		p.hash += !p.hash;
		for (slot = PTI_SLOT(p.hash, table->count); places[slot].hash;)
			if (++slot == table->count)
				slot = 0;
		places[slot] = p;
	}
	return at;
}

static void *fail(void *image, struct trie *t, const char **why, const char *reason)
{
	free(image);
	free(t->nodes);
	*why = reason;
	return NULL;
}

void *pt_build_image(const struct pt_build *b, size_t *size, const char **why, uint32_t *rule)
{
	struct trie t = {NULL, 0, 0, NULL};
	struct pti_header h = {.version = PTI_VERSION, .flags = b->flags};
	struct pti_rule *rules = NULL;
	struct pti_node *nodes;
	char *image, *strings;
	uint64_t at, end = (sizeof h + 63) & ~UINT64_C(63), texts;
	uint32_t i, m;

	*rule = PT_NO_RULE;
	*why = NULL;
	if (texts_in(b->rule_texts, b->rule_texts_size) != (size_t)b->rules * 3 ||
	    texts_in(b->port_names, b->port_names_size) != b->ports ||
	    texts_in(b->label_texts, b->label_texts_size) != (size_t)b->labels * 2 ||
	    texts_in(b->place_texts, b->place_texts_size) != (size_t)b->places * 2 ||
	    texts_in(b->program_texts, b->program_texts_size) != (size_t)b->programs * 2)
		return fail(NULL, &t, why, "a text holds a NUL byte");
	texts = 1 + (uint64_t)b->rule_texts_size + b->port_names_size + b->label_texts_size + b->place_texts_size + b->program_texts_size;
	if (texts >= UINT32_MAX)
		return fail(NULL, &t, why, "the rules' texts are longer than 4 GiB");

	/* the trie first: its edges refer to the strings as they will lie in the image */
	strings = malloc(texts);
	rules = calloc(b->rules + 1, sizeof *rules);
	if (!strings || !rules || !(new_node(&t), t.nodes))
		goto nomem;
	strings[0] = '\0';
	memcpy(strings + 1, b->rule_texts, b->rule_texts_size);
	memcpy(strings + 1 + b->rule_texts_size, b->port_names, b->port_names_size);
	memcpy(strings + 1 + b->rule_texts_size + b->port_names_size, b->label_texts, b->label_texts_size);
	if (b->places)
		memcpy(strings + texts - b->program_texts_size - b->place_texts_size, b->place_texts, b->place_texts_size);
	if (b->programs)
		memcpy(strings + texts - b->program_texts_size, b->program_texts, b->program_texts_size);
	t.strings = strings;
	for (at = 1, i = 0; i < b->rules; i++) {
		struct pti_rule *r = rules + i;
		const char *reason;
		int done;

		r->path = (uint32_t)at;
		r->path_len = (uint32_t)strlen(strings + at);
		r->target = r->path + r->path_len + 1;
		r->target_len = (uint32_t)strlen(strings + r->target);
		r->origin = r->target + r->target_len + 1;
		at = r->origin + strlen(strings + r->origin) + 1;
		r->action = b->actions[i];
		r->map = b->maps[i];
		r->flags = b->rule_flags[i];
		reason = check_rule(r, strings);
		if (reason) {
			*rule = i;
			*why = reason;
			goto failed;
		}
		if (r->action == PT_REDIRECT)
			h.flags |= PT_IMG_REDIRECTS;
		if (r->action == PT_ASK && r->flags & PTI_LIVE)
			h.flags |= PT_IMG_LIVE;
		if (!h.root[r->map] && !(h.root[r->map] = new_node(&t)))
			goto nomem;
		/* the root directory as a component is the empty path */
		done = insert(&t, h.root[r->map], r->path, !(r->flags & PTI_LITERAL) && r->path_len == 1 ? 0 : r->path_len,
			      r->flags & PTI_LITERAL, i);
		if (done < 0)
			goto nomem;
	}

	place(&end, &h.rules, b->rules, sizeof *rules);
	place(&end, &h.nodes, t.count, sizeof *nodes);
	place(&end, &h.ports, b->ports, sizeof(struct pti_port));
	place(&end, &h.labels, b->labels, sizeof(struct pti_label));
	place(&end, &h.strings, texts, 1);
	place(&end, &h.places, b->places ? b->places * 2 : 0, sizeof(struct pti_place));
	place(&end, &h.programs, b->programs ? b->programs * 2 : 0, sizeof(struct pti_place));
	place(&end, &h.closed, b->owners ? PTI_CLOSED_WORDS : 0, sizeof(uint64_t));
	/* the large part last: what each process reads when it starts lies close together */
	place(&end, &h.owners, b->owners ? b->owners->size : 0, sizeof(struct pti_owner));
	image = calloc(1, end);
	if (!image)
		goto nomem;
	memcpy(h.magic, PTI_MAGIC, sizeof h.magic);
	h.size = end;
	h.seed = b->owners ? b->owners->seed : b->seed;
	if (b->owners) {
		h.max_probe = b->owners->max_probe;
		memcpy(image + h.owners.offset, b->owners->slots, b->owners->size * sizeof(struct pti_owner));
	}
	if (b->owners)
		close_directories((uint64_t *)(image + h.closed.offset), b);
	memcpy(image + h.rules.offset, rules, b->rules * sizeof *rules);
	memcpy(image + h.strings.offset, strings, texts);
	if (!lay_out(&t, (struct pti_node *)(image + h.nodes.offset), rules, h.root)) {
		free(image);
		goto nomem;
	}
	for (i = 0; i < b->ports; i++) {
		struct pti_port *p = (struct pti_port *)(image + h.ports.offset) + i;

		p->name = (uint32_t)at;
		p->in_closure = b->in_closure[i] != 0;
		at += strlen(strings + at) + 1;
	}
	for (i = 0; i < b->labels; i++) {
		uint32_t *l = (uint32_t *)((struct pti_label *)(image + h.labels.offset) + i);

		for (m = 0; m < 2; m++) {
			l[m] = (uint32_t)at;
			at += strlen(strings + at) + 1;
		}
	}
	at = settle(image, &h, &h.places, strings, at, b->places);
	settle(image, &h, &h.programs, strings, at, b->programs);
	memcpy(image, &h, sizeof h);
	free(strings);
	free(rules);
	free(t.nodes);
	*size = end;
	return image;

nomem:
	*why = "out of memory";
failed:
	free(strings);
	free(rules);
	free(t.nodes);
	return NULL;
}

void pt_build_free(void *image)
{
	free(image);
}

/* --- the check of everything --------------------------------------------------------- */

static bool unsound(const char **why, size_t *offset, const char *text, uint64_t at)
{
	*why = text;
	*offset = at;
	return false;
}

static bool ends(const struct pti_header *h, uint64_t text, uint64_t len)
{
	return text + len < h->strings.count && !((const char *)h + h->strings.offset)[text + len];
}

/* Of a table of places or programs. */
static bool pairs_end(const struct pti_header *h, const struct pti_section *table, const char *text, const char **why, size_t *offset)
{
	const struct pti_place *pairs = (const void *)((const char *)h + table->offset);
	uint64_t i;

	for (i = 0; i < table->count; i++)
		if (pairs[i].hash && !(ends(h, pairs[i].path, pairs[i].path_len) && ends(h, pairs[i].real, pairs[i].real_len)))
			return unsound(why, offset, text, table->offset + i * sizeof *pairs);
	return true;
}

bool pt_image_verify(const void *bytes, size_t size, const char **why, size_t *offset)
{
	const struct pti_header *h = bytes;
	const struct pti_rule *rules;
	const struct pti_node *nodes;
	const struct pti_owner *owners;
	const struct pti_port *ports;
	const struct pti_label *labels;
	uint64_t i, next;

	if (!pt_image_check(bytes, size, why, offset))
		return false;
	rules = (const void *)((const char *)bytes + h->rules.offset);
	nodes = (const void *)((const char *)bytes + h->nodes.offset);
	owners = (const void *)((const char *)bytes + h->owners.offset);
	ports = (const void *)((const char *)bytes + h->ports.offset);
	labels = (const void *)((const char *)bytes + h->labels.offset);
#define HERE(section, i) (h->section.offset + (i) * sizeof *section)
	for (i = 0; i < h->rules.count; i++) {
		if (!ends(h, rules[i].path, rules[i].path_len) || !ends(h, rules[i].target, rules[i].target_len) ||
		    rules[i].origin >= h->strings.count)
			return unsound(why, offset, "a rule's text lies outside", HERE(rules, i));
		if (rules[i].action > PT_DENY || rules[i].map > PT_WRITE)
			return unsound(why, offset, "a rule has an unknown action or map", HERE(rules, i));
	}
	/* breadth-first order: each node's children begin where the previous node's ended */
	next = 1 + !!h->root[0] + !!h->root[1];
	for (i = 1; i < h->nodes.count; i++) {
		const struct pti_node *n = nodes + i;
		uint64_t children = 0;
		int w;

		for (w = 0; w < 4; w++)
			children += (uint64_t)__builtin_popcountll(n->present[w]);
		if (children && n->first_child != next)
			return unsound(why, offset, "a node's children are out of order", HERE(nodes, i));
		next += children;
		if (next > h->nodes.count)
			return unsound(why, offset, "a node's children lie outside", HERE(nodes, i));
		if ((n->literal != PT_NO_RULE && n->literal >= h->rules.count) ||
		    (n->component != PT_NO_RULE && n->component >= h->rules.count))
			return unsound(why, offset, "a node names a rule that is not there", HERE(nodes, i));
		if ((uint64_t)n->edge + n->edge_len >= h->strings.count)
			return unsound(why, offset, "a node's text lies outside", HERE(nodes, i));
		if (!n->edge_len != (i == h->root[0] || i == h->root[1]))
			return unsound(why, offset, "a node takes no byte", HERE(nodes, i));
	}
	for (i = 0; i < h->owners.count; i++)
		if (owners[i].hash && owners[i].port >= h->ports.count)
			return unsound(why, offset, "a file's port is not there", HERE(owners, i));
	for (i = 0; i < h->ports.count; i++)
		if (ports[i].name >= h->strings.count)
			return unsound(why, offset, "a port's name lies outside", HERE(ports, i));
	for (i = 0; i < h->labels.count; i++)
		if (labels[i].key >= h->strings.count || labels[i].value >= h->strings.count)
			return unsound(why, offset, "a label lies outside", HERE(labels, i));
	return pairs_end(h, &h->places, "a place's text lies outside", why, offset) &&
	       pairs_end(h, &h->programs, "a program's text lies outside", why, offset);
}
