struct pt_hunt {
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
struct pt_prey {
	int32_t pid;
	char exe[512];
};
size_t pt_hunt(struct pt_hunt *hunt, int signal, unsigned milliseconds, unsigned rounds, struct pt_prey *out, size_t room);
