#define PT_PATH_CAP 16384
struct pt_fs {
	void *user;
	ssize_t (*readlink)(void *user, const char *path, char *buf, size_t size);
	int (*exists)(void *user, const char *path);
};
enum pt_resolve_flag {
	PT_RES_NOFOLLOW_LAST = 1,
	PT_RES_CREATE = 2,
	PT_RES_ENTRY = 4,
};
struct pt_resolved {
	int error;
	bool slash;
	bool up, hidden;
	char *real;
	size_t real_len;
	char *physical;
	size_t physical_len;
	struct pt_verdict read;
};
bool pt_path_is_clean(const char *path, size_t len);
void pt_resolve(const struct pt_image *, const struct pt_fs *, const char *path, size_t len, unsigned flags,
		char *scratch, struct pt_resolved *out);
