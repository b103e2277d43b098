/*
 * Programs that the library cannot enter: the loader is absent (static), is of
 * another machine or C library, or drops LD_PRELOAD (set-user-ID and file
 * capabilities make it run in secure mode).
 */
#include <elf.h>

#include "../elf_linux.h"
#include "trace.h"

#if defined(__x86_64__)
#define OUR_MACHINE EM_X86_64
#elif defined(__aarch64__)
#define OUR_MACHINE EM_AARCH64
#endif

#ifdef __GLIBC__
#define OUR_LOADER "/ld-linux"
#define OTHER_LOADER "/ld-musl-"
#else
#define OUR_LOADER "/ld-musl-"
#define OTHER_LOADER "/ld-linux"
#endif

/* A part of the file, where it is: in what was read already, or in `room`, cut to that. NULL: not to be had. */
static const void *part(int fd, const unsigned char *head, size_t n, uint64_t from, size_t size, void *room)
{
	if (from <= n && size <= n - from)
		return head + from;
	return PT_SYS4(SYS_pread64, fd, room, size, from) == (long)size ? room : NULL;
}

/* A loader of another C library (glibc's are all called ld-linux…, musl's ld-musl-…): one that we have a library for, or foreign. */
static bool has_interpreter(int fd, const unsigned char *head, size_t n, struct pt_program *out, bool *go)
{
	const Elf64_Ehdr *e = (const Elf64_Ehdr *)head;
	bool found = false;
	for (unsigned i = 0; i < e->e_phnum && i < 64 && e->e_phentsize >= sizeof(Elf64_Phdr); i++) {
		Elf64_Phdr p;
		char room[256];
		const void *at = part(fd, head, n, e->e_phoff + (uint64_t)i * e->e_phentsize, sizeof p, &p);
		if (!at)
			break;
		memmove(&p, at, sizeof p);
		size_t size = p.p_filesz < sizeof room ? p.p_filesz : sizeof room;
		if (p.p_type == PT_NOTE && !*go) {
			at = part(fd, head, n, p.p_offset, size, room);
			*go = at && pt_elf_go_note(at, size);
		} else if (p.p_type == PT_INTERP) {
			char name[256];
			size -= size == sizeof name;
			at = part(fd, head, n, p.p_offset, size, room);
			if (at)
				memcpy(name, at, size);
			name[at ? size : 0] = 0;
			out->other = strstr(name, OTHER_LOADER) && pt_other_library();
			out->foreign = !out->other && !strstr(name, OUR_LOADER);
			found = true;
		}
	}
	return found;
}

/* Text that no format of the kernel begins like, those that an administrator adds (binfmt_misc) included: their marks hold bytes of no text. */
static bool is_plain(const unsigned char *head, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (head[i] == 0x7f || (head[i] < ' ' && !memchr("\t\n\r\f\v\b\033", head[i], 7)) || (i < 4 && head[i] > '~'))
			return false;
	return true;
}

int pt_inspect(const char *path, struct pt_program *out)
{
	_Alignas(16) unsigned char head[1024];
	bool go = false;
	out->untraced = NULL;
	out->script = out->text = out->plain = out->unseen = false;
	out->foreign = false;
	out->other = false;
	int fd = sys_open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	if (fd < 0) {
		if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP || fd == -ENAMETOOLONG || fd == -EMFILE || fd == -ENFILE)
			return -fd;
		out->unseen = true;    /* executable but not readable, most likely */
		if (fd == -EACCES && sys_fstatat(AT_FDCWD, path, &st, 0) == 0 && (st.st_mode & (S_ISUID | S_ISGID)))
			out->untraced = "set-user-ID";
		return 0;
	}
	long n = -1;
	if (sys_fstatat(fd, "", &st, AT_EMPTY_PATH) == 0 && S_ISREG(st.st_mode))
		n = PT_SYS4(SYS_pread64, fd, head, sizeof head, 0);
	if (n > 2 && head[0] == '#' && head[1] == '!') {
		out->script = pt_script_line((const char *)head, (size_t)n, out->interpreter, out->words);
		out->text = !out->script;
	} else if (n >= (long)sizeof(Elf64_Ehdr) && memcmp(head, ELFMAG, SELFMAG) == 0) {
		const Elf64_Ehdr *e = (const Elf64_Ehdr *)head;
		if (head[EI_CLASS] != ELFCLASS64 || e->e_machine != OUR_MACHINE)
			out->untraced = "other ABI", out->foreign = true;
		else if (!has_interpreter(fd, head, (size_t)n, out, &go))
			out->untraced = "static";
		else if (out->foreign)
			out->untraced = "other C library";
		else if ((st.st_mode & S_ISUID && st.st_uid != (uid_t)PT_SYS0(SYS_geteuid)) ||
			 ((st.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && st.st_gid != (gid_t)PT_SYS0(SYS_getegid)))
			out->untraced = "set-user-ID";
		else if (PT_SYS4(SYS_fgetxattr, fd, "security.capability", NULL, 0) > 0)
			out->untraced = "file capabilities";
		else if (go)
			out->untraced = "own calls";
	} else {
		out->text = n > 0;
	}
	out->plain = out->text && is_plain(head, (size_t)n);
	sys_close(fd);
	return 0;
}
