#include "elf_linux.h"

#include <elf.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>

#include "sysraw.h"

#if defined(__x86_64__)
#define NATIVE EM_X86_64
#elif defined(__aarch64__)
#define NATIVE EM_AARCH64
#endif

struct view {
	const unsigned char *bytes;
	size_t size;
};

static bool map_file(int fd, struct view *v)
{
	long size = pt_raw3(SYS_lseek, fd, 0, 2 /* SEEK_END */);
	if (size <= 0)
		return false;
	long at = pt_raw6(SYS_mmap, 0, size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (at < 0 && at > -4096)
		return false;
	v->bytes = (const unsigned char *)at;
	v->size = (size_t)size;
	return true;
}

static const Elf64_Ehdr *native_elf(const struct view *v)
{
	const Elf64_Ehdr *e = (const void *)v->bytes;
	if (v->size < sizeof *e || e->e_ident[EI_CLASS] != ELFCLASS64 || e->e_machine != NATIVE ||
	    e->e_phentsize != sizeof(Elf64_Phdr) || e->e_phoff > v->size || e->e_phnum > (v->size - e->e_phoff) / sizeof(Elf64_Phdr))
		return NULL;
	return e;
}

/* A copy: nothing says that a hostile file's table is aligned. */
static Elf64_Phdr segment(const struct view *v, const Elf64_Ehdr *e, unsigned i, uint64_t *from, uint64_t *size)
{
	Elf64_Phdr p;
	__builtin_memcpy(&p, v->bytes + e->e_phoff + i * sizeof p, sizeof p);
	*from = p.p_offset < v->size ? p.p_offset : v->size;
	*size = p.p_filesz < v->size - *from ? p.p_filesz : v->size - *from;
	return p;
}

static bool has_calls(const unsigned char *p, size_t n)
{
#if defined(__x86_64__)
	for (size_t i = 0; i + 1 < n; i++)
		if ((p[i] == 0x0f && (p[i + 1] == 0x05 || p[i + 1] == 0x34)) || (p[i] == 0xcd && p[i + 1] == 0x80))
			return true; /* syscall, sysenter, int $0x80 */
#elif defined(__aarch64__)
	for (size_t i = 0; i + 3 < n; i += 4)
		if ((p[i] & 0x1f) == 1 && (p[i + 2] & 0xe0) == 0 && p[i + 3] == 0xd4)
			return true; /* svc */
#endif
	return false;
}

static bool raw_calls(const struct view *v, const Elf64_Ehdr *e)
{
	uint64_t from, size;
	for (unsigned i = 0; i < e->e_phnum; i++) {
		const Elf64_Phdr p = segment(v, e, i, &from, &size);
		if (p.p_type == PT_LOAD && (p.p_flags & PF_X) && ((p.p_flags & PF_W) || has_calls(v->bytes + from, size)))
			return true; /* also code that may change itself */
		if (p.p_type == PT_GNU_STACK && (p.p_flags & PF_X))
			return true;
	}
	return false;
}

static bool holds(const unsigned char *path, size_t n, const char *name, size_t len)
{
	for (size_t i = 0; i + len <= n; i++) {
		size_t j = 0;
		while (j < len && path[i + j] == (unsigned char)name[j])
			j++;
		if (j == len)
			return true;
	}
	return false;
}

/*
 * glibc's loaders are called ld-linux-x86-64.so.2 and the like, musl's ld-musl-x86_64.so.1: there is a library for each.
 * Another one would choke on ours.
 */
static bool is_known_loader(const unsigned char *path, size_t n, bool *musl)
{
	static const char glibc_name[] = "/ld-linux", musl_name[] = "/ld-musl-";
	*musl = holds(path, n, musl_name, sizeof musl_name - 1);
	return *musl || holds(path, n, glibc_name, sizeof glibc_name - 1);
}

bool pt_elf_go_note(const unsigned char *notes, size_t size)
{
	Elf64_Nhdr note;
	for (size_t at = 0; at + sizeof note + 4 <= size;) {
		__builtin_memcpy(&note, notes + at, sizeof note);
		const unsigned char *name = notes + at + sizeof note;
		if (note.n_namesz == 4 && note.n_type == 4 && name[0] == 'G' && name[1] == 'o' && !name[2])
			return true;
		at += sizeof note + (((uint64_t)note.n_namesz + 3) & ~3ull) + (((uint64_t)note.n_descsz + 3) & ~3ull);
	}
	return false;
}

static enum pt_entry elf(const struct view *v, bool scan, bool *musl)
{
	const Elf64_Ehdr *e = native_elf(v);
	bool loader = false, go = false;
	uint64_t from, size;
	if (!e)
		return PT_ENTRY_FOREIGN;
	for (unsigned i = 0; i < e->e_phnum; i++) {
		const Elf64_Phdr p = segment(v, e, i, &from, &size);
		if (p.p_type == PT_NOTE)
			go = go || pt_elf_go_note(v->bytes + from, size);
		if (p.p_type != PT_INTERP)
			continue;
		if (!is_known_loader(v->bytes + from, size, musl))
			return PT_ENTRY_FOREIGN;
		loader = true;
	}
	if (!loader)
		return PT_ENTRY_STATIC;
	if (go)
		return PT_ENTRY_OWN_CALLS;
	return scan && raw_calls(v, e) ? PT_ENTRY_RAW : PT_ENTRY_TRACELIB;
}

static bool blank(char c)
{
	return c == ' ' || c == '\t';
}

static size_t skip_blanks(const char *head, size_t i, size_t end)
{
	while (i < end && blank(head[i]))
		i++;
	return i;
}

bool pt_script_line(const char *head, size_t n, char interpreter[PT_SHEBANG], char words[PT_WORDS])
{
	size_t size = n < PT_SHEBANG ? n : PT_SHEBANG, end = 2, k = 0, i;
	bool plain = true;
	words[0] = 0;
	while (end < size && head[end] != '\n')
		end++;
	bool ends = end < size;
	while (ends && blank(head[end - 1]))
		end--;
	i = skip_blanks(head, 2, end);
	while (i < end && !blank(head[i]) && head[i])
		interpreter[k++] = head[i++];
	if (!k || (!ends && i == end && n >= PT_SHEBANG))
		return false;              /* no name, or one that may go on */
	interpreter[k] = 0;
	size_t argument = skip_blanks(head, i, end);
	for (size_t at = i; at < end; at++)
		plain = plain && head[at];
	if (!ends || !plain)
		return true;
	char *out = words;
	for (size_t at = 0; at <= k; at++)
		*out++ = interpreter[at];
	if (argument < end) {
		while (argument < end)
			*out++ = head[argument++];
		*out++ = 0;
	}
	*out = 0;
	return true;
}

static enum pt_entry entry_of(const struct view *v, bool scan, bool *musl, char *interpreter, char *words)
{
	char name[PT_SHEBANG], line[PT_WORDS];
	if (v->size > 4 && v->bytes[0] == 0x7f && v->bytes[1] == 'E' && v->bytes[2] == 'L' && v->bytes[3] == 'F')
		return elf(v, scan, musl);
	if (v->size > 2 && v->bytes[0] == '#' && v->bytes[1] == '!' &&
	    pt_script_line((const char *)v->bytes, v->size, interpreter ? interpreter : name, words ? words : line))
		return PT_ENTRY_SCRIPT;
	return PT_ENTRY_NONE;
}

enum pt_entry pt_elf_entry_fd(int fd, bool scan, bool *musl, char *interpreter, char *words)
{
	struct view v;
	enum pt_entry entry = PT_ENTRY_NONE;
	*musl = false;
	if (map_file(fd, &v)) {
		entry = entry_of(&v, scan, musl, interpreter, words);
		pt_raw2(SYS_munmap, v.bytes, v.size);
	}
	return entry;
}

enum pt_entry pt_elf_entry(const char *path, bool scan, bool *musl, char *interpreter, char *words)
{
	*musl = false;
	long fd = pt_raw4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0);
	if (fd < 0)
		return PT_ENTRY_NONE;
	enum pt_entry entry = pt_elf_entry_fd((int)fd, scan, musl, interpreter, words);
	pt_raw1(SYS_close, fd);
	return entry;
}

bool pt_elf_raw_calls(int fd)
{
	struct view v;
	if (!map_file(fd, &v))
		return false;
	const Elf64_Ehdr *e = native_elf(&v);
	bool raw = e && raw_calls(&v, e);
	pt_raw2(SYS_munmap, v.bytes, v.size);
	return raw;
}
