struct pt_hunt {
	const uint64_t *tags;
	const char *mark;
	const char *others;
	int32_t below;
	int64_t uid;
	int32_t strangers;
	uint64_t since;
	const int32_t *spared, *own_sessions;
	int32_t sessions[64];
	uint32_t count;
};
enum pt_belongs { PT_GONE, PT_NOT_OURS, PT_OURS, PT_UNSURE, PT_ENDED };
uint64_t pt_hunt_tag(const char *directory);
enum pt_belongs pt_hunt_look(const struct pt_hunt *, int32_t pid, struct pt_process *out);
size_t pt_hunt_young(const struct pt_hunt *, int32_t *pids, size_t count);
struct pt_prey {
	int32_t pid;
	uint64_t started;
	char exe[512];
};
size_t pt_hunt(struct pt_hunt *hunt, int signal, unsigned milliseconds, unsigned rounds, struct pt_prey *out, size_t room);
