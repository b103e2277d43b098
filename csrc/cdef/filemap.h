struct pt_filemap_entry {
	const char *path, *target;
	size_t path_len, target_len;
	size_t offset;
	uint8_t action;
};
int pt_filemap_next(const char *map, size_t size, size_t *offset, struct pt_filemap_entry *out, const char **why);
long pt_filemap_check(const char *map, size_t size, size_t *offset, const char **why);
long pt_filemap_match(const char *map, size_t size, const char *path, size_t len, struct pt_filemap_entry *out);
size_t pt_filemap_put(char *map, size_t cap, size_t at, const char *path, size_t path_len, uint8_t action,
		      const char *target, size_t target_len, const char **why);
bool pt_path_matches(const char *rule, size_t rule_len, bool literal, const char *path, size_t len);
