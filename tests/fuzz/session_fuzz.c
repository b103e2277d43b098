/*
 * Feeds what a build can reach of its session with broken and hostile input: the event file (writers and readers), the
 * log, programs' headers, the fence's list, the launcher's arguments, and the supervisor's questions. To be built with the
 * address and undefined-behaviour sanitizers. usage: session_fuzz DIR SEED ROUNDS
 *
 * The parts are included, so that what is static in them is reached too; DIR is a directory of its own to work in.
 */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static jmp_buf left;
#define main launcher_main
#define _exit(status) longjmp(left, 1 + (status))
#define write(fd, bytes, size) ((void)(fd), (void)(bytes), (ssize_t)(size))
#include "launch/main.c"
#undef main
#undef _exit
#undef write
#include "fence_linux.c"

#include "eventlog.h"
#include "supervisor.h"

#include <sys/mman.h>
#include <sys/wait.h>

extern const struct pt_sup_call *pt_sup_call(int, bool);
void pt_sup_guard(void);

static uint64_t state;

static uint64_t wide(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static uint32_t rnd(uint32_t below)
{
	return below ? (uint32_t)(wide() >> 20) % below : 0;
}

static void scribble(unsigned char *bytes, size_t size, unsigned times)
{
	while (times--) {
		size_t at = rnd(3) ? rnd((uint32_t)(size < 8192 ? size : 8192)) : rnd((uint32_t)size);
		uint64_t value = rnd(3) ? wide() : (uint64_t)rnd(64) - 16;
		size_t n = 1u << rnd(4);
		if (n > size - at)
			n = size - at;
		memcpy(bytes + at, &value, n < 8 ? n : 8);
	}
}

/* ---- the event file: build processes write where and what they like ---- */

#define STARTS (1u << 20)      /* bytes mapped behind the capacity */

static volatile unsigned touched;

static unsigned checksum(const char *bytes, size_t size)
{
	unsigned sum = 0;
	while (size--)
		sum += (unsigned char)*bytes++;
	return sum;
}

static long fuzz_events(long rounds)
{
	const size_t size = PT_EVENTS_MIN;
	unsigned char *bytes = NULL;
	long read = 0;
	bool stale = true;
	int null = open("/dev/null", O_WRONLY), fd = -1;
	for (long i = 0; i < rounds; i++) {
		if (stale || i % 500 == 0) {
			stale = false;
			if (bytes)
				munmap(bytes, size + STARTS);
			close(fd);
			fd = memfd_create("events", 0);
			if (pt_events_begin(fd, size))
				abort();
			bytes = mmap(NULL, size + STARTS, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		}
		/* Told by calls half of the time, as long as there is room for the starts that this process has mapped. */
		off_t end = lseek(fd, 0, SEEK_END);
		int by = rnd(2) && end < (off_t)(size + STARTS - 4096) ? fd : -1;
		fcntl(fd, F_SETFL, O_APPEND);
		bool room;
		(void)pt_events_opened(fd, &room);
		struct pt_events *ev = (void *)bytes;
		char path[300], asked[40];
		struct pt_event e = { .kind = (uint8_t)(rnd(8)), .access = (uint8_t)rnd(14), .outcome = (uint8_t)rnd(9), .tier = (uint8_t)rnd(3),
				      .pid = rnd(4) ? getpid() : (int)rnd(70000), .ppid = (int)rnd(70000), .image = rnd(4) ? rnd(5000) : (uint32_t)wide(),
				      .path = path, .path_len = rnd(sizeof path), .asked = asked, .asked_len = rnd(sizeof asked), .port = rnd(9) };
		memset(path, 'a' + (int)rnd(20), sizeof path);
		memset(asked, 'A', sizeof asked);
		asked[rnd(sizeof asked)] = 0;
		asked[sizeof asked - 1] = 0;
		if (!pt_events_capacity(ev, size)) {
			struct pt_reading cursor = { 0 }; /* a reader must take it even so */
			(void)pt_events_next(ev, size, &cursor, &e);
			stale = true;
		} else if (e.kind == PT_EV_PROCESS) {
			(void)pt_events_image(ev, by, &e);
		} else if (e.kind == PT_EV_EXEC) {
			(void)pt_events_told_exec(ev, by, &e);
		} else if (e.kind) {
			pt_events_amend(ev, pt_events_put(ev, &e), (int)rnd(99));
		} else {
			struct pt_event out;
			uint64_t kept[48];
			if (pt_events_exec(ev, fd, e.pid, asked, kept, sizeof kept, &out))
				touched += checksum(out.path, out.path_len);
			pt_events_rule_used(ev, (uint32_t)wide());
			pt_events_link_seen(ev, wide());
			pt_events_bump(ev);
		}
		end = lseek(fd, 0, SEEK_END);
		if (!rnd(4))
			scribble(bytes, rnd(2) ? size : (size_t)end, 1 + rnd(3));
		if (!rnd(500) && ftruncate(fd, end + (off_t)rnd(200)))
			abort();
		if (!rnd(60)) {
			static struct pt_event out[64];
			struct pt_reading cursor = { .waits = 20 }; /* waits for nobody: they would take the time */
			if (!rnd(8)) {
				cursor.starts = wide();
				cursor.arena = wide();
			}
			for (size_t n = 0, got = 64; n < 50 && got == 64; n++) {
				got = pt_eventlog_collect(ev, (size_t)end, &cursor, ~0u, out, 64);
				for (size_t j = 0; j < got; j++) /* what it hands out can be read */
					touched += checksum(out[j].path, out[j].path_len) + checksum(out[j].asked, out[j].asked_len);
			}
			read++;
		}
		if (!rnd(4000)) {
			const char *ops[] = { "open", "stat" };
			struct pt_names names = { ops, 2 };
			(void)pt_eventlog_json(ev, (size_t)end, null, &names, &names);
		}
	}
	close(null);
	return read;
}

/* ---- a program's headers ---- */

static long fuzz_programs(long rounds)
{
	long known = 0;
	int self = open("/proc/self/exe", O_RDONLY);
	unsigned char good[6000], bytes[6000];
	if (read(self, good, sizeof good) != sizeof good)
		abort();
	close(self);
	int fd = memfd_create("program", 0);
	for (long i = 0; i < rounds; i++) {
		char interpreter[PT_SHEBANG], words[PT_WORDS];
		bool musl = false;
		size_t size = rnd(5) ? sizeof bytes : 1 + rnd(sizeof bytes);
		memcpy(bytes, good, sizeof bytes);
		scribble(bytes, 1200, rnd(6));
		if (!rnd(4))
			memcpy(bytes, "#!", 2);
		if (ftruncate(fd, 0) || pwrite(fd, bytes, size, 0) != (ssize_t)size)
			abort();
		known += pt_elf_entry_fd(fd, true, &musl, interpreter, words) != PT_ENTRY_NONE;
		(void)pt_elf_raw_calls(fd);
	}
	close(fd);
	return known;
}

/* ---- the fence's list ---- */

static long fuzz_lists(long rounds)
{
	long sound = 0;
	for (long i = 0; i < rounds; i++) {
		size_t size = rnd(120);
		char *list = malloc(size ? size : 1);
		for (size_t j = 0; j < size; j++)
			list[j] = "df/\0ab\n\xff"[rnd(8)];
		if (rnd(8) && size > sizeof PT_FENCE_HEADER)
			memcpy(list, PT_FENCE_HEADER, sizeof PT_FENCE_HEADER - 1);
		int err = allow_list(-1, list, size, 7); /* no rule set: what it accepts ends with EBADF */
		sound += err != -EINVAL;
		free(list);
	}
	return sound;
}

/* ---- the launcher's arguments ---- */

static long fuzz_arguments(long rounds)
{
	static const char *const words[] = {
		"--session", "--session=/tmp/x/1", "--uid", "--gid=12", "--groups", "--groups=1,2,3", "--fence", "--fence=/x", "--supervise",
		"--supervise=auto", "--no-preload", "--no-new-privs", "--chdir", "--exec", "--", "true", "-1", "4294967295", "4294967296", "1,2,",
		",", "", "/tmp/x/1", "--uid=", "--groups=1,,2", "--grou", "1e9", " 7", "+7", "99999999999999999999", "--exec=", "relative",
	};
	static char many[6000];
	volatile long taken = 0;
	for (volatile long i = 0; i < rounds; i++) {
		char *argv[12];
		int n = 0, count = 1 + (int)rnd(10);
		argv[n++] = (char *)(uintptr_t)"launch";
		while (n < count) {
			argv[n++] = (char *)(uintptr_t)words[rnd(sizeof words / sizeof *words)];
			if (!rnd(300)) {
				for (size_t j = 0; j + 2 < sizeof many; j += 2)
					memcpy(many + j, "1,", 2);
				argv[n - 1] = many;
			}
		}
		argv[n] = NULL;
		static struct options o;
		o = (struct options){ 0 };
		if (!setjmp(left)) {
			parse(&o, argv);
			taken++;
			if (!o.command || !*o.command || o.ids.ngroups > PT_MAX_GROUPS)
				abort();
		}
	}
	return taken;
}

/* Nobody works here but us. */
bool pt_tree_hire(struct pt_tree *tree)
{
	(void)tree;
	return false;
}

/* ---- the supervisor's questions: this process is the one that asks ---- */

static long fuzz_questions(const char *dir, const void *image, size_t size, long rounds)
{
	static struct pt_sup sup;
	static struct pt_task t;
	static struct pt_tree tree = { .listener = -1, .lock = PTHREAD_MUTEX_INITIALIZER };
	static char texts[64][256];
	static unsigned char room[1 << 16];
	const char *why;
	size_t where;
	long answered = 0;
	int fd = memfd_create("events", 0);
	if (pt_events_begin(fd, PT_EVENTS_MIN))
		abort();
	sup.events = mmap(NULL, PT_EVENTS_MIN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	sup.image = pt_image_check(image, size, &why, &where);
	if (!sup.image)
		abort();
	sup.flags = pt_image_flags(sup.image);
	sup.dir = dir;
	sup.dir_len = strlen(dir);
	tree.sup = t.sup = &sup;
	t.tree = &tree;
	pt_turn_begin(&tree);
	t.listener = -1; /* nobody waits: nothing is written back, and no wait is long */
	t.req = calloc(1, sizeof *t.req);
	t.resp = calloc(1, sizeof *t.resp);
	char **buffers[] = { &t.asked, &t.full, &t.scratch, &t.physical };
	for (unsigned i = 0; i < 4; i++)
		*buffers[i] = malloc(PT_PATH_CAP + 16);
	char *real = malloc(PT_PATH_CAP + 16);
	t.dents = malloc(PT_DENTS_CAP);
	static const char *const names[] = { "work", "hidden", "file", "..", ".", "link", "loop", "proc", "self", "fd", "exe", "cwd", "dev",
					     "null", "x", "", "dir", "tty", "root", "thread-self", "\xff\xfe" };
	for (long i = 0; i < rounds; i++) {
		static const int interesting[] = { -1, -100, 0, 1, 2, 3, 99, 0x7fffffff };
		char *text = texts[rnd(64)];
		size_t n = rnd(3) ? (size_t)snprintf(text, sizeof texts[0], "%s", dir) : 0;
		for (int parts = (int)rnd(7); parts && n < 200; parts--)
			n += (size_t)snprintf(text + n, sizeof texts[0] - n, "/%s", names[rnd(sizeof names / sizeof *names)]);
		if (!rnd(9))
			memset(text, 'a', sizeof texts[0]); /* goes on into the next */
		t.compat = !rnd(4);
		t.pid = rnd(50) ? getpid() : (pid_t)rnd(70000);
		do
			t.req->data.nr = (int)rnd(512);
		while (!(t.call = pt_sup_call(t.req->data.nr, t.compat)) && rnd(100));
		if (t.call && (t.call->shape == PT_SH_IOCTL || (t.call->shape == PT_SH_OPEN && !rnd(2))))
			continue; /* flags of files would stay behind; opens are the most, and the dearest */
		t.req->id = wide();
		t.req->pid = (uint32_t)t.pid;
		for (int a = 0; a < 6; a++)
			switch (rnd(7)) {
			case 0: t.req->data.args[a] = (uint64_t)interesting[rnd(8)]; break;
			case 1: t.req->data.args[a] = wide(); break;
			case 2: t.req->data.args[a] = (uint64_t)(uintptr_t)room + rnd(sizeof room); break;
			case 3: t.req->data.args[a] = rnd(70000); break;
			default: t.req->data.args[a] = (uint64_t)(uintptr_t)texts[rnd(64)]; break;
			}
		if (!rnd(50))
			scribble(room, sizeof room, 20);
		memset(&t.at, 0, sizeof t.at);
		t.at.real = real;
		t.at.physical = t.physical;
		pt_task_answer(&t);
		answered += t.resp->error != 0 || t.answered;
		if (t.at.real_len > PT_PATH_CAP || t.resp->val > PT_DENTS_CAP)
			abort();
	}
	free(real);
	return answered;
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	long rounds = atol(argv[3]);
	char path[512];
	size_t size;
	static char image[1 << 20];
	state = strtoull(argv[2], NULL, 10) * UINT64_C(0x9e3779b97f4a7c15) + 1;
	snprintf(path, sizeof path, "%s/policy", argv[1]);
	FILE *f = fopen(path, "r");
	if (!f || (size = fread(image, 1, sizeof image, f)) == 0)
		return 2;
	fclose(f);
	if (geteuid() == 0 && (setgid(65534) || setuid(65534)))
		return 2;
	pt_sup_calls();
	pt_sup_guard();
	printf("%ld readings of the event file, ", fuzz_events(rounds));
	fflush(stdout);
	printf("%ld programs were known, ", fuzz_programs(rounds / 20));
	printf("%ld lists were sound, ", fuzz_lists(rounds / 4));
	printf("%ld command lines were taken, ", fuzz_arguments(rounds / 4));
	fflush(stdout);
	printf("%ld questions were answered\n", fuzz_questions(argv[1], image, size, rounds / 4));
	return 0;
}
