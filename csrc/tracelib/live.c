/* A live answer from the session (csrc/ask.h says how it is spoken). No descriptor is kept. */
#include <sys/socket.h>
#include <sys/un.h>

#include "../ask.h"
#include "trace.h"

/* The session's socket and the number of our policy, from the library's own path …/PID/N/tracelib.so. */
static bool names(struct sockaddr_un *to, const char **number, size_t *len)
{
	size_t end = pt.path_len, start;
	while (end && pt.path[--end] != '/')
		;
	start = end;
	while (start && pt.path[start - 1] != '/')
		start--;
	if (!start || start + sizeof PT_ASK_SOCKET > sizeof to->sun_path)
		return false;
	*number = pt.path + start;
	*len = end - start;
	memset(to, 0, sizeof *to);
	to->sun_family = AF_UNIX;
	memcpy(to->sun_path, pt.path, start);
	memcpy(to->sun_path + start, PT_ASK_SOCKET, sizeof PT_ASK_SOCKET);
	return true;
}

static void take(struct pt_verdict *v, const unsigned char *answer, size_t n)
{
	v->action = answer[0] == PT_ALLOW ? PT_ALLOW : PT_DENY;
	v->flags = (uint8_t)((v->flags & ~PT_V_UNOWNED) | (answer[1] & PT_V_UNOWNED));
	v->port = PT_NO_PORT;
	const char *name;
	bool in;
	for (uint32_t i = 0; n > 2 && (name = pt_image_port(pt.image, i, &in)) != NULL; i++)
		if (strlen(name) == n - 2 && memcmp(name, answer + 2, n - 2) == 0)
			v->port = i;
}

bool pt_live_ask(enum pt_map map, const char *path, size_t len, struct pt_verdict *v)
{
	struct sockaddr_un to;
	const char *number;
	size_t digits;
	unsigned char answer[PT_ASK_ANSWER];
	bool ok = false;
	if (!names(&to, &number, &digits))
		return false;
	struct pt_slab *s = pt_slab_take(digits + 2 + len);
	if (!s)
		return false;
	if (digits + 2 + len <= s->cap) {
		memcpy(s->extra, number, digits);
		s->extra[digits] = 0;
		s->extra[digits + 1] = (char)map;
		memcpy(s->extra + digits + 2, path, len);
		ssize_t n = sys_ask(&to, s->extra, digits + 2 + len, answer, sizeof answer, PT_ASK_TIMEOUT_MS);
		if (n >= 2) {
			take(v, answer, (size_t)n);
			ok = true;
		}
	}
	pt_slab_give(s);
	return ok;
}
