/* A live answer from the session (csrc/ask.h says how it is spoken); each worker keeps one connection. */
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "ask.h"
#include "supervisor_answer.h"

static int connected(struct pt_task *t)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	const char *number = strrchr(t->sup->dir, '/');
	int n = number ? snprintf(to.sun_path, sizeof to.sun_path, "%.*s/" PT_ASK_SOCKET, (int)(number - t->sup->dir), t->sup->dir) : -1;
	if (t->live > 0)
		return t->live - 1;
	if (n < 0 || n >= (int)sizeof to.sun_path)
		return -1;
	int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct timeval patience = { .tv_sec = PT_ASK_TIMEOUT_MS / 1000 };
	if (s >= 0 && (connect(s, (struct sockaddr *)&to, sizeof to) || setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience))) {
		close(s);
		s = -1;
	}
	t->live = s + 1;
	return s;
}

static void hang_up(struct pt_task *t)
{
	if (t->live > 0)
		close(t->live - 1);
	t->live = 0;
}

void pt_task_ask_live(struct pt_task *t, enum pt_map map, const char *path, size_t len, struct pt_verdict *v)
{
	const char *number = strrchr(t->sup->dir, '/');
	unsigned char answer[PT_ASK_ANSWER];
	if (!(v->flags & PT_V_LIVE) || !number)
		return;
	size_t digits = strlen(++number);
	if (digits + 2 + len > PT_DENTS_CAP || digits + 2 + len > PT_ASK_PACKET)
		return;
	memcpy(t->dents, number, digits + 1);
	t->dents[digits + 1] = (char)map;
	memcpy(t->dents + digits + 2, path, len);
	ssize_t got = -1;
	pt_turn_long(t->tree); /* for as long as the session thinks about it */
	for (int tries = 0; tries < 2 && got < 2; tries++) { /* the other end may have given up a connection that was long idle */
		int s = connected(t);
		if (s < 0)
			return;
		if (send(s, t->dents, digits + 2 + len, MSG_NOSIGNAL) > 0)
			got = recv(s, answer, sizeof answer, 0);
		if (got < 2)
			hang_up(t);
	}
	if (got < 2)
		return; /* the image's answer stands */
	v->action = answer[0] == PT_ALLOW ? PT_ALLOW : PT_DENY;
	v->flags = (uint8_t)((v->flags & ~PT_V_UNOWNED) | (answer[1] & PT_V_UNOWNED));
	v->port = PT_NO_PORT;
	const char *name;
	bool in;
	for (uint32_t i = 0; got > 2 && (name = pt_image_port(t->sup->image, i, &in)) != NULL; i++)
		if (strlen(name) == (size_t)got - 2 && !memcmp(name, answer + 2, (size_t)got - 2))
			v->port = i;
}
