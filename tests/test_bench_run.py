"""bench/run.py: figures are compared as it says, and the whole of it runs, with a peer that is given."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "bench"))

import spawning
from compiled import build_native
from interleave import Effort, Rounds, added, interleave, ratio
from ours import porttrace_peers
from peers import Peer, given
from plot import svg
from results import FENCE_ALONE, PLAIN, Results, markdown
from run import CALLS, CALLS_SHARE, SCALING_SHARE, SHARES, started

SVG = "{http://www.w3.org/2000/svg}"
ROOT = Path(__file__).resolve().parent.parent


def test_every_round_has_each_peer_once_and_guests_only_the_first_rounds() -> None:
    calls: list[str] = []

    def run(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    values = interleave(["a", "b", "guest"], run, Effort(0, least=4, most=9, few=2), "x", ["guest"])
    assert calls[:2] == ["a", "b"]  # before the first round
    assert sorted(calls[2:5]) == sorted(calls[5:8]) == ["a", "b", "guest"]
    assert sorted(calls[8:10]) == sorted(calls[10:]) == ["a", "b"]
    assert [v is None for v in values["guest"]] == [False, False, True, True]
    assert interleave(["a"], run, Effort(3600, least=1, most=7), "x")["a"][6:] != []


def test_figures_are_compared_within_a_round() -> None:
    values: Rounds = {"base": [1.0, 10.0, 100.0], "twice": [2.0, 20.0, 200.0], "guest": [4.0, None, None]}
    assert ratio(values, "twice", "base") == (2.0, 2.0, 2.0)
    assert ratio(values, "guest", "base")[1] == 4.0
    assert added(values, "twice", "base")[1] == 10.0


def test_each_workload_has_its_part_of_the_time() -> None:
    prepared = re.findall(r'Workload\("([^"]+)"', (ROOT / "bench" / "workloads.py").read_text(encoding="utf-8"))
    assert [*prepared, spawning.WORK] == list(SHARES)
    assert sum(SHARES.values()) + CALLS_SHARE + SCALING_SHARE < 1


def test_a_guest_that_cannot_start_processes_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    native = build_native(tmp_path)
    peers = [Peer("untraced"), Peer("gone", ["/nonexistent"]), Peer("broken", ["false"]), Peer("niced", ["nice"])]
    effort = Effort(0, least=2)
    values = spawning.spawning(peers, ["gone", "broken", "niced"], native, tmp_path, effort)
    assert list(values) == ["untraced", "niced"]
    assert all(0 < seconds < 1 for seconds in [*values["untraced"], *values["niced"]] if seconds is not None)
    assert re.findall("not measured: (.*?):", capsys.readouterr().err) == ["gone", "broken"]
    with pytest.raises(SystemExit):
        spawning.spawning(peers, ["gone", "niced"], native, tmp_path, effort)


def test_a_peer_is_a_name_and_a_command() -> None:
    (peer,) = given(["x y=env 'a b' c"])
    assert (peer.name, peer.prefix) == ("x y", [shutil.which("env"), "a b", "c"])


def test_a_persons_own_directories_of_programs_are_not_in_a_timed_commands_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine"
    mine.write_text('#!/bin/sh\n"$@"\n')
    mine.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    (peer,) = given(["x=mine"])
    assert started(peer, ["sh", "-c", "echo $PATH"], tmp_path) == "/bin:/sbin:/usr/bin:/usr/sbin\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        *((text, "wants NAME='COMMAND PREFIX'") for text in ("nothing", "=x", "x=", "x= ")),
        ("x='env", "no closing quotation"),
        ("x=/nonexistent/tool -a", "there is no program '/nonexistent/tool'"),
        *((f"{name}=env", "the name is taken") for name in ("strace", "untraced", "porttrace: tracelib", "first")),
    ],
)
def test_a_peer_that_is_none_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match="--peer") as caught:
        given(["first=env", text])
    assert says in str(caught.value)


def test_the_plot_is_well_formed() -> None:
    text = svg("a < b", "c & d", {"work": {"peer & co": (0.9, 1.5, 20.0)}}, ["peer & co"])
    titles = [e.text for e in ElementTree.fromstring(text).iter(f"{SVG}title")]
    assert titles == ["work, peer & co: 1.50"]


@pytest.mark.parametrize("seconds", [1.019, 1.021])
def test_what_the_fence_alone_may_cost(tmp_path: Path, seconds: float) -> None:
    """On the long workloads it has a bound of its own, against the command that nothing holds."""
    names = ["empty library", "landlock launcher", "launcher and empty library", "porttrace: tracelib"]
    names += ["porttrace: tracelib, full log", "porttrace: tracelib and fence"]
    one: Rounds = {key: [1.0, 1.0] for key in (PLAIN, *names)}
    works = {"W1 configure": one | {FENCE_ALONE: [seconds, seconds]}, "W2 make": one | {FENCE_ALONE: [1.0, 1.0]}}
    text = markdown(Results("a machine", [0, 0], works, {label: one for label, *_ in CALLS}, []), quick=False)
    rows = [line for line in text.splitlines() if line.startswith(f"| {FENCE_ALONE} / {PLAIN}, ")]
    assert [row.split(" | ")[2] for row in rows] == ["1.02", "1.02"]
    assert [row.split(" | ")[3] for row in rows] == [
        "holds |" if seconds < 1.02 else "**does not hold** |",
        "holds |",
    ]


def test_the_fence_alone_is_a_fence_without_the_library(tmp_path: Path) -> None:
    base, native = Path(tempfile.mkdtemp(dir="/var/tmp")), build_native(tmp_path)
    peers = porttrace_peers(base, native, 1000)
    try:
        (peer,) = (peer for peer in peers if peer.name == FENCE_ALONE)
        script = 'touch inside && ! touch "$1" 2>/dev/null && echo "${LD_PRELOAD-none}"'
        argv = [*peer.prefix, "sh", "-c", script, "sh", f"{ROOT}/outside"]
        done = subprocess.run(argv, cwd=base, capture_output=True, text=True)
    finally:
        peers[0].close()
        shutil.rmtree(base)
    assert (done.returncode, done.stdout) == (0, "none\n"), done


@pytest.mark.parametrize("most", [0.4, 1.0, 1.06, 3.0, 30.0, 300.0])
def test_the_scale_of_the_plot_can_be_read(most: float) -> None:
    """No mark lies upon another, the untraced run has one, and nothing sticks out."""
    groups = {"work": {"a": (0.3, most, most), "a rather long name of a tool": (1.0, 1.0, 1.01)}}
    root = ElementTree.fromstring(svg("title", "below", groups, ["a", "a rather long name of a tool"]))
    texts = [(float(e.attrib["x"]), float(e.attrib["y"]), e.text or "") for e in root.iter(f"{SVG}text")]
    marks = [text for text in texts if text[2].endswith(" times")]
    assert "1 times" in {text for _, _, text in marks}
    for row in {y for _, y, _ in marks}:
        at = sorted(x for x, y, _ in marks if y == row)
        assert all(b - a >= 48 for a, b in itertools.pairwise(at))
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    assert all(0 <= x <= width - 20 and 0 < y < height for x, y, _ in texts)


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "bench" / "run.py"), *words], capture_output=True, text=True, timeout=300
    )


def test_a_short_run(tmp_path: Path) -> None:
    words = ("--quick", "--no-peers", "--no-scaling", "--only", "find,fork+exec", "--minutes", "0.01")
    done = bench(*words, "--registry-files", "1000", "--peer", "niced=nice -n 0", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "bench-quick.json").read_text())
    peers = {"untraced", "empty library", "landlock launcher", "niced", "porttrace: tracelib", "porttrace: fence alone"}
    assert peers <= set(figures["commands"]["find"])
    assert min(figures["commands"]["fork+exec"]["porttrace: tracelib"]) > 0
    text = (tmp_path / "bench-quick.md").read_text()
    assert "porttrace: tracelib / empty library, find" in text
    assert "porttrace: tracelib and fence / launcher and empty library, fork+exec" in text
    assert ElementTree.parse(tmp_path / "bench-quick.svg")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--only", "nothing"), "--only knows"),
        (("--peer", "x"), "--peer wants"),
        (("--peers", "strace,nothing"), "--peers knows"),
        (("--registry-files", "0"), "--registry-files wants at least 1"),
        (("--base", "/dev/null/none"), "/dev/null/none"),
        (("--minutes", "0"), "--minutes wants more than 0"),
    ],
)
def test_bad_input_gets_one_line(words: tuple[str, ...], says: str) -> None:
    done = bench(*words)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert says in line
