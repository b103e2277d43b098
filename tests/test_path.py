"""The resolver: against the kernel where no rule interferes, and against a slow oracle over made-up trees."""

from __future__ import annotations

import errno
import os
import random
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from porttrace._core import lib
from porttrace.filemap import Action, Filemap, Rule
from porttrace.policy import Image, Ownership, Policy
from porttrace.resolve import Resolved, resolve

ALLOW, REDIRECT, ASK, DENY = Action.ALLOW, Action.REDIRECT, Action.ASK, Action.DENY


def image(rules: Iterable[Rule], **more: object) -> Image:
    return Image(Policy(Filemap(rules), **more).compile())  # type: ignore[arg-type]


# --- a made-up tree and a slow oracle ----------------------------------------------------------------------------


@dataclass
class Tree:
    """A file system in memory: path -> None (directory), b"" (file) or a link's text."""

    nodes: dict[bytes, bytes | None] = field(default_factory=lambda: {b"": None})

    def dir(self, *paths: bytes) -> None:
        for path in paths:
            parts = path.split(b"/")
            for i in range(2, len(parts) + 1):
                self.nodes.setdefault(b"/".join(parts[:i]), None)

    def put(self, path: bytes, text: bytes = b"") -> None:
        self.dir(path.rpartition(b"/")[0])
        self.nodes[path] = text

    def _find(self, path: bytes) -> bytes:
        """The node at a physical path whose directories are no links; raises as lstat does."""
        at = b""
        for part in path.split(b"/")[1:]:
            if at not in self.nodes:
                raise FileNotFoundError(errno.ENOENT, "")
            if self.nodes[at] is not None:
                raise NotADirectoryError(errno.ENOTDIR, "")
            if part not in (b"", b"."):
                at += b"/" + part
        if at not in self.nodes:
            raise FileNotFoundError(errno.ENOENT, "")
        return at

    def readlink(self, path: bytes) -> bytes:
        text = self.nodes[self._find(path)]
        if not text:
            raise OSError(errno.EINVAL, "")
        return text

    def exists(self, path: bytes) -> None:
        self._find(path)


def oracle(
    tree: Tree, rules: list[Rule], path: bytes, follow: bool = True, create: bool = False
) -> tuple[int, bytes, bool]:
    """(errno, real path, hidden): the rules of the game, recursion and copies, no care for speed."""

    def verdict(real: bytes) -> Rule | None:
        return next((r for r in rules if r.matches(real or b"/")), None)

    def hidden(real: bytes) -> bool:
        rule = verdict(real)
        if rule is not None and rule.action is not DENY:
            return False
        # visible as a directory when some rule that does not deny wins somewhere below
        return not any(
            verdict(r.path) is r and r.path.startswith(real + b"/") and r.action is not DENY for r in rules if r.path
        )

    def physical(real: bytes) -> list[bytes]:
        rule = verdict(real)
        if rule is None or rule.action is not REDIRECT:
            return [real]
        assert rule.target is not None
        stem = b"" if rule.path == b"/" else rule.path
        moved = rule.target.rstrip(b"/") + real[len(stem) :]
        return [moved, real] if rule.fallback else [moved]

    def kind(real: bytes) -> tuple[int, bytes | None]:
        worst = errno.ENOENT
        for name in physical(real):
            try:
                return 0, tree.nodes[tree._find(name)]
            except OSError as e:
                worst = e.errno or worst
                if e.errno != errno.ENOENT and len(physical(real)) > 1 and name != real:
                    continue
        try:
            tree._find(physical(real)[0])
        except OSError as e:
            worst = e.errno or worst
        return worst, None

    links = 0
    real = b""
    passed = False  # the walk came through here: a directory, even where a redirect lies below something that is none
    rest = [p for p in path.split(b"/") if p]
    slash, dot = path.endswith((b"/", b"/.")), path.rstrip(b"/").endswith(b"/.")
    while rest:
        part, last = rest.pop(0), not rest
        if part == b".":
            continue
        if part == b"..":
            if real and not passed:
                if hidden(real):
                    return errno.ENOENT, real, True
                error, node = kind(real)
                assert not error
                if node is not None:
                    return errno.ENOTDIR, b"", False
            real = real.rpartition(b"/")[0]
            passed = True
            continue
        passed = False
        parent, real = real, real + b"/" + part
        error, node = kind(real)
        if error == errno.ENOENT and last:
            return (0 if create else errno.ENOENT), real, False
        if error:
            if error != errno.ENOENT and parent and hidden(parent):
                return errno.ENOENT, parent, True
            return error, b"", False
        if node:  # a link
            if last and not follow and not slash:
                return 0, real, False
            if hidden(real):
                return errno.ENOENT, real, True
            links += 1
            if links > 40:
                return errno.ELOOP, b"", False
            if last and node.endswith((b"/", b"/.")):
                slash = True
            if last:
                dot = node.rstrip(b"/").endswith(b"/.") or node == b"."
            rest = [p for p in node.split(b"/") if p] + rest
            real = b"" if node.startswith(b"/") else parent
            passed = True
    if slash and real and not passed:
        error, node = kind(real)
        if not error and node is not None:
            parent = real.rpartition(b"/")[0]
            if hidden(real):
                return (0, real, False) if create and not dot else (errno.ENOENT, real, True)
            return (errno.ENOENT, parent, True) if parent and hidden(parent) else (errno.ENOTDIR, b"", False)
    return 0, real or b"/", False


NAMES = (b"a", b"b", b"c", b"dd", b"\xfe")


def random_tree(rng: random.Random) -> Tree:
    tree = Tree()
    places = [b""]
    for _ in range(rng.randint(4, 18)):
        path = rng.choice(places) + b"/" + rng.choice(NAMES)
        if path in tree.nodes:
            continue
        what = rng.random()
        if what < 0.5:
            tree.dir(path)
            places.append(path)
        elif what < 0.65:
            tree.put(path)
        else:
            tree.put(path, random_path(rng, absolute=rng.random() < 0.5))
    return tree


def random_path(rng: random.Random, absolute: bool = True) -> bytes:
    parts = [rng.choice((*NAMES, *NAMES, b"..", b".", b"")) for _ in range(rng.randint(1, 6))]
    path = b"/".join(parts) + rng.choice((b"", b"", b"", b"/", b"//", b"/.", b"/.."))
    return b"/" + path if absolute else path.lstrip(b"/") or b"."


def random_rules(rng: random.Random) -> list[Rule]:
    rules = []
    for _ in range(rng.randint(0, 5)):
        path = b"/" + b"/".join(rng.choice(NAMES) for _ in range(rng.randint(1, 3)))
        what = rng.random()
        if what < 0.4:
            rules.append(Rule(path, DENY))
        elif what < 0.7:
            rules.append(Rule(path, ALLOW))
        else:
            target = b"/" + b"/".join(rng.choice(NAMES) for _ in range(rng.randint(1, 2)))
            rules.append(Rule(path, REDIRECT, target, fallback=rng.random() < 0.5))
    if rng.random() < 0.8:
        rules.append(Rule(b"/", ALLOW))
    return rules


def check(tree: Tree, rules: list[Rule], path: bytes, follow: bool, create: bool) -> Resolved:
    got = resolve(image(rules), path, follow=follow, create=create, fs=tree)
    error, real, hidden = oracle(tree, rules, path, follow, create)
    where = (tree.nodes, [str(r) for r in rules], path, follow, create, got)
    assert got.error == error, where
    assert got.hidden == hidden, where
    if real:
        assert got.real == real, where
        if not hidden:
            wanted = next((i for i, r in enumerate(rules) if r.matches(got.real)), None)
            assert got.rule == wanted, where
    return got


def test_resolver_agrees_with_the_oracle() -> None:
    rng = random.Random(31)
    outcomes: dict[int, int] = {}
    hidden = 0
    for _ in range(6000):
        tree = random_tree(rng)
        rules = random_rules(rng) if rng.random() < 0.7 else [Rule(b"/", ALLOW)]
        for _ in range(3):
            got = check(tree, rules, random_path(rng), rng.random() < 0.7, rng.random() < 0.3)
            outcomes[got.error] = outcomes.get(got.error, 0) + 1
            hidden += got.hidden
    # the made-up trees reach every kind of outcome
    assert all(outcomes.get(e, 0) > 20 for e in (0, errno.ENOENT, errno.ENOTDIR, errno.ELOOP)), outcomes
    assert hidden > 50


# --- the kernel ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ground() -> Iterator[bytes]:
    top = tempfile.mkdtemp(prefix="porttrace-path-")
    yield os.fsencode(os.path.realpath(top))
    shutil.rmtree(top)


def kernel(path: bytes, follow: bool) -> tuple[int, bytes]:
    """What the kernel makes of a path: errno and, from /proc/self/fd, the real path."""
    try:
        fd = os.open(path, os.O_PATH | (0 if follow else os.O_NOFOLLOW))
    except OSError as e:
        return e.errno or 0, b""
    try:
        return 0, os.readlink(b"/proc/self/fd/%d" % fd)  # noqa: PTH115 - bytes
    finally:
        os.close(fd)


def test_resolver_agrees_with_the_kernel(ground: bytes) -> None:
    rng = random.Random(30)
    outcomes: dict[int, int] = {}
    for number in range(250):
        tree = random_tree(rng)
        top = ground + b"/%d" % number
        Path(os.fsdecode(top)).mkdir()
        for path, text in tree.nodes.items():
            name = Path(os.fsdecode(top + path))
            if text is None:
                name.mkdir(exist_ok=True)
            elif text == b"":
                name.touch()
            else:
                name.symlink_to(os.fsdecode(top + text if text.startswith(b"/") else text))
        for _ in range(30):
            path = top + random_path(rng)
            follow = rng.random() < 0.7
            got = resolve(None, path, follow=follow)
            error, real = kernel(path, follow)
            assert got.error == error, (tree.nodes, path, follow, got)
            if not error:
                assert got.real == real == got.physical, (tree.nodes, path, follow)
                if follow:
                    assert real == os.path.realpath(path)
            outcomes[error] = outcomes.get(error, 0) + 1
    assert all(outcomes.get(e, 0) > 20 for e in (0, errno.ENOENT, errno.ENOTDIR)), outcomes
    assert outcomes.get(errno.ELOOP, 0) > 5


def test_forty_links_are_followed_and_one_more_is_a_loop(ground: bytes) -> None:
    top = Path(os.fsdecode(ground)) / "chain"
    top.mkdir()
    (top / "0").touch()
    for i in range(1, 42):
        (top / str(i)).symlink_to(str(i - 1))
    for i in (1, 40, 41):
        path = os.fsencode(top / str(i))
        assert resolve(None, path).error == kernel(path, True)[0], i
    assert resolve(None, os.fsencode(top / "40")).real == os.fsencode(top / "0")
    assert resolve(None, os.fsencode(top / "41")).error == errno.ELOOP
    (top / "self").symlink_to("self")
    assert resolve(None, os.fsencode(top / "self/x")).error == errno.ELOOP


def test_links_of_proc(ground: bytes) -> None:
    here = Path(os.fsdecode(ground)) / "proc"
    here.mkdir()
    (here / "file").touch()
    top = os.fsencode(here)
    before = Path.cwd()
    os.chdir(here)
    directory = os.open(top, os.O_RDONLY)
    gone = os.open(top + b"/gone", os.O_CREAT | os.O_RDWR)
    (here / "gone").unlink()
    r, w = os.pipe()
    try:
        for path in (
            b"/proc/self/cwd/file",
            b"/proc/self/root" + top + b"/file",
            b"/proc/self/fd/%d/file" % directory,
            b"/dev/fd/%d/file" % directory,
            b"/proc/thread-self/cwd/../proc/./file",
            b"/proc/%d/task/%d/cwd/file" % (os.getpid(), os.getpid()),
        ):
            assert resolve(None, path).real == top + b"/file", path
        pid = os.getpid()
        for fd in (r, gone):  # no path leads there: the link itself is the path
            got = resolve(None, b"/dev/fd/%d" % fd)
            assert (got.error, got.real) == (0, b"/proc/%d/fd/%d" % (pid, fd))
            assert resolve(None, b"/dev/fd/%d/" % fd).error == errno.ENOTDIR
            assert resolve(None, b"/dev/fd/%d/x" % fd).error in (errno.ENOTDIR, errno.ENOENT)
        exe = resolve(None, b"/proc/self/exe")
        assert exe.real == os.path.realpath(b"/proc/self/exe")
        assert resolve(None, b"/proc/self/exe", follow=False).real == b"/proc/%d/exe" % pid
    finally:
        os.chdir(before)
        for fd in (directory, gone, r, w):
            os.close(fd)


def test_long_paths() -> None:
    tree = Tree()
    name = b"n" * 200
    deep = (b"/" + name) * 60  # 12,060 bytes: beyond what one call of the kernel takes
    tree.put(deep + b"/file")
    assert resolve(None, deep + b"/./file", fs=tree).real == deep + b"/file"
    too_long = b"/x" * (lib.PT_PATH_CAP // 2)
    assert resolve(None, too_long, fs=tree).error == errno.ENAMETOOLONG
    # a link whose text would not fit together with the rest
    tree.put(b"/link", deep)
    assert resolve(None, b"/link" + b"/." * 3000, fs=tree).error == errno.ENAMETOOLONG
    assert resolve(None, b"/link" + b"/." * 1500, fs=tree).real == deep
    long_name = b"/tmp/" + b"x" * 300
    assert resolve(None, long_name).error == errno.ENAMETOOLONG == kernel(long_name, True)[0]
    assert resolve(None, b"").error == errno.ENOENT


# --- the policy's part --------------------------------------------------------------------------------------------


def test_a_link_out_of_the_workpath_is_judged_by_where_it_points() -> None:
    tree = Tree()
    tree.put(b"/work/out", b"/home/me/secret")
    tree.put(b"/work/in", b"../work/file")
    tree.put(b"/home/me/secret")
    tree.put(b"/work/file")
    img = image([Rule(b"/work", ALLOW)])
    got = resolve(img, b"/work/out", fs=tree)
    assert (got.error, got.real, got.action) == (0, b"/home/me/secret", DENY)
    got = resolve(img, b"/work/out", follow=False, fs=tree)
    assert (got.real, got.action) == (b"/work/out", ALLOW)
    assert resolve(img, b"/work/in", fs=tree).action is ALLOW


def test_a_hidden_directory_does_not_show_through_errors() -> None:
    tree = Tree()
    tree.put(b"/home/me/file")
    tree.put(b"/home/me/link", b"/usr/bin")
    tree.put(b"/usr/bin/cc")
    img = image([Rule(b"/usr", ALLOW)])
    for path in (b"/home/me/file/x", b"/home/me/../../usr/bin/cc", b"/home/me/link/cc", b"/home/me/file/"):
        got = resolve(img, path, fs=tree)
        assert got.error == errno.ENOENT and got.hidden, path
    audit = image([Rule(b"/usr", ALLOW)], audit=True)
    assert resolve(audit, b"/home/me/../../usr/bin/cc", fs=tree).action is ALLOW
    assert resolve(audit, b"/home/me/link/cc", fs=tree).real == b"/usr/bin/cc"


def test_links_in_the_ask_area() -> None:
    tree = Tree()
    tree.put(b"/p/bin/stray", b"stray-1.0")
    tree.put(b"/p/bin/stray-1.0")
    tree.put(b"/p/lib64", b"lib")
    tree.put(b"/p/lib/libbar.so")
    tree.put(b"/prefix", b"/p")
    files = [(b"/p/bin/stray", "stray"), (b"/p/bin/stray-1.0", "stray"), (b"/p/lib/libbar.so", "libbar")]
    owners = Ownership(files, resolve=False)
    for strict in (False, True):
        rules = [Rule(b"/p", ASK), Rule(b"/prefix", ASK)]
        img = image(rules, owners=owners, closure=frozenset(["libbar"]), strict=strict)
        got = resolve(img, b"/p/bin/stray", fs=tree)
        assert (got.error, got.hidden, got.real) == (errno.ENOENT, True, b"/p/bin/stray")
        # directories are never refused, and so aren't nobody's links to them
        got = resolve(img, b"/prefix/lib64/libbar.so", fs=tree)
        assert (got.error, got.real, got.action) == (0, b"/p/lib/libbar.so", ALLOW)


def test_redirects_are_walked_in_the_programs_view() -> None:
    tree = Tree()
    tree.put(b"/sdk/usr/lib/libc.so", b"/lib/libc.so.6")  # absolute: means the SDK's /lib
    tree.put(b"/sdk/lib/libc.so.6")
    tree.put(b"/lib/libc.so.6")
    tree.put(b"/usr/share/perl/CPAN.pm")  # the SDK lacks it
    tree.put(b"/sdk/usr/lib64", b"lib")
    rules = [Rule(b"/sdk", ALLOW), Rule(b"/", REDIRECT, b"/sdk", fallback=True)]
    img = image(rules)
    got = resolve(img, b"/usr/lib64/libc.so", fs=tree)
    assert (got.error, got.real, got.physical) == (0, b"/lib/libc.so.6", b"/sdk/lib/libc.so.6")
    got = resolve(img, b"/usr/share/perl/CPAN.pm", fs=tree)
    assert (got.error, got.real, got.physical) == (0, b"/usr/share/perl/CPAN.pm", b"/usr/share/perl/CPAN.pm")
    got = resolve(img, b"/usr/share/perl/x/..", fs=tree)
    assert got.error == errno.ENOENT
    got = resolve(img, b"/usr/share/perl/../perl/..", fs=tree)
    assert (got.error, got.real, got.physical) == (0, b"/usr/share", b"/usr/share")
    got = resolve(img, b"/usr/lib/new", create=True, fs=tree)
    assert (got.error, got.real, got.physical) == (0, b"/usr/lib/new", b"/sdk/usr/lib/new")
    assert resolve(img, b"/", fs=tree).physical == b"/sdk"
    strict = image([rules[0], Rule(b"/", REDIRECT, b"/sdk")])
    assert resolve(strict, b"/usr/share/perl/CPAN.pm", fs=tree).error == errno.ENOENT


def test_the_working_directory_inside_a_redirect_has_its_own_name() -> None:
    tree = Tree()
    tree.put(b"/sdk/usr/include/stdio.h")
    tree.put(b"/proc/12/cwd", b"/sdk/usr/include")
    img = image([Rule(b"/sdk", ALLOW), Rule(b"/proc", ALLOW), Rule(b"/", REDIRECT, b"/sdk")])
    got = resolve(img, b"/proc/12/cwd/stdio.h", fs=tree)
    assert (got.real, got.physical) == (b"/usr/include/stdio.h", b"/sdk/usr/include/stdio.h")


def test_entries_are_meant_as_such() -> None:
    tree = Tree()
    tree.put(b"/d/link", b"target")
    tree.dir(b"/d/target")
    assert resolve(None, b"/d/link/", follow=False, fs=tree).real == b"/d/target"
    assert resolve(None, b"/d/link/", entry=True, fs=tree).real == b"/d/link"
    got = resolve(None, b"/d/new/", entry=True, create=True, fs=tree)
    assert (got.error, got.real, got.slash) == (0, b"/d/new", True)
    assert resolve(None, b"/d/new/.", entry=True, create=True, fs=tree).error == errno.ENOENT


@pytest.mark.parametrize(
    ("path", "clean"),
    [
        (b"/", True),
        (b"/a/b", True),
        (b"/a/.b/..c/...", True),
        (b"", False),
        (b"a", False),
        (b"/a/", False),
        (b"//a", False),
        (b"/a/./b", False),
        (b"/a/.", False),
        (b"/a/../b", False),
        (b"/a/..", False),
        (b"/..", False),
    ],
)
def test_clean_paths(path: bytes, clean: bool) -> None:
    assert bool(lib.pt_path_is_clean(path, len(path))) == clean
