"""How rules are spelt where a volume finds names in other letters and normal forms."""

from __future__ import annotations

import pytest

from porttrace import diskname, policy
from porttrace.diskname import spelt
from porttrace.filemap import Action, Filemap, Rule

DISK = {b"/opt": b"opt", b"/opt/Work": b"Work", b"/opt/Work/caf\xc3\xa9": b"cafe\xcc\x81", b"/opt/link": b"elsewhere",
        b"/vol": b"Macintosh HD"}  # fmt: skip


def on_disk(path: bytes) -> bytes | None:
    return next((name for known, name in DISK.items() if known.lower() == path.lower()), None)


@pytest.mark.parametrize(
    ("typed", "stands"),
    [
        (b"/", b"/"),
        (b"/opt", b"/opt"),
        (b"/OPT/work", b"/opt/Work"),
        (b"/OPT/work/New/Name", b"/opt/Work/New/Name"),
        (b"/opt/work/Caf\xc3\xa9/x", b"/opt/Work/cafe\xcc\x81/x"),
        (b"/opt/link", b"/opt/link"),  # a hard link, whose file tells its other name
        (b"/vol/x", b"/vol/x"),  # where a volume is mounted
        (b"relative", b"relative"),
    ],
)
def test_as_the_disk_spells(typed: bytes, stands: bytes) -> None:
    known: dict[bytes, bytes] = {}
    assert spelt(typed, known, on_disk) == stands
    assert spelt(typed, known, lambda path: pytest.fail("asked again")) == stands


def test_elsewhere_a_path_is_as_good_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diskname.sys, "platform", "linux")
    assert spelt(b"/OPT/x", {}) == b"/OPT/x"


def test_the_kernel_is_asked_on_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the rules of both maps, when the policy is compiled."""
    monkeypatch.setattr(diskname.sys, "platform", "darwin")
    monkeypatch.setattr(diskname, "_of_kernel", on_disk)
    rules = Filemap()
    rules.append(Rule(b"/OPT/work", Action.ALLOW))
    image = policy.Image(policy.Policy(rules, rules).compile())
    for which in policy._MAPS:
        assert image.decide(b"/opt/Work/x", which).action == Action.ALLOW
        assert image.decide(b"/OPT/work/x", which).action != Action.ALLOW
