"""bench/run.py: figures are compared as it says, and the whole of it runs, with a peer that is given."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "bench"))

from interleave import Effort, Rounds, added, interleave, ratio
from peers import given
from plot import svg

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


def test_a_peer_is_a_name_and_a_command() -> None:
    (peer,) = given(["x y='a b' c"])
    assert (peer.name, peer.prefix) == ("x y", ["a b", "c"])
    with pytest.raises(ValueError, match="--peer wants"):
        given(["nothing"])


def test_the_plot_is_well_formed() -> None:
    text = svg("a < b", {"work": {"peer & co": (0.9, 1.5, 20.0)}}, ["peer & co"])
    titles = [e.text for e in ElementTree.fromstring(text).iter("{http://www.w3.org/2000/svg}title")]
    assert titles == ["work, peer & co: 1.50"]


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "bench" / "run.py"), *words], capture_output=True, text=True, timeout=300
    )


def test_a_short_run(tmp_path: Path) -> None:
    words = ("--quick", "--no-peers", "--no-scaling", "--only", "find,fork+exec", "--minutes", "0.01")
    done = bench(*words, "--registry-files", "1000", "--peer", "niced=nice -n 0", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "bench-quick.json").read_text())
    peers = {"untraced", "empty library", "landlock launcher", "niced", "porttrace: tracelib"}
    assert peers <= set(figures["commands"]["find"])
    assert min(figures["commands"]["fork+exec"]["porttrace: tracelib"]) > 0
    text = (tmp_path / "bench-quick.md").read_text()
    assert "porttrace: tracelib / empty library, find" in text
    assert ElementTree.parse(tmp_path / "bench-quick.svg")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--only", "nothing"), "--only knows"),
        (("--peer", "x"), "--peer wants"),
        (("--minutes", "0"), "--minutes wants more than 0"),
    ],
)
def test_bad_input_gets_one_line(words: tuple[str, ...], says: str) -> None:
    done = bench(*words)
    assert done.returncode == 2
    assert says in done.stderr.splitlines()[-1]
