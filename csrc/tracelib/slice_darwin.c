/*
 * What a program says of libraries that others put into it: a segment __RESTRICT, and the flags and entitlements of its
 * signature. Read in pieces, and believed in nothing: the file may be anybody's, and may change meanwhile.
 */
#include <mach-o/loader.h>

#include "exec.h"

/* <kern/cs_blobs.h> of the kernel */
enum {
	SUPER_BLOB = 0xfade0cc0, DIRECTORY_SLOT = 0, ENTITLEMENTS_SLOT = 5,
	RESTRICT = 0x800, REQUIRE_LV = 0x2000, RUNTIME = 0x10000,
	MOST_COMMANDS = 1000, MOST_BLOBS = 64, MOST_TEXT = 1 << 18,
};

struct view {
	int fd;
	off_t at;
	ssize_t n;
	_Alignas(8) char bytes[2048];
};

/* `len` bytes of the file at a place; NULL: it has none. They stay until the next call. */
static const char *see(struct view *v, off_t at, size_t len)
{
	if (at < 0 || len > sizeof v->bytes)
		return NULL;
	if (at < v->at || at + (off_t)len > v->at + v->n) {
		v->at = at;
		v->n = sys_pread(v->fd, v->bytes, sizeof v->bytes, at);
		if (v->n < (ssize_t)len) {
			v->n = 0;
			return NULL;
		}
	}
	return v->bytes + (at - v->at);
}

static uint32_t big(const char *p)
{
	const unsigned char *b = (const unsigned char *)p;
	return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

/* Whether a list of entitlements (XML) has `key` with the value true. */
static bool entitled(struct view *v, off_t at, size_t size, const char *key)
{
	size_t n = strlen(key), most = n + 64;         /* with what stands between it and its value */
	for (size_t i = 0; i + n < size; i++) {
		size_t room = size - i < most ? size - i : most;
		const char *p = see(v, at + (off_t)i, room), *end = p + room;
		if (!p)
			return false;
		if (*p != '<' || memcmp(p, key, n) != 0)
			continue;
		for (p += n; p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r'); p++)
			;
		return end - p >= 7 && memcmp(p, "<true/>", 7) == 0;
	}
	return false;
}

/* The hardened runtime takes no DYLD_* and no library of others, but where the program is entitled to each. */
static const char *signature(struct view *v, off_t base)
{
	const char *p = see(v, base, 12);
	if (!p || big(p) != SUPER_BLOB)
		return NULL;
	uint32_t count = big(p + 8), flags = 0, size = 0;
	off_t entitlements = 0;
	for (uint32_t i = 0; i < count && i < MOST_BLOBS; i++) {
		if (!(p = see(v, base + 12 + 8 * (off_t)i, 8)))
			break;
		uint32_t slot = big(p);
		off_t at = base + big(p + 4);
		if (slot == DIRECTORY_SLOT && (p = see(v, at, 16))) {
			flags = big(p + 12);
		} else if (slot == ENTITLEMENTS_SLOT && (p = see(v, at, 8)) && big(p + 4) > 8) {
			entitlements = at + 8;
			size = big(p + 4) - 8;
		}
	}
	if (flags & RESTRICT)
		return "restricted";
	if (!(flags & (RUNTIME | REQUIRE_LV)))
		return NULL;
	if (size > MOST_TEXT)
		size = MOST_TEXT;
	if (flags & RUNTIME && !entitled(v, entitlements, size, "<key>com.apple.security.cs.allow-dyld-environment-variables</key>"))
		return "hardened";
	return entitled(v, entitlements, size, "<key>com.apple.security.cs.disable-library-validation</key>") ? NULL : "hardened";
}

const char *pt_slice_refuses(int fd, off_t start)
{
	struct view v = { .fd = fd };
	struct mach_header_64 h;
	const char *p = see(&v, start, sizeof h), *why = NULL;
	if (!p)
		return NULL;
	memcpy(&h, p, sizeof h);
	if (h.magic != MH_MAGIC_64)
		return NULL;
	off_t at = start + (off_t)sizeof h;
	for (uint32_t i = 0; i < h.ncmds && i < MOST_COMMANDS && (p = see(&v, at, sizeof(struct load_command))); i++) {
		struct load_command c;
		memcpy(&c, p, sizeof c);
		if (c.cmd == LC_SEGMENT_64 && (p = see(&v, at, sizeof c + 16)) && strncmp(p + sizeof c, "__RESTRICT", 16) == 0)
			return "restricted";
		if (c.cmd == LC_CODE_SIGNATURE && !why && (p = see(&v, at, sizeof(struct linkedit_data_command)))) {
			struct linkedit_data_command d;
			memcpy(&d, p, sizeof d);
			why = signature(&v, start + d.dataoff);
		}
		at += c.cmdsize;
	}
	return why;
}
