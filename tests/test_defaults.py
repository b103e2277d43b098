"""Default rules: the base OS, the phases' places, allowances, and the traps that the order has to avoid."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import porttrace
from porttrace.defaults import Allowance, AllowanceError, base_os, phase_policy, run_defaults
from porttrace.filemap import Action, Filemap
from porttrace.policy import Image, Ownership, Policy

ALLOW, ASK, DENY = Action.ALLOW, Action.ASK, Action.DENY
DATA = Path(porttrace.__file__).parent / "data"

PREFIX = "/opt/local"
DATABASE = PREFIX + "/var/macports"
WORK = DATABASE + "/build/foo/work"
PORT = "/trees/main/devel/foo"
DIST = DATABASE + "/distfiles/foo"
FILES = [(b"/opt/local/lib/libbar.so", "libbar"), (b"/opt/local/include/stray.h", "stray")]


def policy(phase: str = "build", **changes: Any) -> Policy:
    given: dict[str, Any] = {
        "phase": phase,
        "prefix": PREFIX,
        "workpath": WORK,
        "portpath": PORT,
        "distpath": DIST,
        "closure": {"libbar"},
        "owners": Ownership(FILES, resolve=False),
        "platform": "linux",
        "port": "foo",
    }
    return phase_policy(**(given | changes))


def image(phase: str = "build", **changes: Any) -> Image:
    return Image(policy(phase, **changes).compile(), verify=True)


def reads(img: Image, path: str) -> bool:
    return img.decide(os.fsencode(path), "read").action is not DENY


def writes(img: Image, path: str) -> bool:
    return img.decide(os.fsencode(path), "write").action is not DENY


ALL_PHASES = ["fetch", "checksum", "extract", "patch", "configure", "build", "test", "destroot", "install", "activate"]


@pytest.mark.parametrize("phase", ALL_PHASES)
def test_what_holds_in_every_phase(phase: str) -> None:
    img = image(phase)
    for path in (
        "/usr/bin/cc",
        "/bin/sh",
        "/lib64/ld-linux-x86-64.so.2",
        "/etc/passwd",
        "/proc/self/maps",
        "/dev/null",
        "/var/lib/dpkg/status",
        WORK + "/src/x.c",
        PORT + "/files/patch.diff",
        "/trees/main/_resources/port1.0/group/x.tcl",
        DIST + "/foo.tar.gz",
        "/opt/local/lib/libbar.so",
        "/opt/local/share/nobody",
    ):
        assert reads(img, path), path
    for path in (
        "/usr/local/include/x.h",
        "/usr/local",
        "/home/me/.gitconfig",
        "/root/.bashrc",
        "/opt/other/x",
        "/srv/x",
        "/opt/local/include/stray.h",
        "/trees/main/devel/other/Portfile",
        DATABASE + "/build/other/work/x",
        DATABASE + "/registry/registry.db",
        "/opt/local-evil/x",
    ):
        assert not reads(img, path), path
    for path in (WORK + "/x.o", "/dev/null", "/dev/tty", "/tmp/x", "/var/tmp/x", "/dev/shm/sem.x"):
        assert writes(img, path), path
    for path in (
        "/etc/group",
        "/usr/bin/cc",
        "/usr/local/x",
        "/home/me/x",
        PORT + "/x",
        "/proc/sys/kernel/x",
        "/dev/sda",
    ):
        assert not writes(img, path), path
    assert not writes(img, "/tmp/macports/12/1/policy")
    assert img.label("phase") == phase and img.label("port") == "foo"


def test_ancestors_of_visible_places_are_visible_directories() -> None:
    img = image()
    for path in ("/", "/opt", "/var", "/var/lib", "/run", DATABASE, "/trees", "/trees/main"):
        found = img.decide(os.fsencode(path))
        assert found.action is not DENY or found.visible_dir, path
    for path in ("/home", "/srv", "/usr/local", "/usr/local/lib", DATABASE + "/registry"):
        assert not img.decide(os.fsencode(path)).visible_dir, path


@pytest.mark.parametrize(
    ("place", "phases"),
    [
        (DIST + "/new.tar.gz", {"fetch", "mirror", "clean"}),
        (DATABASE + "/software/foo/x.tbz2", {"install", "archive", "activate", "deactivate"}),
        (PREFIX + "/bin/foo", {"activate", "deactivate"}),
    ],
)
def test_extra_places_of_phases(place: str, phases: set[str]) -> None:
    for phase in {*ALL_PHASES, "mirror", "clean", "archive", "deactivate"}:
        assert writes(image(phase), place) == (phase in phases), phase


def test_activate_still_asks_when_it_reads() -> None:
    img = image("activate")
    assert not reads(img, "/opt/local/include/stray.h")
    assert reads(img, "/opt/local/lib/libbar.so")


@pytest.mark.parametrize("prefix", ["/tmp/mp", "/var/tmp/a/mp", "/usr/local/mp", "/usr/mp", "/dev/shm/mp"])
def test_a_prefix_below_an_allowed_or_hidden_directory_keeps_its_ask(prefix: str) -> None:
    files = [(os.fsencode(prefix) + b"/include/stray.h", "stray"), (os.fsencode(prefix) + b"/lib/libbar.so", "libbar")]
    work = prefix + "/var/macports/build/foo/work"
    owners = Ownership(files, resolve=False)
    img = image(prefix=prefix, workpath=work, owners=owners, distpath=prefix + "/var/macports/distfiles")
    assert not reads(img, prefix + "/include/stray.h")
    assert img.decide(os.fsencode(prefix) + b"/include/stray.h").port == "stray"
    assert reads(img, prefix + "/lib/libbar.so")
    assert not writes(img, prefix + "/lib/libbar.so")
    assert reads(img, work + "/x") and writes(img, work + "/x")


@pytest.mark.parametrize("broad", ["/tmp", "/tmp/top"])
@pytest.mark.parametrize("kind", ["read", "write", "hide"])
def test_a_broad_allowance_does_not_swallow_the_prefix(broad: str, kind: Any) -> None:
    prefix = "/tmp/top/mp"
    stray = os.fsencode(prefix) + b"/include/stray.h"
    work = prefix + "/var/macports/build/foo/work"
    img = image(
        prefix=prefix,
        workpath=work,
        owners=Ownership([(stray, "stray")], resolve=False),
        allowances=[
            Allowance(kind, broad, "Portfile line 1"),
            Allowance(kind, prefix + "/share/special", "Portfile line 2"),
        ],
    )
    assert img.decide(stray).port == "stray" and img.decide(stray).action is DENY
    assert not writes(img, prefix + "/bin/x")
    assert reads(img, work + "/x") and writes(img, work + "/x")
    # the narrower one is no less meant than the broad one
    assert reads(img, prefix + "/share/special/x") == (kind != "hide")
    assert writes(img, prefix + "/share/special/x") == (kind == "write")
    assert reads(img, broad + "/else") == (kind != "hide")


def test_an_empty_developer_dir_allows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The original allows the whole prefix where no Xcode is chosen."""

    def chosen(text: str) -> Any:
        return lambda path: text

    for text in ("", "/", "relative/Contents/Developer"):
        monkeypatch.setattr(os, "readlink", chosen(text))
        from porttrace.defaults import _developer_dir

        assert _developer_dir() == []
    monkeypatch.setattr(os, "readlink", chosen("/Applications/Xcode-15.app/Contents/Developer"))
    assert [r.path for r in _developer_dir()] == [b"/Applications/Xcode-15.app"]


def test_allowances_come_first_and_only_in_their_phase() -> None:
    said = [
        Allowance("hide", "/usr/include/zlib.h", "Portfile line 10"),
        Allowance("read", "/srv/models", "Portfile line 11", phase="test"),
        Allowance("write", "/srv/cache", "Portfile line 12"),
        Allowance("read", "/usr/local/cuda", "Portfile line 13"),
        Allowance("hide", "/usr/bin/gawk", "Portfile line 14", silent=True),
        Allowance("redirect", "/usr/share/zoneinfo", "Portfile line 15", target="/srv/tz"),
    ]
    build, test = image("build", allowances=said), image("test", allowances=said)
    assert not reads(build, "/usr/include/zlib.h") and not writes(build, "/usr/include/zlib.h")
    assert reads(test, "/srv/models/a") and not reads(build, "/srv/models/a") and not writes(test, "/srv/models/a")
    assert reads(build, "/srv/cache/x") and writes(build, "/srv/cache/x")
    assert reads(build, "/usr/local/cuda/x") and not reads(build, "/usr/local/x")
    assert build.decide(b"/usr/bin/gawk").silent
    assert build.decide(b"/usr/share/zoneinfo/UTC").physical == b"/srv/tz/UTC"
    rule = build.decide(b"/usr/include/zlib.h").rule
    assert rule is not None and rule.origin == "Portfile line 10"


def test_allowances_hold_for_the_real_place_too(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    img = image(allowances=[Allowance("write", tmp_path / "link", "Portfile line 1")])
    for name in ("link", "real"):
        assert writes(img, str(tmp_path / name / "x"))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/", "everything"),
        ("//", "everything"),
        ("/.", "everything"),
        ("x/y", "absolute"),
        ("/a/../..", r"\.\."),
        ("", "path"),
    ],
)
@pytest.mark.parametrize("kind", ["read", "write", "hide"])
def test_senseless_allowances_are_refused(path: str, message: str, kind: Any) -> None:
    with pytest.raises(AllowanceError, match=rf"Portfile line 12: test\.trace_{kind}.*{message}"):
        policy("build", allowances=[Allowance(kind, path, "Portfile line 12", phase="test")])


@pytest.mark.parametrize("place", ["", "/", "relative"])
@pytest.mark.parametrize("name", ["prefix", "workpath"])
def test_senseless_places_are_refused(name: str, place: str) -> None:
    with pytest.raises(ValueError, match=name):
        policy(**{name: place})


def test_every_rule_says_where_it_was_written() -> None:
    p = policy(extra_write=["/w"], extra_read=["/r"], tmpdir=WORK + "/tmp", ccache_dir="/ccache")
    assert all(rule.origin for m in (p.read, p.write) for rule in m)
    img = Image(p.compile())
    origins = {path: img.decide(path).rule for path in (b"/usr/x", b"/opt/local/x", b"/r/x", b"/ccache/x")}
    texts = [rule.origin for rule in origins.values() if rule]
    assert texts == ["base OS (baseos-linux.toml)", "prefix", "configuration (extra readable)", "compiler cache"]
    assert writes(img, "/w/x") and writes(img, "/ccache/x")


def run_image(**given: Any) -> Image:
    read, write = run_defaults(**given, platform="linux")
    return Image(Policy(Filemap(read), Filemap(write)).compile(), verify=True)


def test_defaults_of_run() -> None:
    img = run_image(cwd="/home/me/src", tmpdir="/scratch/t")
    for path in ("/usr/bin/cc", "/home/me/src/x", "/scratch/t/x", "/tmp/x"):
        assert reads(img, path), path
    for path in ("/home/me/src/x", "/scratch/t/x", "/tmp/x", "/var/tmp/x", "/dev/null"):
        assert writes(img, path), path
    for path in ("/home/me/.ssh/id", "/usr/local/bin/x", "/opt/x", "/scratch/x"):
        assert not reads(img, path), path
    assert not writes(img, "/usr/bin/cc") and not writes(img, "/home/me/x")
    here = run_image(cwd="/")
    assert not reads(here, "/opt/x") and not writes(here, "/etc/x")
    asked = run_image(cwd="/w", prefix="/tmp/p")
    assert asked.decide(b"/tmp/p/x").unowned and not writes(asked, "/tmp/p/x")


@pytest.mark.parametrize("platform", ["linux", "macos"])
def test_base_os_data_is_sound(platform: str) -> None:
    data = tomllib.loads((DATA / f"baseos-{platform}.toml").read_text())
    seen: set[tuple[str, str]] = set()
    for name in ("read", "write"):
        for group in data[name]:
            assert {*group, "beginnings"} == {"action", "paths", "why", "beginnings"} and group["why"]
            assert group["action"] in ("allow", "deny")
            for path in group["paths"]:
                assert path.startswith("/") and not path.endswith("/") and path != "/"
                assert (name, path) not in seen, f"{path} is named twice"
                seen.add((name, path))
        rules = base_os(name, platform)  # type: ignore[arg-type]
        assert len(rules) == sum(len(g["paths"]) for g in data[name])


def test_macos_base_os() -> None:
    read, write = (Filemap(base_os(name, "macos")) for name in ("read", "write"))
    img = Image(Policy(read, write).compile())
    for path in ("/System/Library/Frameworks/X", "/usr/lib/libz.dylib", "/private/etc/hosts", "/etc", "/usr/bin/clang"):
        assert reads(img, path), path
    for path in ("/Library/Developer/CommandLineTools/SDKs/x", "/private/var/folders/a/b/T/x"):
        assert reads(img, path), path
    for path in ("/Library/Frameworks/Python.framework", "/usr/local/lib/x", "/opt/homebrew/bin/x", "/Users/me/x"):
        assert not reads(img, path), path
    assert writes(img, "/dev/ttys012") and writes(img, "/dev/tty") and not writes(img, "/dev/disk0s1")
    assert writes(img, "/private/tmp/x") and not writes(img, "/System/x") and not writes(img, "/private/tmp/macports/1")


@pytest.fixture
def links() -> Iterator[list[str]]:
    yield [p for p in ("/bin/sh", "/lib64", "/etc/localtime", "/etc/resolv.conf", "/var/run") if Path(p).exists()]


def test_links_of_this_machine_lead_to_readable_places(links: list[str]) -> None:
    img = image()
    assert links
    for path in links:
        assert reads(img, path), path
        real = os.path.realpath(path)
        found = img.decide(os.fsencode(real))
        assert found.action is ALLOW or found.visible_dir, (path, real)
