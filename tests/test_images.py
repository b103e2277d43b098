"""Images: into the prefix and out of it, whole or not at all."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from porttrace import undo
from porttrace.archive import Metadata
from porttrace.errors import PorttraceError
from porttrace.images import Group, ImageError, Images, image_name
from porttrace.registry import NewPort, Port, Registry, RegistryError
from porttrace.undo import Undo


class Site:
    """A prefix with its port database."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.prefix = top / "opt/local"
        self.portdbpath = self.prefix / "var/macports"
        self.prefix.mkdir(parents=True)
        self.said: list[tuple[str, str]] = []
        self.images = Images(self.portdbpath, self.prefix, lambda level, text: self.said.append((level, text)))

    def install(
        self,
        name: str,
        files: dict[str, str],
        version: str = "1.0",
        depends: tuple[str, ...] = (),
        groups: tuple[Group, ...] = (),
    ) -> Port:
        destroot = self.top / f"destroot-{name}-{version}"
        for path, text in files.items():
            file = destroot / str(self.prefix).lstrip("/") / path
            file.parent.mkdir(parents=True, exist_ok=True)
            if text.startswith("-> "):
                file.symlink_to(text[3:])
            else:
                file.write_text(text)
        portfile = self.top / f"Portfile-{name}"
        portfile.write_text(f"PortSystem 1.0\nname {name}\nversion {version}\n")
        return self.images.install(
            NewPort(name, version, depends=depends),
            Metadata(name, version),
            destroot,
            image_name(name, f"{version}_0", "linux_6", ["x86_64"], "tbz2"),
            epoch=1_600_000_000,
            portfile=portfile,
            groups=groups,
        )

    def registry(self) -> Registry:
        return Registry.open(self.images.registry_file)

    def snapshot(self) -> dict[str, object]:
        """Everything in the prefix (what SQLite writes aside) and everything that the registry says."""
        found: dict[str, object] = {}
        for path in sorted(self.prefix.rglob("*")):
            relative = str(path.relative_to(self.prefix))
            if (relative.startswith("var/macports/registry/") and ".db" in relative) or relative.endswith(".lock"):
                continue
            status = path.lstat()
            content: object = None
            if path.is_symlink():
                content = path.readlink()
            elif path.is_file():
                content = path.read_bytes()
            found[relative] = (oct(status.st_mode), content)
        if self.images.registry_file.exists():
            with self.registry() as registry:
                found["registry"] = [(port, registry.files(port)) for port in registry.ports()]
                found["owners"] = sorted(registry.owners())
        return found


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


FOO = {"bin/foo": "foo", "lib/libfoo.so": "-> libfoo.so.1", "lib/libfoo.so.1": "lib", "share/doc/foo/README": "read"}


def test_install_activate_deactivate_uninstall(site: Site) -> None:
    empty = site.snapshot()
    port = site.install("foo", FOO)
    assert not (site.prefix / "bin").exists(), "installed is not yet activated"
    assert Path(port.location).name == "foo-1.0_0.linux_6.x86_64.tbz2"
    assert Path(port.location).parent == site.portdbpath / "software/foo"
    assert site.images.kept_portfile(port).read_text().startswith("PortSystem 1.0\nname foo")
    installed = site.snapshot()
    assert site.images.activate("FOO")
    assert (site.prefix / "bin/foo").read_text() == "foo"
    assert (site.prefix / "lib/libfoo.so").readlink() == Path("libfoo.so.1")
    with site.registry() as registry:
        owned = {Path(os.fsdecode(path)).relative_to(site.prefix).as_posix() for path, _ in registry.owners()}
        assert owned == set(FOO)
    assert not site.images.activate("foo"), "it is active"
    assert site.images.deactivate("foo")
    assert not site.images.deactivate("foo")
    assert site.snapshot() == installed
    site.images.activate("foo")
    site.images.uninstall("foo")
    left = site.snapshot()
    assert left.pop("registry") == [] and left.pop("owners") == []
    # The skeleton of the port database stays; nothing of the port does.
    assert {path for path in left if "var" not in path} == set(empty)
    assert not [path for path in left if "foo" in path]
    with pytest.raises(ImageError, match="foo is not installed"):
        site.images.uninstall("foo")


def test_directories_that_others_use_stay(site: Site) -> None:
    site.install("foo", FOO)
    site.images.activate("foo")
    (site.prefix / "share/doc/mine").write_text("by hand")
    site.images.deactivate("foo")
    assert sorted(p.name for p in site.prefix.iterdir()) == ["share", "var"]
    assert (site.prefix / "share/doc/mine").read_text() == "by hand"
    assert not (site.prefix / "share/doc/foo").exists()


def test_another_versions_files_go_out_in_the_same_step(site: Site) -> None:
    site.install("foo", {"bin/foo": "one", "bin/old": "old"})
    site.images.activate("foo")
    site.install("foo", {"bin/foo": "two", "bin/new": "new"}, version="2.0")
    site.images.activate("foo", "2.0")
    assert sorted(p.name for p in (site.prefix / "bin").iterdir()) == ["foo", "new"]
    assert (site.prefix / "bin/foo").read_text() == "two"
    with pytest.raises(ImageError, match="specify the full version"):
        site.images.uninstall("foo")
    with pytest.raises(ImageError, match=r"Active version of foo is not 1\.0 but 2\.0_0"):
        site.images.deactivate("foo", "1.0")
    site.images.activate("foo", "1.0_0")
    assert (site.prefix / "bin/foo").read_text() == "one"


def test_files_of_another_port_are_not_touched(site: Site) -> None:
    site.install("foo", FOO)
    site.images.activate("foo")
    site.install("bar", {"bin/bar": "bar", "bin/foo": "mine"})
    before = site.snapshot()
    with pytest.raises(ImageError, match="Conflicting file"):
        site.images.activate("bar")
    assert site.snapshot() == before
    assert any(level == "error" and "foo @1.0_0" in text and "bin/foo" in text for level, text in site.said)
    site.images.activate("bar", force=True)
    assert (site.prefix / "bin/foo").read_text() == "mine"
    (aside,) = (site.prefix / "bin").glob("foo.mp_*")
    assert aside.read_text() == "foo"
    with site.registry() as registry:
        assert dict(registry.owners())[bytes(site.prefix / "bin/foo")] == "bar"
        assert dict(registry.owners())[bytes(aside)] == "foo"
    site.images.deactivate("foo")
    assert not aside.exists() and (site.prefix / "bin/foo").read_text() == "mine"


def test_files_that_nobody_owns_are_not_overwritten(site: Site) -> None:
    site.install("foo", FOO)
    (site.prefix / "lib").mkdir()
    (site.prefix / "lib/libfoo.so").symlink_to("nowhere")
    before = site.snapshot()
    with pytest.raises(ImageError, match=r"libfoo\.so already exists and does not belong to a registered port"):
        site.images.activate("foo")
    assert site.snapshot() == before
    site.images.activate("foo", force=True)
    (aside,) = (site.prefix / "lib").glob("libfoo.so.mp_*")
    assert aside.readlink() == Path("nowhere")


def test_what_others_need_stays_unless_forced(site: Site) -> None:
    site.install("libbar", {"lib/libbar": "x"})
    site.install("foo", FOO, depends=("LibBar",))
    for name in ("libbar", "foo"):
        site.images.activate(name)
    before = site.snapshot()
    for action in (site.images.deactivate, site.images.uninstall):
        with pytest.raises(ImageError, match="Please uninstall the ports that depend on libbar first"):
            action("libbar")
        assert site.snapshot() == before
    assert ("msg", "--->  \tfoo @1.0_0") in site.said
    site.images.deactivate("libbar", force=True)
    assert not (site.prefix / "lib/libbar").exists()


def test_kept_portfiles_and_portgroups_are_shared(site: Site) -> None:
    group = site.top / "cmake-1.1.tcl"
    group.write_text("# a group")
    for name in ("one", "two"):
        site.install(name, {f"bin/{name}": name}, groups=(Group("cmake", "1.1", group),))
    (kept,) = (site.portdbpath / "registry/portgroups").rglob("cmake-1.1.tcl")
    assert kept.read_text() == "# a group"
    site.images.uninstall("one")
    assert kept.exists()
    site.images.uninstall("two")
    assert not kept.exists()


def test_a_damaged_or_missing_image_changes_nothing(site: Site) -> None:
    port = site.install("foo", FOO)
    before = site.snapshot()
    image = Path(port.location)
    data = image.read_bytes()
    image.write_bytes(data[: len(data) // 2])
    with pytest.raises(PorttraceError, match="is damaged"):
        site.images.activate("foo")
    image.write_bytes(data)
    assert site.snapshot() == before
    image.unlink()
    with pytest.raises(ImageError, match="Can't find image file"):
        site.images.activate("foo")
    assert not (site.prefix / "bin").exists()


def test_an_install_that_fails_leaves_nothing(site: Site) -> None:
    site.install("foo", FOO)
    before = site.snapshot()
    with pytest.raises(ImageError, match="already installed"):
        site.install("foo", {"bin/other": "x"})
    destroot = site.top / "destroot-bad-1.0"
    destroot.mkdir()
    os.mkfifo(destroot / "pipe")
    with pytest.raises(PorttraceError, match="neither file, directory nor link"):
        site.install("bad", {})
    with pytest.raises(ImageError, match="does not exist; it is needed"):
        site.install("worse", {"bin/worse": "x"}, groups=(Group("g", "1.0", site.top / "absent.tcl"),))
    assert site.snapshot() == before


def test_a_prefix_that_cannot_be_written_is_one_clear_line(site: Site) -> None:
    site.install("foo", FOO)
    (site.prefix / "share").write_text("a file where a directory is needed")
    before = site.snapshot()
    with pytest.raises(ImageError) as caught:
        site.images.activate("foo")
    assert "share" in str(caught.value) and "\n" not in str(caught.value)
    assert site.snapshot() == before


def test_a_locked_prefix_is_waited_for_and_then_refused(site: Site) -> None:
    site.install("foo", FOO)
    images = Images(site.portdbpath, site.prefix, lambda level, text: site.said.append((level, text)), lock_timeout=0.2)
    with (site.portdbpath / "registry/.registry.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(PorttraceError, match="another port process is changing this prefix"):
            images.activate("foo")
    assert any("Waiting for lock" in text for _, text in site.said)
    assert images.activate("foo")


# ---- killed, stopped, failing at every single step -----------------------------------------------------------------


def upgrade(site: Site) -> None:
    """An activation with everything in it: an older version goes out, files are moved aside, directories are made."""
    site.images.activate("foo", "2.0", force=True)


def uninstall(site: Site) -> None:
    site.images.uninstall("foo", "1.0")


def install(site: Site) -> None:
    group = site.top / "cmake-1.1.tcl"
    group.write_text("# a group")
    site.install("new", {"bin/new": "new"}, groups=(Group("cmake", "1.1", group),))


def prepare(top: Path) -> Site:
    top.mkdir()
    site = Site(top)
    site.install("foo", {**FOO, "only/in/one": "1"})
    site.images.activate("foo")
    site.install("foo", {"bin/foo": "two", "etc/new/foo.conf": "2", "sbin/taken": "2"}, version="2.0")
    (site.prefix / "sbin").mkdir()
    (site.prefix / "sbin/taken").write_text("somebody's")
    return site


def without_times(snapshot: dict[str, object]) -> object:
    """Names given aside hold the second; dates of installation differ."""
    import re

    return re.sub(r"\.mp_\d+|date=\d+|destroot|killed\d+", "", repr(sorted(snapshot.items(), key=lambda item: item[0])))


@pytest.mark.parametrize("change", [upgrade, uninstall, install])
def test_killed_at_any_step_it_is_as_before_or_done(tmp_path: Path, change: Callable[[Site], None]) -> None:
    outcomes = set()
    for number in range(1, 200):
        site = prepare(tmp_path / f"killed{number}")
        before = without_times(site.snapshot())
        pid = os.fork()
        if pid == 0:
            die_at(number, change, site)
        _, status = os.waitpid(pid, 0)
        died = os.WIFSIGNALED(status)
        assert died or os.WEXITSTATUS(status) == 0
        again = Images(site.portdbpath, site.prefix, lambda level, text: None)
        again.recover()
        assert not (site.portdbpath / "registry/.porttrace-journal").exists()
        if died:
            after = without_times(site.snapshot())
            outcomes.add(after == before)
            if after != before:  # then it is done, and complete
                change_is_complete(site, change)
        else:
            break
    else:
        pytest.fail("it never came to an end")
    assert outcomes == {True, False}, "both were met: taken back and finished"


def test_killed_while_it_is_put_in_order_too(tmp_path: Path) -> None:
    """The first port dies just before its change is final, the second one in the middle of taking that back."""
    for second in range(1, 60):
        site = prepare(tmp_path / f"killed{second}")
        before = without_times(site.snapshot())
        pid = os.fork()
        if pid == 0:
            Undo.commit = lambda self: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]
            upgrade(site)
        assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])
        pid = os.fork()
        if pid == 0:
            die_at_done(second, site)
        died = os.WIFSIGNALED(os.waitpid(pid, 0)[1])
        Images(site.portdbpath, site.prefix, lambda level, text: None).recover()
        assert without_times(site.snapshot()) == before, f"step {second}"
        if not died:
            break
    assert 10 < second < 59


def die_at_done(number: int, site: Site) -> None:
    """In the child: recover, and be killed just after the numberth step that was taken back, before it is noted."""
    from porttrace import undo

    counted = 0
    for name, step in list(undo._STEPS.items()):

        def dying(*arguments: object, step: Callable[..., None] = step) -> None:
            nonlocal counted
            step(*arguments)
            counted += 1
            if counted == number:
                os.kill(os.getpid(), signal.SIGKILL)

        undo._STEPS[name] = dying
    try:
        Images(site.portdbpath, site.prefix, lambda level, text: None).recover()
    except BaseException:
        os._exit(1)
    os._exit(0)


def die_at(number: int, change: Callable[[Site], None], site: Site) -> None:
    """In the child: be killed just before (odd) or just after the numberth half step of the journal."""
    written = 0
    write = Undo._write

    def counting(self: Undo, line: list[object]) -> None:
        nonlocal written
        written += 1
        if written == number:
            os.kill(os.getpid(), signal.SIGKILL)
        write(self, line)
        written += 1
        if written == number:
            os.kill(os.getpid(), signal.SIGKILL)

    Undo._write = counting  # type: ignore[method-assign]
    unlink = Path.unlink

    def dying_unlink(self: Path, missing_ok: bool = False) -> None:
        nonlocal written
        written += 1
        if written == number:
            os.kill(os.getpid(), signal.SIGKILL)
        unlink(self, missing_ok)

    Path.unlink = dying_unlink  # type: ignore[method-assign]
    try:
        change(site)
    except BaseException:
        os._exit(1)
    os._exit(0)


def change_is_complete(site: Site, change: Callable[[Site], None]) -> None:
    with site.registry() as registry:
        if change is upgrade:
            active = registry.active("foo")
            assert active is not None and active.version == "2.0"
            assert (site.prefix / "bin/foo").read_text() == "two" and not (site.prefix / "only").exists()
        elif change is uninstall:
            assert [port.version for port in registry.ports("foo")] == ["2.0"]
            assert not (site.prefix / "bin").exists()
            assert len(list((site.portdbpath / "software/foo").iterdir())) == 1
        else:
            (port,) = registry.ports("new")
            assert Path(port.location).is_file() and site.images.kept_portfile(port).is_file()
        assert not list((site.portdbpath / "software").rglob(".porttrace-*"))


@pytest.mark.parametrize("change", [upgrade, uninstall, install])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device", "x"), KeyboardInterrupt()])
def test_failing_at_any_step_it_is_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Site], None], error: BaseException
) -> None:
    write = Undo._write
    for number in range(2, 200):
        site = prepare(tmp_path / f"failed{number}")
        before = site.snapshot()
        written = 0

        def failing(self: Undo, line: list[object], number: int = number) -> None:
            nonlocal written
            written += 1
            write(self, line)
            if written == number:
                raise error

        monkeypatch.setattr(Undo, "_write", failing)
        try:
            change(site)
        except (ImageError, KeyboardInterrupt):
            monkeypatch.setattr(Undo, "_write", write)
            assert site.snapshot() == before, f"step {number}"
        else:
            break
    assert number > 4


def test_a_commit_that_fails_takes_the_files_back(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.install("foo", FOO)
    before = site.snapshot()

    def refuse(self: Registry, port: Port, names: object = None) -> Port:
        raise RegistryError("the registry is full")

    monkeypatch.setattr(Registry, "activate", refuse)
    with pytest.raises(RegistryError, match="the registry is full"):
        site.images.activate("foo")
    monkeypatch.undo()
    assert site.snapshot() == before


def test_ctrl_c_at_the_last_moment_comes_after_the_change(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry has its change, the journal is still there: now a signal must wait."""
    site.install("foo", FOO)
    leave = Undo.__exit__

    def interrupted(self: Undo, *error: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        leave(self, *error)

    monkeypatch.setattr(Undo, "__exit__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        site.images.activate("foo")
    monkeypatch.undo()
    with site.registry() as registry:
        assert registry.active("foo") is not None
    assert (site.prefix / "bin/foo").exists()
    assert not (site.portdbpath / "registry/.porttrace-journal").exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_prefix_itself_stays(site: Site) -> None:
    """Also where the port database lies elsewhere and nothing else is in it."""
    site.portdbpath = site.top / "db"
    site.images = Images(site.portdbpath, site.prefix, lambda level, text: None)
    site.install("foo", FOO)
    site.images.activate("foo")
    site.images.deactivate("foo")
    assert site.prefix.is_dir() and not list(site.prefix.iterdir())


def test_it_works_in_a_thread_too(site: Site) -> None:
    site.install("foo", FOO)
    worker = threading.Thread(target=site.images.activate, args=("foo",))
    worker.start()
    worker.join(30)
    assert (site.prefix / "bin/foo").exists()


def test_from_one_file_system_to_another(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The port database may lie elsewhere: a rename fails, the file is copied and put in place in one step."""
    site.install("foo", FOO)
    rename = Path.rename

    def refusing(self: Path, target: Path) -> Path:
        if (".porttrace-" in str(self.parent)) != (".porttrace-" in str(Path(target).parent)):
            raise OSError(18, "Invalid cross-device link")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refusing)
    site.images.activate("foo")
    assert (site.prefix / "bin/foo").read_text() == "foo"
    assert (site.prefix / "lib/libfoo.so").readlink() == Path("libfoo.so.1")
    site.images.deactivate("foo")
    assert not (site.prefix / "bin").exists()


def test_names_of_images() -> None:
    assert image_name("foo", "1.0_2+a", "darwin_22", ["arm64", "x86_64"], "tar.zst") == (
        "foo-1.0_2+a.darwin_22.arm64-x86_64.tar.zst"
    )
    long = image_name("foo", "1.0_2+" + "+".join(f"variant{n}" for n in range(60)), "any_any", ["noarch"], "tbz2")
    assert len(long) <= 245 and long.startswith("foo-1.0_2+") and long.endswith(".any_any.noarch.tbz2")
    with pytest.raises(ImageError, match="too long"):
        image_name("f" * 250, "1_0", "any", ["noarch"], "tbz2")


def test_what_cannot_be_taken_back_is_told_kept_and_tried_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.install("foo", FOO)
    site.images.activate("foo")
    before = site.snapshot()
    journal = site.portdbpath / "registry/.porttrace-journal"
    stuck = site.prefix / "bin/foo"
    text = stuck.read_bytes()

    def refuse(self: Registry, port: Port) -> None:
        raise OSError(28, "No space left on device")

    back = undo._STEPS["rename"]

    def sticking(source: str, target: str) -> None:
        if target == str(stuck):
            raise PermissionError(1, "Operation not permitted", target)
        back(source, target)

    monkeypatch.setattr(Registry, "deactivate", refuse)
    monkeypatch.setitem(undo._STEPS, "rename", sticking)
    with pytest.raises(PorttraceError) as told:
        site.images.deactivate("foo")
    assert "\n" not in str(told.value) and "the prefix is as it was" not in str(told.value)
    for part in ("No space left on device", "could be taken back", str(stuck), str(journal)):
        assert part in str(told.value)
    assert journal.exists() and not stuck.exists()
    # as long as it cannot be put in order nothing else is changed, and the file is not lost
    with pytest.raises(PorttraceError, match=f"still not taken back.*{stuck}"):
        site.images.deactivate("foo")
    monkeypatch.undo()
    site.images.recover()
    assert not journal.exists()
    assert stuck.read_bytes() == text
    assert site.snapshot() == before
