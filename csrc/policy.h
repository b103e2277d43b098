/*
 * The policy image: everything that a traced process needs to decide an
 * access, compiled by trace_start into one file that every process maps
 * read-only.  This header is the reader; csrc/builder.h makes images.
 *
 * Pure functions over a caller's bytes: no globals, no malloc, no system
 * calls, async-signal-safe.  The injected library, the supervisor and Python
 * (through cffi) use the same code, so that they answer alike.
 */
#ifndef PORTTRACE_POLICY_H
#define PORTTRACE_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The action bytes of the 2007 filemap; 3 is MacPorts' later addition. */
enum pt_action { PT_ALLOW = 0, PT_REDIRECT = 1, PT_ASK = 2, PT_DENY = 3 };

/* Which of the two ordered filemaps a call is judged by. */
enum pt_map { PT_READ = 0, PT_WRITE = 1 };

/* What a call intends to do with a path: the `access` of reports and logs. */
enum pt_access {
	PT_ACC_READ, PT_ACC_STAT, PT_ACC_EXEC, PT_ACC_LIST, PT_ACC_READLINK,                 /* judged by PT_READ */
	PT_ACC_WRITE, PT_ACC_CREATE, PT_ACC_DELETE, PT_ACC_RENAME, PT_ACC_LINK, PT_ACC_ATTRIBUTES, /* by PT_WRITE */
	PT_ACC_COUNT
};

#define PT_NO_RULE UINT32_MAX
#define PT_NO_PORT UINT32_MAX

enum pt_image_flag {
	PT_IMG_STRICT = 1u << 0,   /* unowned files in the ask area are denied */
	PT_IMG_AUDIT = 1u << 1,    /* refuse nothing, record everything */
	PT_IMG_LOG = 1u << 2,      /* record every access */
	PT_IMG_FENCE = 1u << 3,    /* the library raises the kernel's fence in the first child */
	PT_IMG_REDIRECTS = 1u << 4,/* some rule redirects: paths have two names */
	PT_IMG_LIVE = 1u << 5,     /* some ask rule wants a live answer from the socket */
	PT_IMG_DIRS_VISIBLE = 1u << 6, /* every existing directory may be stat'ed (later MacPorts) */
	PT_IMG_FILTERED = 1u << 7, /* the session runs under a seccomp filter itself, as in a container */
};

struct pt_image;               /* opaque: the first byte of a mapped image */

/* Where a walk through one map stands after a directory's path. */
struct pt_cursor {
	uint32_t node;             /* trie position; 0: no rule lies at or below it */
	uint32_t edge;             /* bytes of the node's edge already consumed */
	uint32_t rule;             /* best (smallest) matching rule so far, or PT_NO_RULE */
	uint8_t map;
};

enum pt_verdict_flag {
	PT_V_UNOWNED = 1u << 0,    /* in the ask area, no port's */
	PT_V_BELOW = 1u << 1,      /* denied, but something below may be visible: a directory here is */
	PT_V_LIVE = 1u << 2,       /* the rule wants a live answer: ask the socket */
	PT_V_SILENT = 1u << 3,     /* refuse without a finding ("predict") */
	PT_V_FALLBACK = 1u << 4,   /* redirect: where the target lacks the file, use the original */
	PT_V_ASKED = 1u << 5,      /* an ask rule decided: directories are never refused */
};

struct pt_verdict {
	uint8_t action;            /* PT_ALLOW, PT_REDIRECT or PT_DENY: an ask is already answered */
	uint8_t flags;
	uint16_t reserved;
	uint32_t rule;             /* index of the rule that won, or PT_NO_RULE: not listed */
	uint32_t port;             /* owner of the file where the ownership table was asked, or PT_NO_PORT */
};

/* A directory with this verdict is shown, whatever the flag for all directories (PT_IMG_DIRS_VISIBLE) says. */
static inline bool pt_by_itself(struct pt_verdict v)
{
	return v.action != PT_DENY || (v.flags & (PT_V_ASKED | PT_V_BELOW));
}

struct pt_rule_view {
	const char *path, *target, *origin; /* NUL-terminated, inside the image; target NULL unless redirect */
	uint32_t path_len, target_len;
	uint8_t action, map;
	bool literal, live, silent, fallback;
};

/*
 * NULL when the bytes are not a sound image; *why then says what is wrong and *offset where. Looks at the header
 * only: whatever the rest holds, no later call reads outside the image (builder.h has the check of everything).
 */
const struct pt_image *pt_image_check(const void *bytes, size_t size, const char **why, size_t *offset);
uint32_t pt_image_flags(const struct pt_image *);
uint64_t pt_image_seed(const struct pt_image *);
uint32_t pt_image_rules(const struct pt_image *);
bool pt_image_rule(const struct pt_image *, uint32_t rule, struct pt_rule_view *out);
const char *pt_image_port(const struct pt_image *, uint32_t port, bool *in_closure); /* NULL: no such port */
/*
 * All but the ownership table, which lies at the end: so many bytes of an image; 0: not sound. And the image by these bytes
 * alone, of which there may be up to `room`; NULL where they are no such beginning. `whole` gives all of it where the table is
 * asked, or NULL: then nothing is allowed that it has to say something about. Set before the first question.
 */
size_t pt_image_front(const void *bytes, size_t size);
const struct pt_image *pt_image_check_front(const void *bytes, size_t room);
void pt_image_whole_from(const struct pt_image *(*whole)(void));
const char *pt_image_label(const struct pt_image *, const char *key);                /* "port", "phase", "prefix", … or NULL */

/*
 * The real path of a directory that was there when the image was made, or NULL: not known. It is the place's own path
 * where no link leads there, and else that of the one link at its end.
 */
const char *pt_image_place(const struct pt_image *, const char *path, size_t len, size_t *real_len);

/*
 * The same of a program of the base system that the library can enter, and that has no rights of its own: where its name
 * leads in one step, which is itself where the name is no link. NULL: not known.
 */
const char *pt_image_program(const struct pt_image *, const char *path, size_t len, size_t *real_len);

/* Seeded hashes; pt_hash_path(dir + "/" + name) == pt_hash_child(pt_hash_dir(dir), name). The root directory's path is "". A directory's hash and its path's hash are the same value. */
uint64_t pt_hash_dir(uint64_t seed, const char *dir, size_t len);
uint64_t pt_hash_child(uint64_t dirhash, const char *name, size_t len);
uint64_t pt_hash_path(uint64_t seed, const char *path, size_t len);

/* Walk: start at the root directory, then one component at a time. */
struct pt_cursor pt_cursor_root(const struct pt_image *, enum pt_map);
struct pt_cursor pt_cursor_descend(const struct pt_image *, struct pt_cursor, const char *name, size_t len);
/* True when no rule lies below, so that every child has the directory's own rule. */
bool pt_cursor_uniform(const struct pt_image *, struct pt_cursor);
/* Have places below a real path rules of their own? They hold for names: a directory that is renamed would take them out of it. */
bool pt_rules_below(const struct pt_image *, enum pt_map, const char *path, size_t len);
/* The verdict of a directory's child (name without '/'); an empty name means the directory itself. `dirhash` is pt_hash_dir of the directory. */
struct pt_verdict pt_decide_child(const struct pt_image *, struct pt_cursor dir, uint64_t dirhash, const char *name, size_t len);
/*
 * For listings, name by name: what there is to ask about a directory's children. `allowed`: nothing. `owned`: only whose
 * they are, which pt_owned_child_allowed() says. `differ`: everything, of pt_decide_child().
 */
enum pt_children { PT_CHILDREN_DIFFER, PT_CHILDREN_ALLOWED, PT_CHILDREN_OWNED };
enum pt_children pt_children(const struct pt_image *, struct pt_cursor dir, uint64_t dirhash);
bool pt_owned_child_allowed(const struct pt_image *, uint64_t dirhash, const char *name, size_t len);
/* The verdict of a whole absolute, normalized path. */
struct pt_verdict pt_decide(const struct pt_image *, enum pt_map, const char *path, size_t len);

/*
 * Where a redirect rule sends `path`: the rule's prefix gives way to its target, a '/' at the end of either
 * counts as belonging to the rest. Length of what was written to `out`, or 0 (no such rule, not below it, too long).
 */
size_t pt_redirect(const struct pt_image *, uint32_t rule, const char *path, size_t len, char *out, size_t cap);
/* The reverse: the path by which a program knows a physical path (getcwd, /proc/self/cwd), or 0 where no redirect leads there. */
size_t pt_unredirect(const struct pt_image *, const char *physical, size_t len, char *out, size_t cap);

#endif
