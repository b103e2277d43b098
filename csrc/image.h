/*
 * The bytes of a policy image, shared by its reader (policy.c) and its maker
 * (builder.c) only. Offsets count from the image's first byte; texts are
 * offsets into the strings section. Native byte order: an image never leaves
 * its machine.
 */
#ifndef PORTTRACE_IMAGE_H
#define PORTTRACE_IMAGE_H

#include <stdint.h>

#define PTI_MAGIC "PTIMAGE" /* with its NUL: eight bytes */
#define PTI_VERSION 4

struct pti_section {
	uint64_t offset, count;
};

struct pti_header {
	char magic[8];
	uint32_t version, flags;
	uint64_t size, seed;
	struct pti_section rules, nodes, owners, ports, labels, strings, places, programs, closed;
	uint32_t root[2];   /* first node of the read map and of the write map; 0: an empty map */
	uint32_t max_probe; /* longest search in the ownership table */
	uint32_t reserved;
};

enum { PTI_LITERAL = 1, PTI_LIVE = 2, PTI_SILENT = 4, PTI_FALLBACK = 8 };

struct pti_rule {
	uint32_t path, path_len, target, target_len, origin;
	uint8_t action, map, flags, reserved;
};

/*
 * One cache line. `present` has a bit for each byte with which a child's edge
 * begins; the children lie side by side in the order of that byte. Node 0 is
 * no node.
 */
struct pti_node {
	uint64_t present[4];
	uint32_t first_child;
	uint32_t edge, edge_len;     /* bytes between the parent and this node */
	uint32_t literal, component; /* smallest rule of each kind that ends here, or UINT32_MAX */
	uint32_t visible;            /* 1: at or below this node some rule does not deny */
	uint32_t reserved[2];
};

struct pti_owner {
	uint64_t hash; /* 0: free */
	uint32_t port, directory; /* the lower half of its directory's hash */
};

/*
 * Which directories hold files of ports outside the closure: 64-bit words, a bit for each hash of a directory, taken
 * modulo their number. A bit that is not set is certain.
 */
#define PTI_CLOSED_WORDS 4096
#define PTI_CLOSED_BIT(directory) ((uint32_t)(directory) % (PTI_CLOSED_WORDS * 64))

struct pti_port {
	uint32_t name, in_closure;
};

struct pti_label {
	uint32_t key, value;
};

/*
 * A directory by a path that names it, and its real path; or a program, and where its name leads in one step. Two
 * open-addressed tables, sought by pt_hash_path of the path.
 */
struct pti_place {
	uint64_t hash; /* 0: free */
	uint32_t path, path_len, real, real_len;
};

/* Maps a hash onto [0, slots) without a division; the table's size needs not be a power of two. */
#define PTI_SLOT(hash, slots) (((hash) >> 32) * (uint64_t)(slots) >> 32)

#endif
