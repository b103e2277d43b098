/* What MacPorts' own test programs of darwintrace include as "../darwintrace.h": the names that they use of that
 * library's inside, as far as ours has something in its place, and what of macOS they use beyond POSIX.
 *
 * __darwintrace_initialized: our library has no switch by which a program could turn it off. The name is there so that
 * the programs compile; the tests that turn tracing off are left out (test_darwintrace.py names each).
 */
#pragma once
#include <errno.h>
#include <spawn.h>
#include <stdbool.h>
#include <unistd.h>

static bool __darwintrace_initialized __attribute__((unused)) = true;

#ifndef __APPLE__
/* macOS: the spawned program takes the place of this one, as by execve. Here it is that. */
#define POSIX_SPAWN_SETEXEC 0x0040 /* glibc has another use for this bit, which it ignores */

static inline int spawn_or_exec(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                                const posix_spawnattr_t *attributes, char *const argv[], char *const envp[]) {
    short flags = 0;
    if (attributes != NULL && posix_spawnattr_getflags(attributes, &flags) == 0 && (flags & POSIX_SPAWN_SETEXEC)) {
        execve(path, argv, envp);
        return errno;
    }
    return posix_spawn(pid, path, actions, attributes, argv, envp);
}
#define posix_spawn spawn_or_exec
#endif
