size_t pt_eventlog_collect(const struct pt_events *, size_t mapped_size, struct pt_reading *cursor, uint32_t kinds,
			   struct pt_event *out, size_t room);
struct pt_names {
	const char *const *names;
	size_t count;
};
int64_t pt_eventlog_json(const struct pt_events *, size_t mapped_size, int fd, const struct pt_names *ops,
			 const struct pt_names *ports);
