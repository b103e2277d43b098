/*
 * The loader's other doors on macOS. It opens files itself, past every wrapper, so that the name is judged before. It looks
 * at the return address to know whose @loader_path counts: the real function is left by a jump, as in dlopen's wrapper.
 */
#include "headers.h"

static __attribute__((noinline)) const char *library(uint16_t op, const char *name)
{
	if (!name || name[0] == '@' || !strchr(name, '/') || pt_quick_follow(AT_FDCWD, name, PT_ACC_READ))
		return name;
	struct pt_at at = { .dirfd = AT_FDCWD, .path = name, .access = PT_ACC_READ, .flags = PT_FOLLOW };
	int error = pt_judge(op, &at);
	if (error)
		name = "/nonexistent/hidden";
	else if (at.judged && at.path == at.slab->physical)
		name = at.path;        /* the loader keeps a copy; the slab's bytes stay as they are until its next use */
	pt_done(op, &at, error);
	return name;
}

bool PT_WRAP(dlopen_preflight)(const char *name);
PT_EXPORT bool PT_WRAP(dlopen_preflight)(const char *name)
{
	typedef bool real_t(const char *);
	return PT_JUMP(real_t, dlopen_preflight)(library(PT_OP_dlopen_preflight, name));
}

void *PT_WRAP(dlopen_audited)(const char *name, int flags);
PT_EXPORT void *PT_WRAP(dlopen_audited)(const char *name, int flags)
{
	typedef void *real_t(const char *, int);
	return PT_JUMP(real_t, dlopen_audited)(library(PT_OP_dlopen_audited, name), flags);
}

void *PT_WRAP(dlopen_from)(const char *name, int flags, void *caller);
PT_EXPORT void *PT_WRAP(dlopen_from)(const char *name, int flags, void *caller)
{
	typedef void *real_t(const char *, int, void *);
	return PT_JUMP(real_t, dlopen_from)(library(PT_OP_dlopen_from, name), flags, caller);
}

const void *PT_WRAP(NSAddImage)(const char *name, uint32_t options);
PT_EXPORT const void *PT_WRAP(NSAddImage)(const char *name, uint32_t options)
{
	typedef const void *real_t(const char *, uint32_t);
	return PT_JUMP(real_t, NSAddImage)(library(PT_OP_NSAddImage, name), options);
}

bool PT_WRAP(NSAddLibrary)(const char *name);
PT_EXPORT bool PT_WRAP(NSAddLibrary)(const char *name)
{
	typedef bool real_t(const char *);
	return PT_JUMP(real_t, NSAddLibrary)(library(PT_OP_NSAddLibrary, name));
}

int PT_WRAP(NSCreateObjectFileImageFromFile)(const char *name, void **image);
PT_EXPORT int PT_WRAP(NSCreateObjectFileImageFromFile)(const char *name, void **image)
{
	typedef int real_t(const char *, void **);
	return PT_JUMP(real_t, NSCreateObjectFileImageFromFile)(library(PT_OP_NSCreateObjectFileImageFromFile, name), image);
}
