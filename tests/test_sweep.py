"""port sweep: many ports, each in a prefix of its own; stopped, killed, crashed, on workers, and asked wrongly."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, Browser
from conftest import PATIENCE, PORT_HEAD, Prefix, Result, prefix_script, run_command
from terminal import Terminal

from porttrace import archive
from porttrace.errors import PorttraceError
from porttrace.sweep import Node, Plan, Results
from porttrace.sweep.job import probe

HEAD = (
    PORT_HEAD
    + """\
build {{}}
destroot {{
    xinstall -d ${{destroot}}${{prefix}}/share/{name}
    system "echo ${{prefix}} > ${{destroot}}${{prefix}}/share/{name}/data"
}}
"""
)
USE = 'build {{ system -W ${{worksrcpath}} "cat ${{prefix}}/share/{0}/data > out{1}" }}\n'
GATE = """
trace.read-append {gate}
build {{ system "while ! test -e {gate}; do sleep 0.2; done" }}
"""
SLOW = GATE.replace('build {{ system "', 'build {{ system "cat ${{prefix}}/share/base/data; ')
PORTS = {
    "base": "",
    "stray": "",
    "good": "depends_lib port:base\n" + USE.format("base", ""),
    "greedy": "depends_lib port:base port:good\n" + USE.format("base", "; cat ${prefix}/share/stray/data || :"),
    "broken": 'build { system "echo no luck; exit 1" }\n',
    "above": "depends_lib port:broken\n",
    "lost": "depends_run port:nosuchport\n",
}


def tree(directory: Path, ports: dict[str, str]) -> Prefix:
    """A prefix whose tree holds these ports only."""
    prefix = Prefix(prefix_script.make(directory / "prefix"))
    shutil.rmtree(prefix.tree)
    (prefix.tree / "_resources/port1.0/group").mkdir(parents=True)
    for name, more in ports.items():
        prefix.add_port("devel", name, HEAD.format(name=name) + more)
    return prefix


def sweep_dir(prefix: Prefix) -> Path:
    return prefix.path / "var/macports/porttrace/sweep"


def rows(prefix: Prefix) -> dict[str, dict[str, Any]]:
    """The results, read from the file itself."""
    with contextlib.closing(sqlite3.connect(f"file:{sweep_dir(prefix)}/results.sqlite?mode=ro", uri=True)) as database:
        database.row_factory = sqlite3.Row
        found = {row["name"]: dict(row) for row in database.execute("select * from ports")}
        for row in database.execute("select * from findings"):
            found[row["port"]].setdefault("found", set()).add((row["code"], row["subject"]))
    return found


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"{what}: not within {seconds} s")
        time.sleep(0.1)


def processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").glob("[0-9]*")]


def works_on(pid: int, prefix: Prefix, port: str) -> bool:
    """Whether a process is the one that a sweep has started for a port."""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
        log = os.readlink(f"/proc/{pid}/fd/2")  # noqa: PTH115
        return b"porttrace.sweep.child" in words and log == f"{sweep_dir(prefix)}/logs/{port}.log"
    return False


def start(prefix: Prefix, *words: str) -> subprocess.Popen[str]:
    """Begin a sweep, in a process group of its own."""
    return subprocess.Popen(
        prefix.argv("-t", "sweep", *words),
        env=dict(prefix.env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_build(prefix: Prefix, port: str) -> None:
    log = sweep_dir(prefix) / f"logs/{port}.log"
    wait_for(lambda: log.exists() and f"Building {port}" in log.read_text(), f"the build of {port}")


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="NOT CHECKED: looks for processes in /proc, which this system lacks"
)


@pytest.fixture(scope="module")
def swept() -> Iterator[tuple[Prefix, Result]]:
    if not Path("/proc/self/stat").exists():
        pytest.skip("NOT CHECKED: looks for processes in /proc, which this system lacks")
    directory = Path(tempfile.mkdtemp(prefix="porttrace-test-"))
    directory.chmod(0o755)
    prefix = tree(directory, PORTS | {"crash": GATE.format(gate=directory / "gate")})
    process = start(prefix, "--jobs", "2", "all")
    wait_for_build(prefix, "crash")
    (child,) = [pid for pid in processes() if works_on(pid, prefix, "crash")]
    os.kill(child, signal.SIGKILL)
    out, err = process.communicate(timeout=PATIENCE)
    yield prefix, Result(process.returncode, out, err, process.pid)
    shutil.rmtree(directory)


# --- what it finds -------------------------------------------------------------------------------------------------


def test_each_port_has_its_verdict(swept: tuple[Prefix, Result]) -> None:
    prefix, result = swept
    assert result.status == 1, result.text
    found = rows(prefix)
    assert {name: row["status"] for name, row in found.items() if row["kind"] == "test"} == {
        "base": "right",
        "stray": "right",
        "good": "right",
        "greedy": "change",
        "broken": "failed",
        "above": "blocked",
        "crash": "crashed",
        "lost": "blocked",
    }
    # stray was there to be picked up, though nobody needs it; good, which brings base in as well, is superfluous
    assert found["greedy"]["found"] == {("PT001", "stray"), ("PT007", "good")}, found["greedy"]["verdict"]
    assert "command execution failed" in found["broken"]["error"] and "no luck" in found["broken"]["log"]
    assert "killed by signal 9" in found["crash"]["error"]
    assert found["above"]["error"] == "needs broken, which failed"
    assert "port nosuchport not found" in found["lost"]["error"]
    assert "8 ports" in result.out and "3 right, 1 to be changed, 1 failed, 1 crashed, 2 blocked" in result.out
    assert "greedy: to be changed: missing stray, superfluous good" in result.out
    assert "\x1b" not in result.text, "progress is for terminals"
    # the prefix that is in use knows nothing of it
    assert prefix.installed() == set() and not (prefix.path / "share").exists()


def test_nothing_is_left_of_the_prefixes(swept: tuple[Prefix, Result]) -> None:
    directory = sweep_dir(swept[0])
    left = [path for path in directory.rglob("*") if path.name.startswith("job-")]
    assert left == [] or {path.name.partition(".")[0] for path in left} == {left[0].name.partition(".")[0]}
    assert not (directory / "prefix/share").exists()


def test_what_is_done_is_not_done_again(swept: tuple[Prefix, Result]) -> None:
    prefix, _ = swept
    before = rows(prefix)
    again = prefix.run("-t", "sweep", "all")
    after = rows(prefix)
    for name in ("base", "stray", "good", "greedy", "broken", "crash"):
        assert after[name]["started"] == before[name]["started"], name
    assert not list(sweep_dir(prefix).glob("jobs/*")), "what the killed one had left"
    assert again.status == 1 and "3 right, 1 to be changed" in again.out and "--retry" in again.out
    # another Portfile, and only that port and what needs it
    portfile = prefix.tree / "devel/good/Portfile"
    portfile.write_text(portfile.read_text() + "# changed\n")
    prefix.run("-t", "sweep", "good", "base", "stray", "greedy")
    changed = rows(prefix)
    assert {n for n in before if changed[n]["started"] != after[n]["started"]} == {"good", "greedy"}
    assert changed["greedy"]["found"] == before["greedy"]["found"]
    # what failed is done again where that is asked for
    portfile = prefix.tree / "devel/broken/Portfile"
    assert prefix.run("-t", "sweep", "broken").status == 1
    assert rows(prefix)["broken"]["started"] == before["broken"]["started"]
    assert prefix.run("-t", "sweep", "--retry", "broken").status == 1
    assert rows(prefix)["broken"]["started"] > before["broken"]["started"]


def test_json_and_exit_status(swept: tuple[Prefix, Result]) -> None:
    prefix, _ = swept
    result = prefix.run("-t", "sweep", "--json", "base", "greedy")
    assert result.status == 3
    value = json.loads(result.out)
    assert value["version"] == 1 and value["counts"] == {"right": 1, "change": 1}
    (greedy,) = [port for port in value["ports"] if port["name"] == "greedy"]
    missing = next(f for f in greedy["findings"] if f["code"] == "PT001")
    assert (missing["port"], missing["fix"]) == ("stray", "depends_build-append port:stray") or missing["fix"]
    assert prefix.run("-q", "-t", "sweep", "base").status == 0


def test_the_same_without_mounts(open_tmp: Path) -> None:
    """As on a machine where nobody may mount: a path for each job, and archives for each path."""
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        pytest.skip("nothing else is done here anyway: mounts need root on Linux")
    prefix = tree(open_tmp, {name: PORTS[name] for name in ("base", "stray", "good", "greedy")})
    argv = ["setpriv", "--bounding-set=-sys_admin", *prefix.argv("-t", "sweep", "--jobs", "2", "all")]
    result = run_command(argv, env=prefix.env)
    assert result.status == 3, result.text
    assert "each of the jobs builds the dependencies for its own prefix" in result.out
    assert rows(prefix)["greedy"]["found"] == {("PT001", "stray"), ("PT007", "good")}
    slots = sweep_dir(prefix) / "slots"
    made = list(slots.glob("*/archives/base-*"))
    assert made and not list(slots.glob("*/prefix"))
    for number, file in enumerate(made):
        (open_tmp / str(number)).mkdir()
        archive.extract(file, open_tmp / str(number))
        (data,) = (open_tmp / str(number)).rglob("share/base/data")
        assert data.read_text().strip() == str(file.parent.parent / "prefix"), "an archive is good for its own path"


# --- stopped and killed --------------------------------------------------------------------------------------------


def at_work(directory: Path) -> list[int]:
    """Processes that work for a sweep in this directory."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.fsencode(directory) in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_sweep_that_is_stopped_goes_on_where_it_was(open_tmp: Path, number: signal.Signals) -> None:
    gate = open_tmp / "gate"
    prefix = tree(open_tmp, {"base": "", "slow": "depends_lib port:base\n" + SLOW.format(gate=gate), "also": ""})
    process = start(prefix, "--jobs", "2", "all")
    wait_for_build(prefix, "slow")
    before = rows(prefix)
    assert (before["base"]["status"], before["slow"]["status"]) == ("right", "running")
    os.killpg(process.pid, number)
    output = "".join(process.communicate(timeout=PATIENCE))
    assert process.returncode == -number, output
    assert "Traceback" not in output
    wait_for(lambda: not at_work(sweep_dir(prefix)), "the end of what it had started", 30)
    if number == signal.SIGINT:
        assert "start the same again to go on" in output
    gate.touch()
    prefix.port("-t", "sweep", "--jobs", "2", "all")
    after = rows(prefix)
    assert {name: row["status"] for name, row in after.items()} == dict.fromkeys(("base", "also", "slow"), "right")
    assert after["base"]["started"] == before["base"]["started"]
    assert after["slow"]["started"] > before["slow"]["started"]


@needs_proc
def test_a_port_that_takes_too_long_is_given_up(open_tmp: Path) -> None:
    prefix = tree(open_tmp, {"base": "", "slow": GATE.format(gate=open_tmp / "gate")})
    prefix.port("-t", "sweep", "base")  # which would take too long, too, on a machine with other things to do
    result = prefix.run("-t", "sweep", "--jobs", "2", "--timeout", "4", "all")
    found = rows(prefix)
    assert result.status == 1 and found["base"]["status"] == "right"
    assert (found["slow"]["status"], found["slow"]["error"]) == ("failed", "given up after 4 s")
    wait_for(lambda: not at_work(sweep_dir(prefix)), "the end of what it had started", 30)


def test_two_sweeps_do_not_disturb_each_other(swept: tuple[Prefix, Result]) -> None:
    prefix, _ = swept
    lock = subprocess.Popen(["flock", sweep_dir(prefix) / "lock", "sleep", "60"])
    try:
        wait_for(lambda: bool(prefix.run("-t", "sweep", "base").status), "the lock")
        assert "another sweep works in" in prefix.fails("-t", "sweep", "base").err
    finally:
        subprocess.run(["pkill", "-P", str(lock.pid)], check=False)
        lock.wait()


# --- on Dask -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def dask(directory: Path, workers: int) -> Iterator[tuple[subprocess.Popen[bytes], list[subprocess.Popen[bytes]]]]:
    """A scheduler and workers, each a process; the scheduler's address is in the file `scheduler`."""
    file = directory / "scheduler"
    started: list[subprocess.Popen[bytes]] = []

    def begin(what: str, *words: str) -> None:
        argv = [sys.executable, "-P", "-m", f"distributed.cli.dask_{what}", "--no-dashboard", *words]
        argv += ["--scheduler-file", str(file)]
        started.append(subprocess.Popen(argv, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    try:
        begin("scheduler", "--host", "127.0.0.1", "--port", "0")
        for _ in range(workers):
            begin("worker", "--no-nanny", "--nthreads", "1")
        yield started[0], started[1:]
    finally:
        for process in started:
            process.kill()
            process.wait()


@needs_proc
def test_workers_of_dask_and_what_is_killed_of_it(open_tmp: Path) -> None:
    pytest.importorskip("distributed", reason="NOT CHECKED: Dask is not installed")
    gate = open_tmp / "gate"
    names = ("base", "stray", "good", "greedy")
    prefix = tree(open_tmp, {name: PORTS[name] for name in names} | {"slow": GATE.format(gate=gate)})
    with dask(open_tmp, 3) as (scheduler, workers):
        place = open_tmp / "scheduler"  # there a moment before anything stands in it
        wait_for(lambda: place.exists() and place.read_text().rstrip().endswith("}"), "the scheduler")
        address = json.loads(place.read_text())["address"]
        wait_for(lambda: prefix.run("-q", "-t", "sweep", "--scheduler", address, "stray").status == 0, "a worker")
        process = start(prefix, "--scheduler", address, "all")
        wait_for_build(prefix, "slow")
        (child,) = [pid for pid in processes() if works_on(pid, prefix, "slow")]
        parent = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1])
        (worker,) = [each for each in workers if each.pid == parent]
        worker.kill()
        # Not its number: whoever has adopted it may not have asked for its end yet.
        wait_for(lambda: not works_on(child, prefix, "slow"), "the end of what the worker had started")
        gate.touch()
        output = "".join(process.communicate(timeout=PATIENCE))
        assert process.returncode == 3, output
        found = rows(prefix)
        assert {name: row["status"] for name, row in found.items()} == {
            **dict.fromkeys(("base", "stray", "good", "slow"), "right"),
            "greedy": "change",
        }
        assert found["greedy"]["found"] == {("PT001", "stray"), ("PT007", "good")}
        # the scheduler itself
        gate.unlink()
        (sweep_dir(prefix) / "logs/slow.log").unlink()
        process = start(prefix, "--scheduler", address, "--restart", "slow")
        wait_for_build(prefix, "slow")
        scheduler.kill()
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 1 and out == ""
        assert err == "Error: the Dask scheduler is gone; start the same again to go on\n"
    assert rows(prefix)["slow"]["status"] == "running"
    wait_for(lambda: not at_work(sweep_dir(prefix)), "the end of what the workers had started", 30)


def test_a_worker_that_sees_another_directory_says_so(tmp_path: Path) -> None:
    assert "cannot read" in probe(str(tmp_path), "mine")
    (tmp_path / "token").write_text("another")
    assert "sees another" in probe(str(tmp_path), "mine")
    assert probe(str(tmp_path), "another") == ""


def test_without_dask_the_message_says_what_to_install(swept: tuple[Prefix, Result], open_tmp: Path) -> None:
    (open_tmp / "distributed.py").write_text("raise ImportError('as if it were not installed')\n")
    prefix = Prefix(swept[0].path, env={**swept[0].env, "PYTHONPATH": str(open_tmp)})
    result = prefix.fails("-t", "sweep", "--scheduler", "tcp://127.0.0.1:8786", "base")
    assert len(result.err.splitlines()) == 1 and "pip install 'porttrace[sweep]'" in result.err


# --- what is wrong is said -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nosuch",), "port nosuch not found in"),
        (("--jobs", "0", "base"), "--jobs 0: at least one port"),
        (("--jobs", "x", "base"), "invalid int value: 'x'"),
        (("--timeout", "-1", "base"), "--timeout -1"),
        ((), "the following arguments are required: PORT"),
        (("base", "+doc"), "'+doc' is no name of a port"),
        (("--scheduler", "tcp://127.0.0.1:1", "base"), "the Dask scheduler tcp://127.0.0.1:1 does not answer"),
        (("--scheduler", "nonsense", "base"), "--scheduler nonsense: missing port number"),
        (("--results", "/proc/nosuch/r.sqlite", "base"), "/proc/nosuch/r.sqlite cannot be used for results"),
        (("--directory", "/proc/nosuch", "base"), "/proc/nosuch"),
    ],
)
def test_bad_input_is_one_clear_line(swept: tuple[Prefix, Result], words: tuple[str, ...], said: str) -> None:
    before = rows(swept[0])
    result = swept[0].fails("-t", "sweep", *words)
    assert said in result.err and len(result.err.splitlines()) == 1, result.err
    assert rows(swept[0]) == before


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("text", "file is not a database"),
        ("foreign", "holds something else than a sweep's results"),
        ("newer", "was written by another version of porttrace (format 99, this one has 1)"),
    ],
)
def test_a_results_file_of_something_else_is_left_alone(tmp_path: Path, what: str, said: str) -> None:
    file = tmp_path / "results"
    if what == "text":
        file.write_text("these are my notes " * 100)
    elif what == "foreign":
        with contextlib.closing(sqlite3.connect(file)) as database:
            database.execute("create table mine (x)")
    else:
        with Results(file):
            pass
        with contextlib.closing(sqlite3.connect(file)) as database:
            database.execute("pragma user_version = 99")
    before = file.read_bytes()
    with pytest.raises(PorttraceError) as error, Results(file):
        pass
    assert said in str(error.value) and "\n" not in str(error.value)
    assert file.read_bytes() == before


# --- the order -----------------------------------------------------------------------------------------------------


def nodes(**needs: str) -> list[Node]:
    """Nodes from `name="lib:other test:third"`."""
    return [
        Node(name, needs=tuple((spec.split(":")[0], spec.split(":")[1]) for spec in text.split()))
        for name, text in needs.items()
    ]


def test_the_order_and_what_a_prefix_holds() -> None:
    plan = Plan(nodes(top="lib:mid run:low", mid="build:low", low="", other="", side="lib:other"), ["top"], False)
    assert [plan.nodes[name].level for name in ("low", "other", "mid", "side", "top")] == [0, 0, 1, 1, 2]
    assert plan.closure("top") == ["low", "mid"]
    assert plan.others("top") == ["other", "side"]
    assert plan.ready("low", (), 0) and not plan.ready("mid", ("other",), 0) and not plan.ready("mid", ("low",), 0)
    assert plan.ready("mid", ("low", "other"), 1) and not plan.ready("top", ("low", "mid", "other"), 1)
    assert {name for name, node in plan.nodes.items() if node.kind == "test"} == {"top"}
    alone = Plan(nodes(top="lib:mid run:low", mid="build:low", low="", other=""), ["top"], True)
    assert alone.others("top") == [] and alone.ready("top", ("low", "mid"), 0) and not alone.ready("top", ("low",), 0)
    assert alone.nodes["top"].key != plan.nodes["top"].key


def test_a_whole_tree_is_ordered_quickly() -> None:
    start = time.process_time()
    many = [Node(f"p{n}", needs=tuple(("lib", f"p{m}") for m in (n // 2, n // 3) if m < n)) for n in range(20_000)]
    plan = Plan(many, ["p19999"], False)
    assert plan.closure("p19999")[0] == "p0" and max(node.level for node in plan.nodes.values()) == 15
    assert sum(len(plan.closure(name)) for name in plan.order) > 900_000
    assert time.process_time() - start < 20


def test_circles() -> None:
    plan = Plan(nodes(a="lib:b", b="test:a", c="lib:d", d="run:c", e="lib:c"), ["a", "e"], True)
    assert plan.closure("a") == ["b"] and plan.nodes["b"].error == "", "tests that need what needs the port"
    assert plan.direct("b") == frozenset()
    for name in "cd":
        assert "depend on each other" in plan.nodes[name].error
    assert plan.nodes["e"].error == "" and plan.direct("e") == {"c"}


def test_the_key_tells_every_change(tmp_path: Path) -> None:
    (tmp_path / "low").mkdir()
    (tmp_path / "low/Portfile").write_text("1")

    def keys() -> list[str]:
        plan = Plan([Node("low", str(tmp_path / "low")), Node("top", needs=(("lib", "low"),))], ["top"], False)
        return [plan.nodes["low"].key, plan.nodes["top"].key]

    first = keys()
    assert keys() == first
    (tmp_path / "low/files").mkdir()
    (tmp_path / "low/files/patch").write_text("x")
    second = keys()
    assert second[0] != first[0] and second[1] != first[1]


# --- seen by people ------------------------------------------------------------------------------------------------


def test_progress_is_shown_on_a_terminal(swept: tuple[Prefix, Result]) -> None:
    prefix, _ = swept
    terminal = Terminal(prefix.argv("-t", "sweep", "--retry", "broken"))
    assert os.waitstatus_to_exitcode(terminal.wait()) == 1
    assert "\r\x1b[Kreading what the ports need: 1, 0 to come" in terminal.text
    assert "\r\x1b[K[0/1] 0 to be changed, 0 failed; now: broken" in terminal.text
    assert "broken: failed" in terminal.text


def test_the_page_in_a_browser(swept: tuple[Prefix, Result], tmp_path: Path) -> None:
    page = sweep_dir(swept[0]) / "results.html"
    text = page.read_text()
    assert text.count("<script") == 2 and "url(" not in text and "src=" not in text
    if CHROMIUM is None:
        pytest.skip("NO CHROMIUM: the summary page was not looked at in a browser (apt install chromium)")
    with Browser(tmp_path / "profile") as browser:
        colours = {}
        for dark in (False, True):
            browser.open(page, dark=dark)
            colours[dark] = browser.js("getComputedStyle(document.body).backgroundColor")
        assert colours[True] != colours[False]
        count = "document.querySelectorAll('#rows tr').length"
        assert browser.js(count) == 9
        assert "depends_" in browser.js("document.getElementById('rows').textContent")
        browser.js("document.getElementById('q').focus()")
        for char in "stray":
            browser.key(char, char)
        assert 1 <= browser.js(count) < 9
        browser.screenshot(tmp_path / "dark.png")
        browser.open(page, width=360, height=740)
        assert browser.js("document.documentElement.scrollWidth") <= 360, "it scrolls sideways"
        assert browser.complaints == []
