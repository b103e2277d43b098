/*
 * The fence: Landlock. "No write outside these places", set once, inherited,
 * irrevocable. It restricts writing only: what may be read is decided by the
 * other tiers, because Landlock can neither hide nor answer ENOENT.
 *
 * No malloc, no libc state, no globals: the launcher uses it, and so does the
 * injected library where it has to raise the fence in the first child.
 *
 * The list of places is a file of NUL-terminated records after one header line:
 *   "porttrace-fence 1\n"   then   'd' PATH '\0'  a directory, everything below it
 *                                  'f' PATH '\0'  one file (or device): write, truncate, ioctl
 * A place that does not exist is skipped: Landlock binds to what is there.
 */
#ifndef PORTTRACE_FENCE_LINUX_H
#define PORTTRACE_FENCE_LINUX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PT_FENCE_HEADER "porttrace-fence 1\n"

/* The kernel's Landlock ABI (7 on Linux 6.15 and later), 0 where there is none. */
int pt_fence_abi(void);

/* The file system rights that a fence of this ABI handles, and those granted below a directory and on a file. */
uint64_t pt_fence_handled(int abi);
uint64_t pt_fence_dir_rights(int abi);
uint64_t pt_fence_file_rights(int abi);

/*
 * Raise the fence for the calling thread and all that it starts from now on.
 * `std_fds`: descriptors 0 to 2 that are open for writing may be opened again (/dev/stdout, /proc/self/fd/1).
 * Sets no_new_privs. 0, or -errno: -EINVAL a malformed list, -EOPNOTSUPP no Landlock, -E2BIG too many layers.
 */
int pt_fence_raise(const char *list, size_t size, bool std_fds);

/* Does the list in this file let `path` (real, absolute) be written? false also where it cannot be read. */
bool pt_fence_covers_file(const char *list, const char *path);

/* The same from a file. */
int pt_fence_raise_file(const char *path, bool std_fds);

/*
 * Does the fence stand already? The kernel is asked, by making a device node in `probe`, the session's directory
 * "unfenced", where everybody may make files: a fence grants that right nowhere, wherever the directory lies. (A file
 * that is to be refused would not do: the session lies below /tmp, which most fences open.)
 */
bool pt_fence_stands(const char *probe);

#endif
