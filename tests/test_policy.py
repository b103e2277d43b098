"""Policy images: the trie against linear matchers, the ownership table against SQLite, limits, broken images."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pace import pace

from porttrace._core import ffi, lib
from porttrace.filemap import Action, Filemap, Rule
from porttrace.policy import Decision, Image, Ownership, Policy, PolicyError

ALLOW, REDIRECT, ASK, DENY = Action.ALLOW, Action.REDIRECT, Action.ASK, Action.DENY


def image(read: Iterable[Rule] = (), write: Iterable[Rule] = (), **more: object) -> Image:
    return Image(Policy(Filemap(read), Filemap(write), **more).compile(), verify=True)  # type: ignore[arg-type]


# --- the reference: ten lines that anybody can check --------------------------------------------------------------


def reference(rules: list[Rule], path: bytes) -> int | None:
    for index, rule in enumerate(rules):
        top = rule.path
        if rule.literal:
            if path.startswith(top):
                return index
        elif top == b"/" or path == top or path.startswith(top + b"/"):
            return index
    return None


def reference_visible(rules: list[Rule], directory: bytes, paths: Iterable[bytes]) -> bool:
    """Some path below the directory has a verdict other than deny."""
    start = b"/" if directory == b"/" else directory + b"/"
    below = [p for p in paths if p.startswith(start)]
    found = [reference(rules, p) for p in below]
    return any(i is not None and rules[i].action is not DENY for i in found)


ALPHABET = (b"a", b"b", b"ab", b"ba", b"a.", b"\xff", b"long-name-of-more-than-eight-bytes")


def random_path(rng: random.Random, depth: int = 4) -> bytes:
    return b"/" + b"/".join(rng.choice(ALPHABET) for _ in range(rng.randint(0, depth)))


def random_rule(rng: random.Random) -> Rule:
    action = rng.choice([ALLOW, ALLOW, DENY, DENY, ASK, REDIRECT])
    literal = rng.random() < 0.4
    path = random_path(rng)
    if literal and rng.random() < 0.5:
        path = path[: rng.randint(1, len(path))] + rng.choice([b"", b"/", b"a"])
    return Rule(path, action, b"/target" if action is REDIRECT else None, literal=literal)


def test_trie_linear_matcher_and_reference_agree() -> None:
    """More than 100,000 cases, each decided four ways."""
    rng = random.Random(2007)
    cases = 0
    while cases < 100_000:
        read = [random_rule(rng) for _ in range(rng.randint(0, 12))]
        write = [random_rule(rng) for _ in range(rng.randint(0, 4))]
        img = image(read, write)
        bytes_2007 = Filemap([Rule(r.path, r.action, r.target, literal=True) for r in read]).to_bytes()
        as_literal = [Rule(r.path, r.action, r.target, literal=True) for r in read]
        entry = ffi.new("struct pt_filemap_entry *")
        paths = {random_path(rng, 5) for _ in range(60)}
        for path in paths:
            for rules, number, base in ((read, 0, 0), (write, 1, len(read))):
                wanted = reference(rules, path)
                v = lib.pt_decide(img.pointer, number, path, len(path))
                got = v.rule - base if v.rule != lib.PT_NO_RULE else None
                assert got == wanted, (rules, path)
                linear = next((i for i, r in enumerate(rules) if r.matches(path)), None)
                assert linear == wanted, (rules, path)
                action = rules[wanted].action if wanted is not None else DENY
                assert v.action == (ALLOW if action is ASK else action)  # nobody owns anything here
                # the same, one directory at a time
                cursor = lib.pt_cursor_root(img.pointer, number)
                hashed = img.seed
                *directories, name = path.split(b"/")[1:]
                for d in directories:
                    cursor = lib.pt_cursor_descend(img.pointer, cursor, d, len(d))
                    hashed = lib.pt_hash_child(hashed, d, len(d))
                assert hashed == lib.pt_hash_dir(img.seed, path, len(path) - len(name))
                if path != b"/":
                    c = lib.pt_decide_child(img.pointer, cursor, hashed, name, len(name))
                    assert (c.action, c.flags, c.rule, c.port) == (v.action, v.flags, v.rule, v.port), (rules, path)
                    if lib.pt_cursor_uniform(img.pointer, cursor):
                        assert c.rule == cursor.rule
                cases += 1
            at = lib.pt_filemap_match(bytes_2007, len(bytes_2007), path, len(path), entry)
            assert (None if at < 0 else at) == reference(as_literal, path)


def test_directories_above_something_visible_are_visible() -> None:
    rng = random.Random(2012)
    names = (b"a", b"b", b"ab", b"aa", b"a.")
    every = [b"/" + b"/".join(t) for t in _tuples(names, 4)] + [b"/"]
    for _ in range(40):
        rules = []
        for _ in range(rng.randint(1, 7)):
            path = b"/" + b"/".join(rng.choice(names) for _ in range(rng.randint(0, 3)))
            rules.append(Rule(path, rng.choice([ALLOW, DENY]), literal=path != b"/" and rng.random() < 0.3))
        img = image(rules)
        # a literal rule may speak of names that are not in the list
        known = every + [rule.path + b"x" for rule in rules if rule.literal]
        for path in [b"/", *rng.sample(every, 80)]:
            if path.count(b"/") > 3:
                continue  # what lies below those is not in the list
            v = lib.pt_decide(img.pointer, 0, path, len(path))
            if v.action == DENY:
                assert bool(v.flags & lib.PT_V_BELOW) == reference_visible(rules, path, known), (rules, path)


def _tuples(names: tuple[bytes, ...], depth: int) -> Iterable[tuple[bytes, ...]]:
    for n in range(1, depth + 1):
        for number in range(len(names) ** n):
            yield tuple(names[number // len(names) ** k % len(names)] for k in range(n))


# --- hashes --------------------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**64 - 1), st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=6))
def test_hashes_are_composable(seed: int, raw: list[bytes]) -> None:
    names = [n.replace(b"/", b"_").replace(b"\0", b"_") for n in raw]
    path = b"/" + b"/".join(names)
    directory = path.rpartition(b"/")[0]
    whole = lib.pt_hash_path(seed, path, len(path))
    assert whole == lib.pt_hash_child(lib.pt_hash_dir(seed, directory, len(directory)), names[-1], len(names[-1]))
    other = path + b"x"
    assert whole != lib.pt_hash_path(seed, other, len(other))
    assert whole != lib.pt_hash_path(seed ^ 1, path, len(path))


def test_hashes_of_similar_names_differ_and_spread() -> None:
    seen = set()
    for i in range(200_000):
        name = b"/opt/local/share/doc/pkg%d/file%d.html" % (i % 997, i)
        seen.add(lib.pt_hash_path(42, name, len(name)))
    assert len(seen) == 200_000
    assert len({h >> 48 for h in seen}) > 60_000  # the upper bits choose the slot: they must spread


# --- ownership -----------------------------------------------------------------------------------------------------


def test_ownership_agrees_with_sqlite() -> None:
    rng = random.Random(2020)
    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE files (path BLOB PRIMARY KEY, port TEXT)")
    rows = []
    for _ in range(5000):
        path = b"/opt/p" + random_path(rng, 6) + b"/%d" % rng.randint(0, 4000)
        port = f"Port{rng.randint(0, 40)}"
        if db.execute("INSERT OR IGNORE INTO files VALUES (?, ?)", (path, port)).rowcount:
            rows.append((path, port))
    declared = frozenset(f"port{i}" for i in range(0, 40, 2))  # names compare without case
    for strict in (False, True):
        owners = Ownership(rows, resolve=False)
        img = image([Rule(b"/opt/p", ASK)], owners=owners, closure=declared, strict=strict)
        for _ in range(10_000):
            path = b"/opt/p" + random_path(rng, 6) + b"/%d" % rng.randint(0, 4000)
            found = db.execute("SELECT port FROM files WHERE path = ?", (path,)).fetchone()
            got = img.decide(path)
            assert got.port == (found[0] if found else None)
            assert got.unowned == (found is None)
            allowed = found[0].lower() in declared if found else not strict
            assert (got.action is ALLOW) == allowed
            assert allowed or got.visible_dir  # an ask never refuses a directory


def test_the_first_owner_stays() -> None:
    owners = Ownership([(b"/p/f", "one"), (b"/p/f", "two")])
    assert len(owners) == 1
    assert image([Rule(b"/p", ASK)], owners=owners).decide(b"/p/f").port == "one"


def test_files_are_known_by_their_real_name_too(tmp_path: Path) -> None:
    (tmp_path / "real/lib").mkdir(parents=True)
    (tmp_path / "prefix").symlink_to("real")
    (tmp_path / "real/lib64").symlink_to("lib")
    top = bytes(tmp_path)
    rows = [(top + b"/prefix/lib64/libz.so", "zlib"), (top + b"/prefix/lib/other", "other"), (b"/gone/x", "gone")]
    owners = Ownership(rows)
    img = image([Rule(top, ASK)], owners=owners)
    for name in (b"/prefix/lib64/libz.so", b"/real/lib/libz.so"):
        assert img.decide(top + name).port == "zlib", name
    assert img.decide(top + b"/real/lib/other").port == "other"
    assert img.decide(top + b"/real/lib/unknown").unowned


def test_nul_in_a_registered_path_is_refused() -> None:
    with pytest.raises(PolicyError, match="NUL"):
        Ownership([(b"/a\0b", "x")])


# --- decisions -----------------------------------------------------------------------------------------------------


def test_redirects_lead_below_their_target() -> None:
    img = image(
        [
            Rule(b"/usr", REDIRECT, b"/sdk/usr/"),
            Rule(b"/lib", REDIRECT, b"/x", literal=True),
            Rule(b"/sdk", ALLOW),
            Rule(b"/", REDIRECT, b"/sdk", fallback=True),
        ]
    )

    def physical(path: bytes) -> bytes | None:
        return img.decide(path).physical

    assert physical(b"/usr/include/stdio.h") == b"/sdk/usr/include/stdio.h"
    assert physical(b"/usr") == b"/sdk/usr"
    assert physical(b"/lib64/ld.so") == b"/x64/ld.so"
    assert physical(b"/etc/passwd") == b"/sdk/etc/passwd"
    assert physical(b"/") == b"/sdk"
    assert physical(b"/sdk/usr") is None
    assert img.decide(b"/etc").fallback and not img.decide(b"/usr").fallback
    assert img.flags & lib.PT_IMG_REDIRECTS
    out = ffi.new("char[]", 64)

    def virtual(path: bytes) -> bytes:
        return bytes(ffi.buffer(out, lib.pt_unredirect(img.pointer, path, len(path), out, 64)))

    assert virtual(b"/sdk/usr/include") == b"/usr/include"
    assert virtual(b"/sdk/etc") == b"/etc"
    assert virtual(b"/sdk") == b"/"
    assert virtual(b"/sdkx/etc") == b""
    # no room: nothing is written rather than something cut off
    assert lib.pt_redirect(img.pointer, 0, b"/usr/include", 12, out, 16) == 0


def test_a_redirect_needs_an_absolute_target() -> None:
    with pytest.raises(PolicyError, match=r"/a \(line 3\).*target"):
        Policy(Filemap([Rule(b"/a", REDIRECT, b"b", origin="line 3")])).compile()
    with pytest.raises(PolicyError, match="begin with '/'"):
        Policy(Filemap([Rule(b"a", ALLOW, literal=True)])).compile()
    with pytest.raises(PolicyError, match="NUL"):
        Policy(Filemap([Rule(b"/a\0b", ALLOW, literal=True)])).compile()


def test_flags_labels_and_rules_come_back() -> None:
    rules = [
        Rule(b"/a", ASK, live=True, origin="somewhere — é"),
        Rule(b"/b", DENY, silent=True, literal=True),
        Rule(b"/", REDIRECT, b"/t", fallback=True),
    ]
    policy = Policy(
        Filemap(rules), Filemap(rules[1:]), Path("/opt/x"), port="foo", phase="build", strict=True, audit=True, log=True
    )
    img = Image(policy.compile(), verify=True)
    wanted = (
        lib.PT_IMG_STRICT
        | lib.PT_IMG_AUDIT
        | lib.PT_IMG_LOG
        | lib.PT_IMG_FENCE
        | lib.PT_IMG_REDIRECTS
        | lib.PT_IMG_LIVE
    )
    assert img.flags == wanted
    assert (img.label("port"), img.label("phase"), img.label("prefix")) == ("foo", "build", "/opt/x")
    assert img.label("nothing") is None
    assert list(img.filemap("read")) == rules and list(img.filemap("write")) == rules[1:]
    assert img.decide(b"/a/x").live and img.decide(b"/bb").silent
    assert img.rule(99) is None and img.port(99) is None


def test_an_empty_policy_denies_and_shows_nothing() -> None:
    img = image()
    wanted = Decision(DENY, None, None, None, unowned=False, visible_dir=False)
    assert img.decide(b"/") == wanted and img.decide(b"/etc/group", "write") == wanted


# --- limits --------------------------------------------------------------------------------------------------------


def test_ten_thousand_rules_and_half_a_million_files(capsys: pytest.CaptureFixture[str]) -> None:
    files = [(b"/opt/local/share/dir%d/sub%d/file%d.h" % (i % 3000, i % 17, i), f"p{i % 900}") for i in range(500_000)]
    rules = [Rule(b"/r%d/some/dir%d" % (i % 100, i), DENY if i % 3 else ALLOW) for i in range(10_000)]
    start = time.process_time()
    owners = Ownership(files)
    policy = Policy(Filemap([*rules, Rule(b"/opt/local", ASK)]), owners=owners, closure=frozenset({"p1"}))
    data = policy.compile()
    scratch = time.process_time() - start
    start = time.process_time()
    policy.compile()
    again = time.process_time() - start
    with capsys.disabled():
        print(f"\n  image: {len(data) / 2**20:.1f} MiB, from scratch {scratch:.2f} s, again {again * 1000:.0f} ms")
    assert len(data) <= 32 * 2**20
    assert scratch < 2 * pace() and again < 0.3 * pace()  # measured 0.4 s and 25 ms
    img = Image(data, verify=True)
    for i in (0, 1, 901, 499_999):
        path, port = files[i]
        got = img.decide(path)
        assert got.port == port and (got.action is ALLOW) == (port == "p1")
    for i in range(0, 10_000, 371):
        got = img.decide(rules[i].path + b"/x")
        assert got.index == i and got.action is rules[i].action


# --- broken images -------------------------------------------------------------------------------------------------


def test_broken_headers_are_refused() -> None:
    good = image([Rule(b"/a/b", ALLOW), Rule(b"/a/c", ASK)], owners=Ownership([(b"/a/c/x", "p")])).data
    assert isinstance(good, bytes)
    for size in (0, 1, 8, 100, len(good) - 1):
        with pytest.raises(PolicyError):
            Image(good[:size])
    with pytest.raises(PolicyError, match="size"):
        Image(good + bytes(8))
    with pytest.raises(PolicyError, match="policy image"):
        Image(b"X" + good[1:])
    with pytest.raises(PolicyError, match="version"):
        Image(good[:8] + b"\x63" + good[9:])
    refused = 0
    for at in range(8, 144, 4):
        for value in (b"\xff\xff\xff\xff", b"\x01\x00\x00\x00"):
            broken = good[:at] + value + good[at + 4 :]
            try:
                Image(broken)
            except PolicyError as error:
                assert "at byte" in str(error)
                refused += 1
    assert refused > 20


def test_verify_finds_what_the_header_does_not_show() -> None:
    good = image([Rule(b"/a/b", ALLOW), Rule(b"/a/c", ASK), Rule(b"/a", DENY)], owners=Ownership([(b"/a/c/x", "p")]))
    data = bytearray(good.data)
    nodes = int.from_bytes(data[48:56], "little")
    rules = int.from_bytes(data[32:40], "little")
    cases = {
        "rule that is not there": nodes + 64 * 2 + 44,
        "children": nodes + 64 * 1 + 32,
        "text": nodes + 64 * 2 + 36,
        "rule's text": rules,
    }
    for what, at in cases.items():
        broken = bytes(data[:at]) + b"\x77\x77\x77\x77" + bytes(data[at + 4 :])
        Image(broken)  # the header is sound, and reading stays inside:
        Image(broken).decide(b"/a/b/c/d")
        with pytest.raises(PolicyError, match=what):
            Image(broken, verify=True)
