"""The filemap: its bytes of 2007, its order, and its matcher against a slow reference."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from porttrace.filemap import Access, Action, Filemap, FilemapError, Rule

SDK = b"/Developer/SDKs/MacOSX10.2.8.sdk"
# Written out by hand from the format: path NUL action [redirect] NUL …, and one NUL more at the end.
BYTES_2007 = b"/bin\0\x00\0" + b"/opt/local\0\x02\0" + b"/\0\x01" + SDK + b"\0" + b"\0"
RULES_2007 = [
    Rule(b"/bin", Action.ALLOW, literal=True),
    Rule(b"/opt/local", Action.ASK, literal=True),
    Rule(b"/", Action.REDIRECT, SDK, literal=True),
]


def test_bytes_of_2007_are_read() -> None:
    assert list(Filemap.from_bytes(BYTES_2007)) == RULES_2007


def test_bytes_of_2007_are_written() -> None:
    assert Filemap(RULES_2007).to_bytes() == BYTES_2007
    assert BYTES_2007.endswith(b"\0\0")


def test_deny_is_byte_three() -> None:
    data = b"/usr/local\0\x03\0\0"
    assert list(Filemap.from_bytes(data)) == [Rule(b"/usr/local", Action.DENY, literal=True)]
    assert Filemap.from_bytes(data).to_bytes() == data


def test_an_empty_map_denies_everything() -> None:
    for data in (b"\0", b"\0\0"):
        empty = Filemap.from_bytes(data)
        assert len(empty) == 0
        assert empty.match(b"/etc/group") is None
    assert Filemap().to_bytes() == b"\0\0"


def test_literal_prefix_matches_inside_a_name() -> None:
    opt = Filemap.from_bytes(b"/opt\0\x00\0\0")
    for path in (b"/opt", b"/opt/blah/blah", b"/optblah/blah"):
        assert opt.match(path) is not None, path
    assert opt.match(b"/op") is None


def test_component_prefix_does_not() -> None:
    rule = Rule(b"/opt/local", Action.ALLOW)
    assert rule.matches(b"/opt/local") and rule.matches(b"/opt/local/bin")
    assert not rule.matches(b"/opt/local-evil") and not rule.matches(b"/opt")
    root = Rule(b"/", Action.ALLOW)
    assert root.matches(b"/") and root.matches(b"/x")


def test_first_match_wins() -> None:
    found = Filemap.from_bytes(BYTES_2007).match(b"/opt/local/bin/perl")
    assert found is not None and found.action is Action.ASK
    found = Filemap.from_bytes(BYTES_2007).match(b"/usr/include/stdio.h")
    assert found is not None and found.target == SDK


@pytest.mark.parametrize(
    ("data", "offset"),
    [
        (b"", 0),  # nothing at all
        (b"/bin", 4),  # a path without its end
        (b"/bin\0", 5),  # no action
        (b"/bin\0\x00", 6),  # an action, no end of the entry
        (b"/bin\0\x00\0", 7),  # an entry, no end of the map
        (b"/bin\0\x04\0\0", 5),  # an action that does not exist
        (b"/bin\0+\0\0", 5),
        (b"/\0\x01\0\0", 3),  # a redirect to nowhere
        (b"/\0\x01/sdk", 7),  # a redirect that does not end
        (b"/bin\0\x00/x\0\0", 6),  # allow with a redirect path
        (b"/bin\0\x00\0\0rest", 8),  # bytes behind the end
        (b"\0\0\0", 2),
    ],
)
def test_broken_bytes_are_refused_with_the_offset(data: bytes, offset: int) -> None:
    with pytest.raises(FilemapError) as error:
        Filemap.from_bytes(data)
    assert error.value.offset == offset
    assert f"byte {offset}" in str(error.value)


@pytest.mark.parametrize(
    "rule",
    [
        Rule(b"/opt", Action.ALLOW),
        Rule(b"/o\0pt", Action.ALLOW, literal=True),
        Rule(b"/opt", Action.REDIRECT, b"/s\0dk", literal=True),
        Rule(b"/opt", Action.ASK, literal=True, live=True),
        Rule(b"/opt", Action.DENY, literal=True, silent=True),
        Rule(b"/opt", Action.REDIRECT, b"/sdk", literal=True, fallback=True),
    ],
)
def test_what_the_bytes_cannot_express_is_refused(rule: Rule) -> None:
    with pytest.raises(FilemapError) as error:
        Filemap([RULES_2007[0], rule]).to_bytes()
    assert error.value.offset == len(b"/bin\0\x00\0")


@pytest.mark.parametrize(
    ("path", "action", "target"),
    [
        (b"opt", Action.ALLOW, None),
        (b"", Action.ALLOW, None),
        (b"/a/../b", Action.ALLOW, None),
        (b"/a", Action.REDIRECT, None),
        (b"/a", Action.REDIRECT, b""),
        (b"/a", Action.ALLOW, b"/b"),
    ],
)
def test_senseless_rules_are_refused(path: bytes, action: Action, target: bytes | None) -> None:
    with pytest.raises(ValueError):
        Rule(path, action, target)


def test_component_paths_are_tidied() -> None:
    assert Rule(b"//opt/./local//", Action.ALLOW).path == b"/opt/local"
    assert Rule(b"//", Action.ALLOW).path == b"/"
    assert Rule(b"/opt//", Action.ALLOW, literal=True).path == b"/opt//"


def test_edits_keep_the_order_visible() -> None:
    a, b, c = (Rule(name, Action.ALLOW) for name in (b"/a", b"/b", b"/c"))
    m = Filemap()
    m.append(b)
    m.append(c)
    m.prepend(a)
    assert list(m) == [a, b, c]
    deny = Rule(b"/b", Action.DENY)
    m.replace(deny)
    assert list(m) == [a, deny, c]
    m.append(b)
    m.replace(b)
    assert list(m) == [a, b, c]
    with pytest.raises(LookupError, match="/d"):
        m.replace(Rule(b"/d", Action.DENY))
    assert m.remove(b"/b/") == 1 and m.remove(b"/b") == 0
    assert list(m) == [a, c]
    m.clear()
    assert len(m) == 0 and m.match(b"/a") is None


def test_access_says_which_map() -> None:
    assert [a for a in Access if not a.writes] == ["read", "stat", "exec", "list", "readlink"]
    assert [a for a in Access if a.writes] == ["write", "create", "delete", "rename", "link", "attributes"]


texts = st.binary(min_size=1, max_size=12).filter(lambda b: b"\0" not in b)
entries = st.one_of(
    st.builds(Rule, texts, st.sampled_from([Action.ALLOW, Action.ASK, Action.DENY]), literal=st.just(True)),
    st.builds(Rule, texts, st.just(Action.REDIRECT), texts, literal=st.just(True)),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(entries, max_size=8))
def test_bytes_go_in_and_out_unchanged(rules: list[Rule]) -> None:
    data = Filemap(rules).to_bytes()
    again = Filemap.from_bytes(data)
    assert list(again) == rules
    assert again.to_bytes() == data


@settings(max_examples=300, deadline=None)
@given(st.lists(entries, min_size=1, max_size=5), st.data())
def test_every_truncated_map_is_refused(rules: list[Rule], data: st.DataObject) -> None:
    whole = Filemap(rules).to_bytes()
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(FilemapError) as error:
        Filemap.from_bytes(whole[:cut])
    assert error.value.offset <= cut


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from([0, 1, 2, 3, 4, 47, 97, 255]), max_size=40).map(bytes))
def test_hostile_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        rules = Filemap.from_bytes(data)
    except FilemapError as error:
        assert 0 <= error.offset <= len(data)
    else:
        assert rules.to_bytes() == data or data == b"\0"
