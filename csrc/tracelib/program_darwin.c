/*
 * Programs that the library cannot enter on macOS: of a machine for which it has
 * no slice (the loader would kill them: a missing inserted library is fatal), or
 * with a loader that drops DYLD_*: set-user-ID, protected by the system (SIP), or by
 * what the program says itself (slice_darwin.c).
 */
#include <libkern/OSByteOrder.h>
#include <mach-o/fat.h>
#include <mach-o/loader.h>

#include "exec.h"

#ifndef CPU_SUBTYPE_ARM64E
#define CPU_SUBTYPE_ARM64E 2
#endif
#ifndef SF_RESTRICTED
#define SF_RESTRICTED 0x00080000
#endif

static bool below(const char *path, const char *dir)
{
	size_t n = strlen(dir);
	return strncmp(path, dir, n) == 0 && path[n] == '/';
}

bool pt_sip_protected(const char *path, const struct stat *st)
{
	if (st->st_flags & SF_RESTRICTED)
		return true;
	return below(path, "/System") || below(path, "/bin") || below(path, "/sbin") || (below(path, "/usr") && !below(path, "/usr/local"));
}

/* "#!", then words up to the end of the line or a "#": the kernel makes an argument of each. Where it sees no end it takes none. */
static void interpreter(struct pt_program *out, const char *head, size_t n)
{
	size_t i = 2, k = 0, end = 2;
	while (end < n && head[end] != '\n' && head[end] != '#')
		end++;
	if (end == n)
		return;
	while (i < end) {
		while (i < end && (head[i] == ' ' || head[i] == '\t'))
			i++;
		size_t start = k;
		while (i < end && head[i] && head[i] != ' ' && head[i] != '\t')
			out->words[k++] = head[i++];
		if (k == start)
			break;
		out->words[k++] = 0;
		if (!start) {
			memcpy(out->interpreter, out->words, k);
			out->script = true;
		}
	}
	out->words[k] = 0;
}

enum { X86_64 = 1, ARM64 = 2, ARM64E = 4, OTHER = 8 };

static unsigned slice(uint32_t type, uint32_t subtype)
{
	subtype &= ~(uint32_t)CPU_SUBTYPE_MASK;
	if (type == CPU_TYPE_X86_64)
		return X86_64;
	return type != CPU_TYPE_ARM64 ? OTHER : subtype == CPU_SUBTYPE_ARM64E ? ARM64E : ARM64;
}

/*
 * Whether the slice that the kernel takes is one for which the library has its like. A native program goes on to native
 * ones, with pointer authentication where there is such a slice, for which an inserted library of plain arm64 is fatal; a
 * translated one (Rosetta) goes on to x86_64. Where the file leaves a choice that we cannot see (a preference given to
 * posix_spawn), the answer for what is there is the careful one.
 */
static bool enterable(unsigned slices)
{
#ifdef __x86_64__
	if (slices & X86_64)
		return true;
#endif
	return !(slices & ARM64E) && slices & (ARM64 | X86_64);
}

/* The slices of a fat file, and why one of them takes no libraries. */
static unsigned fat_slices(int fd, const char *head, ssize_t n, bool wide, const char **why)
{
	const struct fat_header *f = (const void *)head;
	unsigned found = 0;
	uint32_t count = OSSwapBigToHostInt32(f->nfat_arch);
	size_t size = wide ? sizeof(struct fat_arch_64) : sizeof(struct fat_arch);
	for (uint32_t i = 0; i < count && sizeof *f + (i + 1) * size <= (size_t)n; i++) {
		const char *at = head + sizeof *f + i * size;
		const struct fat_arch *a = (const void *)at;
		const struct fat_arch_64 *w = (const void *)at;   /* both begin alike */
		uint64_t start = wide ? OSSwapBigToHostInt64(w->offset) : OSSwapBigToHostInt32(a->offset);
		found |= slice(OSSwapBigToHostInt32((uint32_t)a->cputype), OSSwapBigToHostInt32((uint32_t)a->cpusubtype));
		if (!*why && start <= INT64_MAX)
			*why = pt_slice_refuses(fd, (off_t)start);
	}
	return found;
}

static unsigned slices_of(int fd, const char *head, ssize_t n, const char **why)
{
	uint32_t magic;
	memcpy(&magic, head, sizeof magic);
	if (magic == MH_MAGIC_64) {
		const struct mach_header_64 *h = (const void *)head;
		*why = pt_slice_refuses(fd, 0);
		return slice((uint32_t)h->cputype, (uint32_t)h->cpusubtype);
	}
	if (magic == MH_MAGIC || magic == MH_CIGAM || magic == MH_CIGAM_64)
		return OTHER;
	magic = OSSwapBigToHostInt32(magic);
	return magic == FAT_MAGIC || magic == FAT_MAGIC_64 ? fat_slices(fd, head, n, magic == FAT_MAGIC_64, why) : 0;
}

int pt_inspect(const char *path, struct pt_program *out)
{
	_Alignas(16) char head[1024];
	unsigned slices = 0;
	struct stat st;
	out->untraced = NULL;
	out->script = out->foreign = out->shielded = out->other = out->text = out->plain = out->unseen = false;
	out->words[0] = out->words[1] = 0;
	int fd = sys_open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0) {
		if (fd == -EACCES && sys_fstatat(AT_FDCWD, path, &st, 0) == 0 && (st.st_mode & (S_ISUID | S_ISGID)))
			out->untraced = "set-user-ID";
		return fd == -ENOENT || fd == -ENOTDIR ? -fd : 0;      /* of other errors the kernel itself tells */
	}
	ssize_t n = -1;
	const char *why = NULL;
	if (sys_fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		n = sys_pread(fd, head, sizeof head, 0);
	bool script = n > 2 && head[0] == '#' && head[1] == '!';
	if (!script && n >= (ssize_t)sizeof(struct mach_header_64))
		slices = slices_of(fd, head, n, &why);
	sys_close(fd);
	if (script)
		interpreter(out, head, (size_t)n < PT_SHEBANG ? (size_t)n : PT_SHEBANG);
	if (!slices)
		return 0;
	if ((st.st_mode & S_ISUID && st.st_uid != geteuid()) ||
	    ((st.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && st.st_gid != getegid()))
		out->untraced = "set-user-ID";
	else if (pt_sip_protected(path, &st))
		out->shielded = true;
	else if (!enterable(slices))
		out->untraced = "other ABI", out->foreign = true;
	else if (why)
		out->untraced = why, out->foreign = true;      /* of some the loader drops the variable, others it ends */
	return 0;
}
