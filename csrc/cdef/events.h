enum pt_event_kind { PT_EV_PROCESS = 1, PT_EV_EXEC = 2, PT_EV_FINDING = 3, PT_EV_ACCESS = 4, PT_EV_UNTRACED = 5, PT_EV_USED = 6 };
enum pt_outcome {
	PT_OUT_ALLOW, PT_OUT_HIDE, PT_OUT_DENY, PT_OUT_REDIRECT, PT_OUT_UNOWNED, PT_OUT_ABSENT, PT_OUT_REDIRECTED_MISSING
};
#define PT_EVENTS_MIN ...
struct pt_event {
	uint8_t kind, access, outcome, tier;
	uint16_t op;
	int16_t error;
	int32_t pid, ppid;
	uint32_t image;
	uint32_t rule, port;
	uint32_t count;
	uint64_t time, chain;
	const char *path; uint32_t path_len;
	const char *asked; uint32_t asked_len;
};
struct pt_events;
int pt_events_create(const char *path, uint64_t capacity);
uint64_t pt_events_capacity(const struct pt_events *, size_t mapped_size);
uint64_t pt_events_opened(int fd, bool *room);
uint32_t pt_events_image(struct pt_events *, int fd, struct pt_event *process);
uint64_t pt_events_put(struct pt_events *, const struct pt_event *);
uint64_t pt_events_told_exec(struct pt_events *, int fd, const struct pt_event *exec);
bool pt_events_exec(const struct pt_events *, int fd, int32_t pid, const char *asked, uint64_t *room, size_t size, struct pt_event *out);
void pt_events_amend(struct pt_events *, uint64_t event, int error);
void pt_events_rule_used(struct pt_events *, uint32_t rule);
bool pt_events_rule_was_used(const struct pt_events *, uint32_t rule);
uint64_t pt_events_generation(const struct pt_events *);
void pt_events_bump(struct pt_events *);
struct pt_reading { uint64_t starts, arena; uint32_t waits, drops; bool last; };
bool pt_events_next(const struct pt_events *, size_t mapped_size, struct pt_reading *, struct pt_event *out);
#define PT_EVENTS_PART ...
bool pt_events_ends(int fd, uint64_t ends[2]);
bool pt_events_ends_sound(const struct pt_events *, size_t size);
uint64_t pt_events_extent(uint64_t capacity, uint64_t found);
int pt_events_copy(int from, int to, uint64_t size);
uint64_t pt_events_lost(const struct pt_events *);
