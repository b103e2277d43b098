struct pt_process {
	int32_t pid, ppid, group, session;
	uint32_t terminal;
	int32_t threads;
	uint64_t started;
	uint64_t memory;
	uint64_t env_end;
	char state;
	char name[64];
};
bool pt_process_parse(const char *text, struct pt_process *out);
bool pt_process_look(int32_t pid, struct pt_process *out);
size_t pt_process_all(int32_t *pids, size_t room);
ssize_t pt_process_exe(int32_t pid, char *path, size_t room);
size_t pt_words_environment(const char *block, size_t n);
