#define PT_NO_RULE 4294967295
#define PT_NO_PORT 4294967295
enum pt_action { PT_ALLOW = 0, PT_REDIRECT = 1, PT_ASK = 2, PT_DENY = 3 };
enum pt_map { PT_READ = 0, PT_WRITE = 1 };
enum pt_access {
	PT_ACC_READ, PT_ACC_STAT, PT_ACC_EXEC, PT_ACC_LIST, PT_ACC_READLINK,
	PT_ACC_WRITE, PT_ACC_CREATE, PT_ACC_DELETE, PT_ACC_RENAME, PT_ACC_LINK, PT_ACC_ATTRIBUTES,
	PT_ACC_COUNT
};
enum pt_image_flag {
	PT_IMG_STRICT = 1,
	PT_IMG_AUDIT = 2,
	PT_IMG_LOG = 4,
	PT_IMG_FENCE = 8,
	PT_IMG_REDIRECTS = 16,
	PT_IMG_LIVE = 32,
	PT_IMG_DIRS_VISIBLE = 64,
	PT_IMG_FILTERED = 128,
};
struct pt_image;
struct pt_cursor {
	uint32_t node;
	uint32_t edge;
	uint32_t rule;
	uint8_t map;
};
enum pt_verdict_flag {
	PT_V_UNOWNED = 1,
	PT_V_BELOW = 2,
	PT_V_LIVE = 4,
	PT_V_SILENT = 8,
	PT_V_FALLBACK = 16,
	PT_V_ASKED = 32,
};
struct pt_verdict {
	uint8_t action;
	uint8_t flags;
	uint16_t reserved;
	uint32_t rule;
	uint32_t port;
};
struct pt_rule_view {
	const char *path, *target, *origin;
	uint32_t path_len, target_len;
	uint8_t action, map;
	bool literal, live, silent, fallback;
};
const struct pt_image *pt_image_check(const void *bytes, size_t size, const char **why, size_t *offset);
uint32_t pt_image_flags(const struct pt_image *);
uint64_t pt_image_seed(const struct pt_image *);
uint32_t pt_image_rules(const struct pt_image *);
bool pt_image_rule(const struct pt_image *, uint32_t rule, struct pt_rule_view *out);
const char *pt_image_port(const struct pt_image *, uint32_t port, bool *in_closure);
const char *pt_image_label(const struct pt_image *, const char *key);
size_t pt_image_front(const void *bytes, size_t size);
const char *pt_image_place(const struct pt_image *, const char *path, size_t len, size_t *real_len);
const char *pt_image_program(const struct pt_image *, const char *path, size_t len, size_t *real_len);
uint64_t pt_hash_dir(uint64_t seed, const char *dir, size_t len);
uint64_t pt_hash_child(uint64_t dirhash, const char *name, size_t len);
uint64_t pt_hash_path(uint64_t seed, const char *path, size_t len);
struct pt_cursor pt_cursor_root(const struct pt_image *, enum pt_map);
struct pt_cursor pt_cursor_descend(const struct pt_image *, struct pt_cursor, const char *name, size_t len);
bool pt_cursor_uniform(const struct pt_image *, struct pt_cursor);
struct pt_verdict pt_decide_child(const struct pt_image *, struct pt_cursor dir, uint64_t dirhash, const char *name, size_t len);
struct pt_verdict pt_decide(const struct pt_image *, enum pt_map, const char *path, size_t len);
enum pt_children { PT_CHILDREN_DIFFER, PT_CHILDREN_ALLOWED, PT_CHILDREN_OWNED };
enum pt_children pt_children(const struct pt_image *, struct pt_cursor dir, uint64_t dirhash);
size_t pt_redirect(const struct pt_image *, uint32_t rule, const char *path, size_t len, char *out, size_t cap);
size_t pt_unredirect(const struct pt_image *, const char *physical, size_t len, char *out, size_t cap);
