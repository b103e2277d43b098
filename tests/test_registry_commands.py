"""What Tcl asks of the registry, through a real interpreter: the questions of port(1) and their texts."""

from __future__ import annotations

import tkinter
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest

from porttrace.archive import read_contents
from porttrace.errors import PorttraceError
from porttrace.porttool.registry_commands import RegistryCommands
from porttrace.registry import Registry
from porttrace.tclbridge import tcllist


class Host:
    """A Tcl interpreter with the registry's commands, and what it said."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.prefix = top / "opt/local"
        self.prefix.mkdir(parents=True)
        self.said: list[tuple[str, str]] = []
        self.answers: list[str] = []
        self.tcl = tkinter.Tcl()
        say: Callable[[str, str], None] = lambda level, text: self.said.append((level, text))  # noqa: E731
        self.commands = RegistryCommands(self.prefix / "var/macports", self.prefix, say)
        for name, function in self.commands.table().items():
            self.tcl.createcommand(f"python_{name}", self.wrap(function))
            self.tcl.eval(
                f"proc {name} args {{lassign [python_{name} {{*}}$args] code value; return -code $code $value}}"
            )
        for level in ("debug", "info", "notice", "msg", "warn", "error"):
            self.tcl.createcommand(f"ui_{level}", lambda text, level=level: self.said.append((level, text)))
        self.tcl.eval(f"source {{{files('porttrace') / 'tcl/port1.0/portquery.tcl'}}}")
        self.tcl.createcommand("answer", lambda text: self.answers.append(text))
        self.tcl.eval("proc portquery::out {text} {answer $text}")

    @staticmethod
    def wrap(function: Callable[..., tcllist.TclValue]) -> Callable[..., str]:
        def call(*words: str) -> str:
            try:
                return tcllist.join(["ok", function(*words)])
            except PorttraceError as error:
                return tcllist.join(["error", str(error)])

        return call

    def ask(self, *words: tcllist.TclValue) -> list[str]:
        self.answers.clear()
        self.said.clear()
        self.tcl.eval(tcllist.join(words))
        return self.answers

    def describe(self, name: str, path: str, **more: tcllist.TclValue) -> str:
        destroot = self.top / f"destroot-{name}"
        file = destroot / str(self.prefix).lstrip("/") / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
        portfile = self.top / f"Portfile-{name}"
        portfile.write_text(f"PortSystem 1.0\nname {name}\n")
        image = self.tcl.call("image_name", name, "1.0_0", "linux_6", "x86_64", "tbz2")
        known: dict[str, tcllist.TclValue] = {
            "name": name,
            "version": "1.0",
            "revision": 0,
            "image": image,
            "source_date_epoch": 1_600_000_000,
            "destroot": str(destroot),
            "portfile": str(portfile),
        }
        return tcllist.text({**known, **more})


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def install(host: Host) -> None:
    host.commands.install(host.describe("libbar", "lib/libbar.so"))
    host.commands.install(host.describe("foo", "bin/foo", depends=["libbar"], variants="+x", requested=True))
    host.commands.activate("libbar")


def test_questions_to_an_empty_prefix(host: Host) -> None:
    assert host.ask("portquery::action_installed", []) == []
    assert host.said == [("notice", "No ports are installed.")]
    assert host.ask("portquery::action_contents", ["foo"]) == []
    assert host.said == [("error", "port contents failed: foo is not installed")]
    assert host.commands.closure("Foo bar") == ["bar", "foo"]
    assert host.commands.provider("port:foo") == "foo"
    assert host.commands.provider("bin:sh:bash", "/bin") == ""
    assert not (host.prefix / "var").exists(), "a question makes nothing"


def test_installed_and_contents(host: Host) -> None:
    install(host)
    assert host.ask("portquery::action_installed", []) == ["  foo @1.0_0+x", "  libbar @1.0_0 (active)"]
    assert host.said == [("notice", "The following ports are currently installed:")]
    assert host.ask("portquery::action_installed", ["LIBBAR"]) == ["  libbar @1.0_0 (active)"]
    assert host.ask("portquery::action_installed", ["libbar@2.0"]) == []
    assert host.said == [("notice", "None of the specified ports are installed.")]
    assert host.ask("portquery::action_contents", ["libbar"]) == [f"  {host.prefix}/lib/libbar.so"]
    assert host.said == [("notice", "Port libbar @1.0_0 contains:")]


def test_provides(host: Host) -> None:
    install(host)
    mine = host.prefix / "lib/mine"
    mine.write_text("")
    file = host.prefix / "lib/libbar.so"
    assert host.ask("portquery::action_provides", [str(file)]) == [f"{file} is provided by: libbar"]
    assert host.ask("portquery::action_provides", [str(file)], 1) == ["libbar"]
    assert host.ask("portquery::action_provides", [str(mine)]) == [f"{mine} is not provided by a MacPorts port."]
    assert host.ask("portquery::action_provides", [str(mine.parent), str(mine) + "x"]) == []
    assert host.said == [("error", f"{mine.parent} is a directory."), ("error", f"{mine}x does not exist.")]


INFO = {
    "name": "foo",
    "version": "1.0",
    "revision": "2",
    "categories": ["devel", "net"],
    "description": ["short"],
    "long_description": ["word " * 40],
    "homepage": ["https://example.invalid/"],
    "depends_build": ["bin:cmake:cmake", "port:pkgconfig"],
    "depends_lib": ["port:libbar"],
    "license": ["MIT"],
    "maintainers": ["nomaintainer"],
    "platforms": ["any"],
}


def test_deps(host: Host) -> None:
    assert host.ask("portquery::action_deps", INFO) == [
        "Build Dependencies:   cmake, pkgconfig\nLibrary Dependencies: libbar"
    ]
    assert host.said == [("notice", "Full Name: foo @1.0_2")]
    assert "bin:cmake:cmake, port:pkgconfig" in host.ask("portquery::action_deps", INFO, 1)[0]
    assert host.ask("portquery::action_deps", {"name": "a", "version": "1"}) == []
    assert host.said == [("notice", "a @1_0 has no dependencies.")]


def test_info_and_list(host: Host) -> None:
    (text,) = host.ask("portquery::action_info", INFO)
    lines = text.split("\n")
    assert lines[0] == "foo @1.0_2 (devel, net)"
    assert "Homepage:             https://example.invalid/" in lines
    assert max(map(len, lines)) <= 80 and "Library Dependencies: libbar" in lines
    assert host.ask("portquery::action_list", ["foo", "1.0", "devel/foo"]) == [
        "foo                            @1.0            devel/foo"
    ]


def test_closure_and_why(host: Host) -> None:
    install(host)
    assert host.commands.closure("foo") == ["foo", "libbar"]
    assert host.commands.explain("foo", "LibBar") == ["foo", "libbar"]
    assert host.commands.explain("libbar", "foo") == []
    assert [entry["name"] for entry in host.commands.dependents("libbar")] == ["foo"]  # type: ignore
    assert host.commands.provider(f"path:{host.prefix}/lib/libbar.so:other") == "libbar"
    assert host.commands.is_installed("foo", "1.0", "0", "+x") is True
    assert host.commands.is_active("foo", "1.0", "0", "+x") is False
    assert host.commands.is_active("libbar", "1.0", "0", "") is True
    assert host.commands.is_installed("foo", "1.0", "1", "+x") is False


def test_an_archive_is_byte_for_byte_the_image(host: Host) -> None:
    described = host.describe("foo", "bin/foo")
    packed = host.commands.archive(described, str(host.top / "packages"))
    assert not (host.prefix / "var").exists(), "nothing is recorded"
    image = host.commands.install(described)
    assert Path(str(packed)).read_bytes() == Path(str(image)).read_bytes()
    contents = read_contents(Path(str(packed)))
    assert contents.keys["portname"] == "foo"


def test_files_outside_the_prefix_are_refused(host: Host) -> None:
    described = host.describe("foo", "bin/foo")
    (host.top / "destroot-foo/usr/bin").mkdir(parents=True)
    (host.top / "destroot-foo/usr/bin/evil").write_text("")
    with pytest.raises(
        PorttraceError, match=r"foo would install outside the prefix .*: /usr/bin/evil; correct the port"
    ):
        host.commands.install(described)
    assert not (host.prefix / "var").exists()
    assert host.commands.violations(str(host.top / "destroot-foo")) == ["/usr/bin/evil"]
    (host.top / "destroot-foo" / str(host.prefix).lstrip("/") / "weird").mkdir()
    (host.top / "destroot-foo" / str(host.prefix).lstrip("/") / "weird/x").write_text("")
    assert set(host.commands.violations(str(host.top / "destroot-foo"))) == {  # type: ignore[arg-type]
        "/usr/bin/evil",
        f"{host.prefix}/weird",
    }
    host.commands.install(described + " violate_mtree yes")
    with Registry.open(host.commands.images.registry_file) as registry:
        assert b"/usr/bin/evil" in registry.image_files(registry.ports("foo")[0])


def test_bad_words_are_one_clear_line(host: Host) -> None:
    for call, text in (
        (lambda: host.commands.install("name"), "missing value to go with key"),
        (lambda: host.commands.install("name foo"), "has no version"),
        (lambda: host.commands.closure("{a"), "list of ports"),
        (lambda: host.commands.provider("nonsense"), "invalid depspec: nonsense"),
        (lambda: host.commands.is_installed("a", "1", "x", ""), "revision is 'x'"),
        (lambda: host.commands.image_name("a", "1_0", "any", "noarch", "rar"), "portarchivetype rar is not supported"),
        (lambda: host.commands.archive(host.describe("foo", "bin/foo", destroot="/nowhere"), "x"), "no destroot found"),
    ):
        with pytest.raises(PorttraceError, match=text) as caught:
            call()
        assert "\n" not in str(caught.value)
