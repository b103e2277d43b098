"""The library is a guest: whatever its host does, the host goes on as if it were alone, and stays traced."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tracelib_session import MUSL_LIBRARY, SOURCE, Session, compile_c

GUEST = SOURCE / "tests" / "guest"
MUSL = (shutil.which("musl-gcc") or "") if MUSL_LIBRARY.exists() else ""
NO_MUSL = pytest.mark.skipif(not MUSL, reason="NOT CHECKED: programs of musl (Debian: musl-tools)")
CASES = re.findall(r"CASE\((\w\w+)\)", (GUEST / "guest.c").read_text().split("cases[] = {")[1])


#: Under each of these every case is tried.
HOSTS = ("glibc", "musl", "asan", "valgrind")
#: What a case itself leaves out there, with its reason; it says the same, word for word.
LEFT_OUT = {
    ("valgrind", "bad_pointers"): "valgrind reports a bad pointer, whoever hands it on",
    ("valgrind", "clone"): "valgrind knows no process that shares memory and is no thread",
    ("valgrind", "listing_elsewhere"): "valgrind keeps the numbers of descriptors as they were when it started",
    ("valgrind", "stack_use"): "valgrind calls it a mistake to look at a stack that was used",
    ("asan", "stack_use"): "under ASan the depth is that of its own frames",
}
HOST_CASES = [
    pytest.param(host, case, marks=NO_MUSL if host == "musl" else (), id=f"{host}-{case}")
    for host in HOSTS
    for case in CASES
]


@pytest.fixture(scope="module")
def top() -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="tracelib-guest-"))
    place.chmod(0o755)
    flags = ("-pthread", "-lrt", "-Wno-format-truncation", "-Wno-nonnull")
    guest = (str(GUEST / "manners.c"), *flags)
    compile_c(GUEST / "guest.c", place / "guest-glibc", *guest)
    compile_c(GUEST / "guest.c", place / "guest-asan", *guest, "-fsanitize=address,undefined")
    compile_c(GUEST / "alloc.c", place / "alloc", "-fno-builtin", "-Wno-format-truncation")
    if MUSL:
        after = ("-idirafter", "/usr/include", f"-idirafter/usr/include/{os.uname().machine}-linux-gnu")
        compile_c(GUEST / "guest.c", place / "guest-musl", *guest, "-fno-builtin", *after, compiler=MUSL)
        compile_c(GUEST / "alloc.c", place / "alloc-musl", "-fno-builtin", *after, *flags, compiler=MUSL)
    # our library asks to come first, too: of two that do, the one that was loaded last does
    compile_c(GUEST / "early.c", place / "early.so", "-shared", "-fPIC", "-fno-builtin", "-Wl,-z,initfirst")
    yield place
    shutil.rmtree(place)


def planted(top: Path) -> Path:
    place = Path(tempfile.mkdtemp(dir=top))
    place.chmod(0o755)
    for name in ("seen", "hidden"):
        (place / name).mkdir()
        (place / name / "file").touch()
    return place


@pytest.fixture
def tree(top: Path) -> Path:
    return planted(top)


@pytest.fixture
def session(tree: Path) -> Iterator[Session]:
    with Session(f"rw:{tree}/hidden=-", "rw:/=+") as session:
        yield session


@pytest.fixture(scope="module")
def under_valgrind(top: Path) -> str:
    """What all cases in one run say: valgrind starts slowly. It also looks at what the library does with memory."""
    if shutil.which("valgrind") is None:
        pytest.skip("NOT CHECKED: hosts under valgrind, which is not on this machine")
    place = planted(top)
    with Session(f"rw:{place}/hidden=-", "rw:/=+") as session:
        env = {**os.environ, "GUEST_SLOW": "1"}
        done = session.run("valgrind", "-q", "--error-exitcode=9", top / "guest-glibc", "all", place, env=env)
    return done.stdout + done.stderr


@pytest.mark.parametrize(("host", "case"), HOST_CASES)
def test_host_goes_on_and_stays_traced(
    host: str, case: str, top: Path, tree: Path, session: Session, request: pytest.FixtureRequest
) -> None:
    reason = LEFT_OUT.get((host, case))
    before = f"left out: {reason}\n" if reason else ""
    if host == "valgrind":
        said = request.getfixturevalue("under_valgrind")
        assert f"\n{before}{case}: ok\n" in f"\n{said}", said  # what it finds makes the status of the case
        return
    env = dict(os.environ)
    if host == "asan":
        env["ASAN_OPTIONS"] = "detect_leaks=0"
    done = session.run("/usr/bin/env", top / f"guest-{host}", case, tree, env=env)
    assert (done.returncode, done.stdout) == (0, f"{before}ok\n"), done.stderr
    # under ASan, UBSan says that a bad pointer is one
    assert done.stderr == "" or (host == "asan" and case == "bad_pointers")
    # A jump out of a wrapper can leave what that was just telling half told: the reader counts it, and goes on.
    session.half_told = 400 if case == "jump_out_of_many" else 0
    assert not session.events("untraced")


def test_every_case_is_tried_in_every_host() -> None:
    """Nothing is left out but what LEFT_OUT names: a case without it has no other way to say less."""
    text = "".join((GUEST / name).read_text() for name in ("guest.c", "manners.c"))
    assert len(HOST_CASES) == len(HOSTS) * len(CASES) == len({p.id for p in HOST_CASES})
    assert set(CASES) == set(re.findall(r"^(?:static )?void case_(\w+)\(void\)$", text, re.M))
    assert {case for _, case in LEFT_OUT} <= set(CASES)
    assert sorted(re.findall(r"\tleft_out\(\"(.*?)\"\)", text)) == sorted(LEFT_OUT.values())


@NO_MUSL
def test_musl_host_by_its_own_loader(top: Path, tree: Path, session: Session) -> None:
    """As on a system whose only C library is musl: its loader is given the library for it."""
    env = {**os.environ, "LD_PRELOAD": str(session.dir / "tracelib-musl.so")}
    done = subprocess.run([top / "guest-musl", "links", tree], env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")


@NO_MUSL
def test_each_c_library_starts_programs_of_the_other(top: Path, tree: Path, session: Session) -> None:
    starter = top / "starter.c"
    starter.write_text(
        "#include <spawn.h>\n#include <sys/wait.h>\n#include <unistd.h>\nextern char **environ;\n"
        "int main(int n, char **v) { pid_t p; if (n < 2) return 2; if (v[0][0] == 's') {"
        " int s; if (posix_spawn(&p, v[1], 0, 0, v + 1, environ)) return 9; waitpid(p, &s, 0); return s >> 8; }"
        " execv(v[1], v + 1); return 9; }\n"
    )
    glibc = compile_c(starter, top / "starter")
    musl = compile_c(starter, top / "starter-musl", compiler=MUSL)
    done = session.run(glibc, musl, glibc, musl, glibc, musl, "/bin/cat", tree / "hidden" / "file")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"/bin/cat: {tree}/hidden/file: No such file or directory\n"
    assert [Path(e.path).name for e in session.events("process")] == [
        *("starter", "starter-musl", "starter", "starter-musl", "starter", "starter-musl", "cat")
    ]
    assert not session.events("untraced")
    done = session.run("/bin/sh", "-c", f"{musl} /usr/bin/env", env={**os.environ, "LD_PRELOAD": ""})
    assert f"LD_PRELOAD={session.library}\n" in done.stdout


# ASan and valgrind put allocators of their own in the place of the program's
@pytest.mark.parametrize("host", ["alloc", pytest.param("alloc-musl", marks=NO_MUSL)])
def test_nothing_is_taken_from_the_programs_allocator(host: str, top: Path, tree: Path, session: Session) -> None:
    done = session.run("/usr/bin/env", top / host, tree)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")


def private(argv: list[object], env: dict[str, str]) -> int:
    """
    Memory in KiB that is a process's own, by its smaps_rollup. As in a build it does not run alone: pages of files that
    another process has mapped, too, belong to nobody.
    """
    running = []
    for _ in range(2):
        process = subprocess.Popen(
            [str(a) for a in argv], env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdin and process.stdout and process.stdout.readline() == "ready\n"
        running.append(process)
    text = ""
    for process in reversed(running):
        text = text or process.communicate("go\n")[0]
        process.communicate()
        assert process.returncode == 0
    sizes = dict(re.findall(r"^(\w+): +(\d+) kB$", text, re.MULTILINE))
    return int(sizes["Private_Clean"]) + int(sizes["Private_Dirty"])


def test_memory_of_its_own_is_small(top: Path, tree: Path, session: Session) -> None:
    source = top / "memory.c"
    source.write_text(MEMORY)
    hosts = [compile_c(source, top / "memory")]
    if MUSL:
        hosts.append(compile_c(source, top / "memory-musl", compiler=MUSL))
    for host in hosts:
        argv: list[object] = ["/usr/bin/env", host, tree]
        plain = min(private(argv, dict(os.environ)) for _ in range(3))
        traced = min(private(argv, session.env) for _ in range(3))
        print(f"{host.name}: {traced - plain} KiB")
        assert 0 < traced - plain <= 256, f"{host.name}: {traced - plain} KiB more than without the library"


MEMORY = r"""
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
/* A program that has looked at 3,000 names in 300 directories, has 900 open, and has started another. */
int main(int n, char **v)
{
	char path[4096];
	struct stat st;
	if (n != 2)
		return 2;
	for (int d = 0; d < 300; d++)
		for (int f = 0; f < 10; f++) {
			snprintf(path, sizeof path, "%s/seen/d%d/f%d", v[1], d, f);
			(void)stat(path, &st);
			(void)access(path, R_OK);
		}
	struct rlimit limit;
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max < 1200 ? limit.rlim_max : 1200;
	setrlimit(RLIMIT_NOFILE, &limit);
	for (int i = 0; i < 900; i++) {
		snprintf(path, sizeof path, "%s/seen/d%d", v[1], i % 300);
		mkdir(path, 0700);
		int fd = open(path, O_RDONLY | O_DIRECTORY);
		if (fd < 0)
			return 3;
		(void)fstatat(fd, "f", &st, 0);
	}
	pid_t pid = fork();
	if (pid == 0) {
		execl("/bin/true", "true", (char *)NULL);
		_exit(1);
	}
	waitpid(pid, NULL, 0);
	puts("ready");
	fflush(stdout);
	getchar();
	FILE *f = fopen("/proc/self/smaps_rollup", "r");
	while (f && fgets(path, sizeof path, f))
		fputs(path, stdout);
	return 0;
}
"""


def test_constructor_and_allocator_that_come_first(top: Path, tree: Path, session: Session) -> None:
    env = {**session.env, "LD_PRELOAD": f"{session.library}:{top / 'early.so'}", "EARLY_HIDDEN": f"{tree}/hidden/file"}
    done = session.run("env", f"LD_PRELOAD={env['LD_PRELOAD']}", f"EARLY_HIDDEN={env['EARLY_HIDDEN']}", "/bin/ls", tree)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "seen\n"


def test_other_preload_entries_are_kept(top: Path, session: Session) -> None:
    other = str(top / "early.so")
    done = session.run("env", f"LD_PRELOAD={other}", "sh", "-c", "env -i LD_PRELOAD=$LD_PRELOAD env")
    assert done.stdout.strip() == f"LD_PRELOAD={session.library}:{other}"


def test_exec_chain_names_each_program(session: Session) -> None:
    session.run("sh", "-c", "env true; :")
    executed = [e.path for e in session.events("process")]
    assert [Path(p).name for p in executed] == ["dash", "env", "true"]


def test_listing_of_a_directory_with_a_long_path(tree: Path) -> None:
    deep = tree / "/".join(["d" * 100] * 6)
    (deep / "hidden").mkdir(parents=True)
    (deep / "seen").mkdir()
    with Session(f"rw:{deep}/hidden=-", "rw:/=+") as session:
        assert session.run("/bin/ls", deep).stdout == "seen\n"


def test_a_static_program_is_named(top: Path, session: Session) -> None:
    source = top / "static.c"
    source.write_text("int main(void) { return 0; }\n")
    static = compile_c(source, top / "static", "-static")
    assert session.run("env", static).returncode == 0
    assert [(e.path, e.asked) for e in session.events("untraced")] == [(str(static), "static")]


def test_script_interpreter_that_is_hidden_is_missing(tree: Path, session: Session) -> None:
    shutil.copy("/bin/sh", tree / "hidden" / "sh")
    script = tree / "script"
    script.write_text(f"#!{tree}/hidden/sh\necho ran\n")
    script.chmod(0o755)
    done = session.run("env", script)
    assert done.returncode == 127
    assert "ran" not in done.stdout
    assert [e.path for e in session.findings()] == [f"{tree}/hidden/sh"]


def test_path_lookup_skips_what_is_hidden(tree: Path, session: Session) -> None:
    for name, text in (("hidden", "wrong"), ("seen", "right")):
        program = tree / name / "tool"
        program.write_text(f"echo {text}\n")  # without "#!": the C library gives it to the shell
        program.chmod(0o755)
    env = {**os.environ, "PATH": f"{tree}/hidden:{tree}/seen:/usr/bin:/bin"}
    assert session.run("/usr/bin/env", "tool", env=env).stdout == "right\n"


def test_library_without_session_does_nothing(top: Path, session: Session) -> None:
    shutil.copy(session.library, top / "alone.so")
    done = session.run("/usr/bin/env", f"LD_PRELOAD={top}/alone.so", "cat", "/etc/hostname", env=dict(os.environ))
    assert done.returncode == 0


def test_audit_refuses_nothing_and_remembers(tree: Path) -> None:
    with Session(f"rw:{tree}/hidden=-", "rw:/=+", audit=True) as session:
        done = session.run("cat", tree / "hidden" / "file", tree / "seen" / "file")
        assert done.returncode == 0
        assert {(e.path, e.outcome) for e in session.findings()} == {(f"{tree}/hidden/file", "hide")}


def test_log_has_every_access(tree: Path) -> None:
    with Session(f"rw:{tree}/hidden=-", "rw:/=+", log=True) as session:
        session.run("sh", "-c", f"cat {tree}/seen/file; cat {tree}/hidden/file; mkdir {tree}/new")
        log = {(e.access, e.path, e.outcome, e.error) for e in session.events("access")}
    assert ("read", f"{tree}/seen/file", "allow", 0) in log
    assert ("read", f"{tree}/hidden/file", "hide", 2) in log
    assert ("create", f"{tree}/new", "allow", 0) in log
