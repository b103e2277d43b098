/*
 * Feeds the policy code with broken and hostile input; to be built with the
 * address and undefined-behaviour sanitizers. usage: policy_fuzz SEED ROUNDS
 *
 * Every input lies in its own malloc'd block of exactly its size, so that a
 * single byte read behind it is seen.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "builder.h"
#include "filemap.h"
#include "path.h"

static uint64_t state;

static uint32_t rnd(uint32_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return below ? (uint32_t)(state >> 20) % below : 0;
}

static size_t random_path(char *out, size_t cap)
{
	static const char *const names[] = {"a", "b", "ab", "usr", "lib", "..", ".", "", "\xff\xfe", "proc", "12", "fd", "self"};
	size_t n = 0;
	int parts = 1 + (int)rnd(6);

	while (parts-- && n + 8 < cap)
		n += (size_t)sprintf(out + n, "/%s", names[rnd(sizeof names / sizeof *names)]);
	return n;
}

static void *build(size_t *size)
{
	char texts[4096], ports[] = "one\0two\0three", labels[] = "port\0foo", files[2048];
	uint8_t actions[16], maps[16], flags[16], in[3] = {1, 0, 1};
	uint32_t owner[32], i, files_count = rnd(32), bad;
	size_t n = 0, m = 0;
	struct pt_build b = {.rules = rnd(16), .actions = actions, .maps = maps, .rule_flags = flags, .rule_texts = texts,
			     .ports = 3, .port_names = ports, .port_names_size = sizeof ports, .in_closure = in,
			     .labels = 1, .label_texts = labels, .label_texts_size = sizeof labels, .seed = state,
			     .flags = rnd(128)};
	struct pt_owners *o;
	const char *why;
	void *image;

	for (i = 0; i < b.rules; i++) {
		actions[i] = (uint8_t)rnd(4);
		maps[i] = (uint8_t)rnd(2);
		flags[i] = (uint8_t)rnd(16);
		n += random_path(texts + n, 64) + 1;
		texts[n - 1] = '\0';
		while (n > 2 && texts[n - 2] == '/' && texts[n - 3]) {
			texts[n - 2] = '\0'; /* component rules come tidied */
			n--;
		}
		if (actions[i] == PT_REDIRECT)
			n += random_path(texts + n, 64);
		texts[n++] = '\0';
		n += (size_t)sprintf(texts + n, "line %u", i) + 1;
	}
	b.rule_texts_size = n;
	for (i = 0; i < files_count; i++) {
		m += random_path(files + m, 60) + 1;
		files[m - 1] = '\0';
		owner[i] = rnd(3);
	}
	o = pt_owners_new(files, m, owner, files_count, state);
	b.owners = rnd(4) ? o : NULL;
	image = pt_build_image(&b, size, &why, &bad);
	pt_owners_free(o);
	if (image) {
		size_t at;

		if (!pt_image_verify(image, *size, &why, &at)) {
			fprintf(stderr, "a fresh image is unsound: %s at %zu\n", why, at);
			abort();
		}
	}
	return image;
}

/* A file system that answers at random, within what the interface promises. */
static ssize_t fs_readlink(void *user, const char *path, char *buf, size_t size)
{
	char text[128];
	size_t n, skip;

	(void)user;
	if (strlen(path) >= PT_PATH_CAP)
		abort();
	switch (rnd(6)) {
	case 0: return -ENOENT;
	case 1: return -ENOTDIR;
	case 2:
		n = random_path(text, sizeof text);
		skip = n > 1 && rnd(2); /* a relative one */
		n = n - skip < size ? n - skip : size;
		memcpy(buf, text + skip, n);
		return (ssize_t)n;
	case 3:
		if (!rnd(50)) { /* a very long link */
			n = size < 5000 ? size : 5000;
			memset(buf, 'x', n);
			return (ssize_t)n;
		}
		/* fall through */
	default: return -EINVAL;
	}
}

static int fs_exists(void *user, const char *path)
{
	(void)user;
	(void)path;
	return rnd(3) ? 0 : rnd(2) ? -ENOENT : -ENOTDIR;
}

static void wrong(const char *what, const char *path, size_t n)
{
	fprintf(stderr, "%s: %.*s\n", what, (int)n, path);
	abort();
}

static void use(const struct pt_image *image, bool pristine)
{
	static const struct pt_fs fs = {NULL, fs_readlink, fs_exists};
	char path[256], *real = malloc(PT_PATH_CAP), *physical = malloc(PT_PATH_CAP), *scratch = malloc(PT_PATH_CAP), out[300];
	struct pt_resolved r;
	struct pt_rule_view view;
	bool in;
	int i;

	for (i = 0; i < 6; i++) {
		size_t n = random_path(path, sizeof path), k;
		char *exact = malloc(n ? n : 1);
		struct pt_cursor c;
		struct pt_verdict v;

		memcpy(exact, path, n);
		v = pt_decide(image, i & 1, exact, n);
		if (pt_image_rule(image, v.rule, &view))
			(void)!strlen(view.path), (void)!strlen(view.origin);
		if (pt_image_port(image, v.port, &in))
			(void)!strlen(pt_image_port(image, v.port, &in));
		k = pt_redirect(image, v.rule, exact, n, out, rnd(sizeof out));
		k = pt_unredirect(image, exact, n, out, rnd(sizeof out));
		(void)k;
		c = pt_cursor_root(image, i & 1);
		c = pt_cursor_descend(image, c, "usr", 3);
		c = pt_cursor_descend(image, c, "lib", 3);
		(void)pt_cursor_uniform(image, c);
		(void)pt_decide_child(image, c, 7, exact + (n > 1), n - (n > 1));
		r.real = real;
		r.physical = physical;
		pt_resolve(image, &fs, exact, n, rnd(8), scratch, &r);
		/* a broken image may name texts with a NUL inside: then only the bounds hold */
		if (r.real_len >= PT_PATH_CAP || strlen(r.real) > r.real_len || strlen(r.physical) > r.physical_len)
			wrong("a resolved path does not end", exact, n);
		if (pristine && (strlen(r.real) != r.real_len || strlen(r.physical) != r.physical_len || !r.real_len))
			wrong("a resolved path has another length than it says", exact, n);
		free(exact);
	}
	/* a path that nearly fills the buffers, with long links in it */
	{
		size_t n = PT_PATH_CAP - 1 - rnd(40), j;
		char *deep = malloc(n);

		for (j = 0; j < n; j++)
			deep[j] = j % 2 ? "ab."[rnd(3)] : '/';
		r.real = real;
		r.physical = physical;
		pt_resolve(rnd(4) ? image : NULL, &fs, deep, n, rnd(8), scratch, &r);
		free(deep);
	}
	(void)pt_image_label(image, "phase");
	free(real);
	free(physical);
	free(scratch);
}

static long fuzz_images(long rounds)
{
	long sound = 0, i;

	for (i = 0; i < rounds; i++) {
		size_t size, at;
		const char *why;
		char *good = build(&size), *bytes;
		uint32_t flips = rnd(3) ? 1 + rnd(12) : 0;
		bool pristine = !flips;
		const struct pt_image *image;

		if (!good)
			continue;
		if (!rnd(20))
			size = rnd((uint32_t)size);
		bytes = malloc(size ? size : 1);
		memcpy(bytes, good, size);
		pt_build_free(good);
		while (flips-- && size) {
			uint32_t where = rnd(2) ? rnd((uint32_t)size) : 160 + rnd(600);

			if (where < size)
				bytes[where] = (char)(rnd(3) ? rnd(256) : 255);
		}
		image = pt_image_check(bytes, size, &why, &at);
		if (image) {
			sound++;
			(void)pt_image_verify(bytes, size, &why, &at);
			use(image, pristine);
		} else if (!why || at > size) {
			wrong("an image was refused without a reason", "", 0);
		}
		free(bytes);
	}
	return sound;
}

static long fuzz_filemaps(long rounds)
{
	long sound = 0, i;

	for (i = 0; i < rounds; i++) {
		size_t size = rnd(60), j, offset;
		char *map = malloc(size ? size : 1);
		const char *why = NULL;
		struct pt_filemap_entry e;
		long n;

		for (j = 0; j < size; j++)
			map[j] = "\0\0\0\1\2\3\4/ab"[rnd(10)];
		if (size > 1 && rnd(2))
			map[size - 1] = map[size - 2] = '\0';
		n = pt_filemap_check(map, size, &offset, &why);
		if (n < 0 ? !why || offset > size : offset != size)
			wrong("a filemap's offset is not in it", map, size);
		sound += n >= 0;
		(void)pt_filemap_match(map, size, "/a/b", 4, &e);
		free(map);
	}
	return sound;
}

int main(int argc, char **argv)
{
	long rounds = argc > 2 ? atol(argv[2]) : 1000;

	state = (argc > 1 ? strtoull(argv[1], NULL, 10) : 1) * UINT64_C(0x9e3779b97f4a7c15) + 1;
	printf("%ld images passed the header's check, %ld filemaps were sound\n", fuzz_images(rounds), fuzz_filemaps(rounds * 20));
	return 0;
}
