/*
 * Reading many events at once, for the session's side only: Python takes the
 * findings in batches, and the full log (millions of records) becomes JSON
 * Lines here. May allocate; never part of the injected library.
 */
#ifndef PORTTRACE_EVENTLOG_H
#define PORTTRACE_EVENTLOG_H

#include "events.h"

/* Up to `room` events whose kind's bit (1 << kind) is in `kinds`; returns how many. Fewer than `room`: no more. */
size_t pt_eventlog_collect(const struct pt_events *, size_t mapped_size, struct pt_reading *cursor, uint32_t kinds,
			   struct pt_event *out, size_t room);

struct pt_names {
	const char *const *names; /* NUL-terminated, UTF-8 or bytes */
	size_t count;
};

/*
 * Writes every PT_EV_ACCESS record as one JSON object a line to `fd`, in order of time. `ops` names the rows of
 * csrc/calls.table, `ports` the ports of the image. Bytes that are not UTF-8 become \udc80 to \udcff, as Python's
 * surrogateescape has it. Returns the number of lines, or -errno.
 */
int64_t pt_eventlog_json(const struct pt_events *, size_t mapped_size, int fd, const struct pt_names *ops,
			 const struct pt_names *ports);

#endif
