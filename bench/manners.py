"""What would make the library a bad guest: one change of its source for each manner, for ``bench/mutants.py manners``."""

# ruff: noqa: E501  (a text that is to be found cannot be broken)

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Manner:
    """`edits`: (file of csrc/tracelib without .c, the text that is there once, what stands there instead)."""

    name: str
    edits: tuple[tuple[str, str, str], ...]


def _m(name: str, *edits: tuple[str, str, str]) -> Manner:
    return Manner(name, edits)


_MALLOC = "{ extern void *malloc(size_t); extern void free(void *); free(malloc(8)); }\n"
_BIG = "volatile char big[4096];\n\tbig[0] = big[4095] = 0;\n"
_LOCATE = "\tint error = pt_locate(at);\n\tif (error == PT_NO_ROOM) {"
_QUICK = "\tstruct taken t;\n\tif (unlikely(!pt_on() || !pt.plain || pt_bad_pointer(*path) || !take(*path, copy, &t)))"
_JUDGE = "\tat->slab = NULL;\n\tat->judged = false;\n\tat->outcome = PT_OUT_ALLOW;"
_EXEC = "\t*x = (struct pt_exec){ .path = path, .file = path, .dirfd = dirfd,"

MANNERS = (
    _m("a judgement takes memory of the program's allocator", ("judge", _JUDGE, f"\t{_MALLOC}{_JUDGE}")),
    _m("an exec takes memory of the program's allocator", ("exec", _EXEC, f"\t{_MALLOC}{_EXEC}")),
    _m(
        "a lock that a signal handler finds closed",
        (
            "judge",
            _LOCATE,
            "\tstatic _Atomic int lock;\n\twhile (atomic_exchange(&lock, 1))\n\t\t;\n"
            + _LOCATE.replace("if (error", "lock = 0;\n\tif (error"),
        ),
    ),
    _m(
        "a lock that a forked child finds closed",
        (
            "judge",
            _LOCATE,
            "\tstatic void *_Atomic lock;\n\tvoid *self = sys_thread(), *none = NULL;\n"
            "\tbool mine = lock == self;\n\twhile (!mine && !atomic_compare_exchange_strong(&lock, &none, self))\n"
            "\t\tnone = NULL;\n" + _LOCATE.replace("if (error", "if (!mine)\n\t\tlock = NULL;\n\tif (error"),
        ),
    ),
    _m(
        "errno is changed by a call that succeeds",
        (
            "judge",
            "\tpt_slab_give(at->slab);\n\tat->slab = NULL;\n}",
            "\tpt_slab_give(at->slab);\n\tat->slab = NULL;\n\terrno = EINVAL;\n}",
        ),
    ),
    _m("errno is changed on the quick way", ("quick", _QUICK, _QUICK.replace("\tif (", "\terrno = EINVAL;\n\tif ("))),
    _m("a descriptor is kept from the start", ("state", "\tpt_let_go(fd);\n\treturn p;", "\treturn p;")),
    _m(
        "a descriptor is left where a call was held to what was judged",
        (
            "files",
            "\t\t\t\terror = -sys_fstat(fd, st);\n\t\t\t\tsys_close(fd);\n",
            "\t\t\t\terror = -sys_fstat(fd, st);\n",
        ),
    ),
    _m("a judgement has a path on the stack", ("judge", _JUDGE, f"\t{_BIG}{_JUDGE}")),
    _m("an exec has a path on the stack", ("exec", _EXEC, f"\t{_BIG}{_EXEC}")),
    _m("the quick way has a path on the stack", ("quick", _QUICK, f"\t{_BIG}{_QUICK}")),
    _m(
        "buffers of calls that a jump has ended are missing for ever",
        ("slab", "\treturn s ? lay_out(s, PT_PATH_CAP) : NULL;", "\t(void)s;\n\treturn NULL;"),
    ),
    _m(
        "buffers of a vfork child that has executed are missing for ever",
        ("slab", "\t\t\tpt_slab_give(slab(n));\n\tstruct", "\t\t\t(void)0;\n\tstruct"),
    ),
    _m(
        "two calls get the same buffer",
        (
            "slab",
            "\t\tif (atomic_compare_exchange_weak_explicit(taken(), &now, now | 1ull << n, memory_order_acquire, memory_order_relaxed))",
            "\t\t*taken() = now | 1ull << n;\n\t\tif (true)",
        ),
    ),
    _m(
        "the wait in open is no cancellation point",
        (
            "files",
            "\t\treturn PT_REAL(open_t, open)(path, flags, mode);",
            "\t{\n\t\tint fd = (int)PT_SYS4(SYS_openat, AT_FDCWD, path, flags, mode);\n"
            "\t\treturn fd < 0 ? fail(-fd) : fd;\n\t}",
        ),
    ),
    _m("open of a file is no cancellation point", ("files", "\tpt_cancellation_point(op);", "\t(void)op;")),
    _m(
        "what a vfork child learns is believed of its parent",
        (
            "state",
            "\tpid_t now = sys_getpid();\n\tif (now == pt.first) {",
            "\tpid_t now = pt.first;\n\tif (now == pt.first) {",
        ),
    ),
    _m("vfork is not noticed", ("children", "\tpt_lend();\n\treal_t *real", "\treal_t *real")),
    _m(
        "clone of a process in the same memory is not noticed",
        ("children", "\tif ((flags & CLONE_VM) && !(flags & CLONE_THREAD))\n\t\tpt_lend();", ""),
    ),
    _m(
        "clone of a process with the same descriptors is not noticed",
        ("children", "\tif ((flags & CLONE_FILES) && !(flags & CLONE_VM))\n\t\tpt_fds_shared();", ""),
    ),
    _m(
        "a program's constructor comes before anything is known",
        (
            "state",
            "bool pt_start(void)\n{\n",
            "static bool constructed;\nbool pt_start(void)\n{\n\tif (!constructed)\n\t\treturn false;\n",
        ),
        ("state", "\t(void)argc;\n\tfind_name(argv);", "\t(void)argc;\n\tconstructed = true;\n\tfind_name(argv);"),
    ),
    _m("a forked child takes its parent's number for its own", ("tables", "\tif (sys_wipe_on_fork(p))\n", "")),
    _m(
        "a bad pointer is followed",
        ("judge", "\tif (!pt_on() || pt_bad_pointer(at->path))", "\tif (!pt_on())"),
    ),
    _m(
        "popen leaves its environment to the program",
        ("shell", "\tFILE *f = real(command, mode);\n\tenviron = before;", "\tFILE *f = real(command, mode);"),
    ),
    _m(
        "system leaves signals ignored",
        ("shell", "\t\t\tsigaction(SIGINT, &interrupt, NULL);\n\t\t\tsigaction(SIGQUIT, &quit, NULL);\n", ""),
    ),
    _m("system leaves signals blocked", ("shell", "\tsigprocmask(SIG_SETMASK, &shell.before, NULL);\n", "")),
    _m(
        "a cancelled system leaves its shell",
        ("shell", "\tpt_ending(run_shell, end_shell, &shell);", "\trun_shell(&shell);"),
    ),
    _m(
        "the first of two systems gives back what the other still does without",
        ("shell", "\t\tif (now > 0) {\n", "\t\tif (false) {\n"),
        ("shell", "\t\t} else if (now == -sys_getpid()) {", "\t\t} else if (false) {"),
    ),
    _m(
        "a thread that ends in scandir leaves its directory open",
        ("dirlist", "\tpt_ending(scan_read, scan_drop, &s);", "\tscan_read(&s);"),
    ),
    _m(
        "an emptied environment is handed on as it is",
        (
            "environ",
            "bool pt_environment_holds(char *const *envp, bool other)\n{\n",
            "bool pt_environment_holds(char *const *envp, bool other)\n{\n\tif (!envp || !*envp)\n\t\treturn true;\n",
        ),
    ),
    _m(
        "what is known of one descriptor is believed of the other in its place",
        ("fdinfo", "bool sure = d->key == pt_dir_key(fd) &&", "bool sure ="),
        ("fdinfo", "if (seq && !(seq & 1) && d->key == pt_dir_key(fd) &&", "if (seq && !(seq & 1) &&"),
        ("fdinfo", "\treturn d && slot_read(d, pt_dir_key(fd), NULL", "\treturn d && slot_read(d, d->key, NULL"),
        ("fdinfo", "PT_FD_KNOWN) && slot_read(d, pt_dir_key(fd), NULL", "PT_FD_KNOWN) && slot_read(d, d->key, NULL"),
        ("quick", "slot_glance(d, pt_dir_key(dirfd), NULL", "slot_glance(d, d->key, NULL"),
    ),
    _m("close_range is not noticed", ("fds", "\tpt_fd_forget_range(first, last < PT_FDS ? last : PT_FDS - 1);\n", "")),
    _m("closefrom is not noticed", ("fds", "\tpt_fd_forget_range(first < 0 ? 0 : (unsigned)first, PT_FDS - 1);\n", "")),
    _m("dup2 over a number is not noticed", ("fds", "\tif (old != fd)\n\t\tpt_fd_forget(fd);\n", "")),
    _m(
        "close is not noticed",
        ("fds", "\ttypedef int real_t(int);\n\tpt_fd_forget(fd);\n", "\ttypedef int real_t(int);\n"),
    ),
    _m("what the C library lacks has nothing behind it", ("real", "\treturn pt_lacking(name);", "\treturn NULL;")),
)
