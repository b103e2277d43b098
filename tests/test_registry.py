"""The registry: our own, MacPorts' own, and broken ones."""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import cmp_to_key
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pace import pace

from porttrace.registry import NewPort, PortGroup, Registry, RegistryError, vercmp

# What MacPorts 2.10 to 2.12 and its master have in a new registry (read in src/cregistry/sql.c), with their collation.
MACPORTS_TABLES = """
CREATE TABLE metadata (key UNIQUE, value);
INSERT INTO metadata (key, value) VALUES ('version', '1.215');
INSERT INTO metadata (key, value) VALUES ('created', strftime('%s', 'now'));
CREATE TABLE ports (id INTEGER PRIMARY KEY, name TEXT COLLATE NOCASE, portfile TEXT, location TEXT, epoch INTEGER,
 version TEXT COLLATE VERSION, revision INTEGER, variants TEXT, requested_variants TEXT, state TEXT, date DATETIME,
 installtype TEXT, archs TEXT, requested INTEGER, os_platform TEXT, os_major INTEGER, cxx_stdlib TEXT,
 cxx_stdlib_overridden INTEGER, UNIQUE (name, epoch, version, revision, variants));
CREATE INDEX port_name ON ports(name, epoch, version, revision, variants);
CREATE INDEX port_state ON ports(state);
CREATE TABLE files (id INTEGER, path TEXT, actual_path TEXT, active INTEGER, binary BOOL,
 FOREIGN KEY(id) REFERENCES ports(id) ON DELETE CASCADE);
CREATE INDEX file_port ON files(id);
CREATE INDEX file_path ON files(path);
CREATE INDEX file_actual ON files(actual_path);
CREATE INDEX file_actual_nocase ON files(actual_path COLLATE NOCASE);
CREATE TABLE dependencies (id INTEGER, name TEXT, variants TEXT,
 FOREIGN KEY(id) REFERENCES ports(id) ON DELETE CASCADE);
CREATE INDEX dep_id ON dependencies(id);
CREATE INDEX dep_name ON dependencies(name);
CREATE TABLE portgroups (id INTEGER, name TEXT, version TEXT COLLATE VERSION, size INTEGER, sha256 TEXT,
 FOREIGN KEY(id) REFERENCES ports(id) ON DELETE CASCADE);
CREATE INDEX portgroup_id ON portgroups(id);
CREATE INDEX portgroup_open ON portgroups(id, name, version, size, sha256);
CREATE TABLE snapshots (id INTEGER PRIMARY KEY, created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL, note TEXT);
CREATE TABLE snapshot_ports (id INTEGER PRIMARY KEY, snapshots_id INTEGER, port_name TEXT COLLATE NOCASE,
 requested INTEGER, state TEXT COLLATE NOCASE, variants TEXT, requested_variants TEXT,
 FOREIGN KEY(snapshots_id) REFERENCES snapshots(id) ON DELETE CASCADE);
CREATE TABLE snapshot_files (id INTEGER, path TEXT, FOREIGN KEY(id) REFERENCES snapshot_ports(id) ON DELETE CASCADE);
CREATE INDEX snapshot_file_path ON snapshot_files(path);
CREATE INDEX snapshot_file_id ON snapshot_files(id);
"""

# Before 1.210 (MacPorts 2.6): "negated_variants", no C++ columns yet.
OLD_TABLES = """
CREATE TABLE metadata (key UNIQUE, value);
INSERT INTO metadata (key, value) VALUES ('version', '1.203');
CREATE TABLE ports (id INTEGER PRIMARY KEY, name TEXT COLLATE NOCASE, portfile CLOB, location TEXT, epoch INTEGER,
 version TEXT COLLATE VERSION, revision INTEGER, variants TEXT, negated_variants TEXT, state TEXT, date DATETIME,
 installtype TEXT, archs TEXT, requested INT, os_platform TEXT, os_major INTEGER,
 UNIQUE (name, epoch, version, revision, variants));
CREATE TABLE files (id INTEGER, path TEXT, actual_path TEXT, active INTEGER, binary BOOL);
CREATE TABLE dependencies (id INTEGER, name TEXT, variants TEXT);
CREATE TABLE portgroups (id INTEGER, name TEXT, version TEXT COLLATE VERSION, size INTEGER, sha256 TEXT);
"""


def macports_collation(a: str, b: str) -> int:
    """Any total order does here; MacPorts' own is not ours to need."""
    return (a > b) - (a < b)


def macports_connection(file: Path, tables: str = MACPORTS_TABLES) -> sqlite3.Connection:
    connection = sqlite3.connect(file)
    connection.create_collation("VERSION", macports_collation)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(tables)
    for number, name, state in ((1, "ZLib", "installed"), (2, "libfoo", "imaged"), (3, "libfoo", "installed")):
        connection.execute(
            "INSERT INTO ports (id, name, version, revision, variants, epoch, state) VALUES (?, ?, ?, 0, '', 0, ?)",
            (number, name, f"1.{number}", state),
        )
    connection.executemany(
        "INSERT INTO files (id, path, actual_path, active) VALUES (?, ?, ?, ?)",
        (
            (1, "/opt/local/lib/libz.so", "/opt/local/lib/libz.so", 1),
            (2, "/opt/local/lib/libfoo.so", None, 0),
            (3, "/opt/local/lib/libfoo.so", "/opt/local/lib/libfoo.so.mp_1", 1),
        ),
    )
    connection.execute("INSERT INTO dependencies (id, name) VALUES (3, 'zlib')")
    connection.commit()
    return connection


@pytest.fixture
def macports(tmp_path: Path) -> Iterator[Path]:
    file = tmp_path / "registry.db"
    macports_connection(file).close()
    yield file


def new(name: str, version: str = "1.0", *files: bytes, depends: tuple[str, ...] = ()) -> NewPort:
    return NewPort(name, version, files=files, depends=depends)


def test_reads_what_macports_wrote(macports: Path) -> None:
    with Registry.open(macports) as registry:
        assert [str(port) for port in registry.ports()] == ["libfoo @1.2_0", "libfoo @1.3_0", "ZLib @1.1_0"]
        assert registry.active("LIBFOO") is not None
        active = registry.active("libfoo")
        assert active is not None and active.version == "1.3" and active.active
        assert registry.dependencies(active) == ["zlib"]
        zlib = registry.active("zlib")
        assert zlib is not None and zlib.name == "ZLib"
        assert registry.dependents(zlib) == [active]
        assert registry.files(active) == [b"/opt/local/lib/libfoo.so.mp_1"]
        assert registry.image_files(active) == [b"/opt/local/lib/libfoo.so"]
        assert sorted(registry.owners()) == [
            (b"/opt/local/lib/libfoo.so.mp_1", "libfoo"),
            (b"/opt/local/lib/libz.so", "ZLib"),
        ]
        assert registry.owner(b"/opt/local/lib/libfoo.so") is None, "that one is not active"
        owner = registry.owner(b"/opt/local/lib/libz.so")
        assert owner == zlib
        assert registry.owner(b"/opt/local/lib/LIBZ.so") is None
        assert registry.owner(b"/opt/local/lib/LIBZ.so", case_sensitive=False) == zlib
        assert registry.dependency_graph() == {"zlib": frozenset(), "libfoo": frozenset({"zlib"})}


def test_reads_an_old_registry(tmp_path: Path) -> None:
    file = tmp_path / "registry.db"
    macports_connection(file, OLD_TABLES).close()
    with Registry.open(file) as registry:
        assert [port.requested_variants for port in registry.ports("libfoo")] == ["", ""]
    with pytest.raises(RegistryError, match=r"schema version 1\.203, porttrace writes 1\.215; let MacPorts"):
        Registry.open(file, write=True)


def test_reading_changes_nothing(macports: Path) -> None:
    before = macports.read_bytes()
    with Registry.open(macports) as registry:
        registry.ports()
        with pytest.raises(RegistryError, match="reading only"):
            registry.add(new("bar"))
    assert macports.read_bytes() == before
    # SQLite may leave its (empty) log behind, as MacPorts does itself.
    assert all(entry.stat().st_size == 0 for entry in macports.parent.glob("*-wal"))


def test_reads_where_the_directory_cannot_be_written(macports: Path, build_user_reads: BuildUser) -> None:
    file = build_user_reads.copy(macports)
    assert build_user_reads.ports(file) == ["libfoo", "libfoo", "ZLib"]


def test_what_is_only_in_the_log_is_read_too(tmp_path: Path, build_user_reads: BuildUser) -> None:
    """A writer is at work; the reader has neither the right to make the log's index nor a database without the log."""
    source = tmp_path / "registry.db"
    writer = macports_connection(source)
    writer.execute("PRAGMA wal_autocheckpoint = 0")
    writer.execute("UPDATE ports SET name = 'renamed' WHERE id = 1")
    writer.commit()
    file = build_user_reads.copy(source)
    build_user_reads.copy(tmp_path / "registry.db-wal")
    assert build_user_reads.ports(file) == ["libfoo", "libfoo", "renamed"]
    writer.close()


class BuildUser:
    """Reads in a process without any rights on a directory that all may read."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def copy(self, file: Path) -> Path:
        target = self.directory / file.name
        target.write_bytes(file.read_bytes())
        target.chmod(0o444)
        return target

    def ports(self, file: Path) -> list[str]:
        script = (
            "import os, sys\n"
            "from porttrace.registry import Registry\n"
            "if os.geteuid() == 0:\n    os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
            "with Registry.open(sys.argv[1]) as registry:\n    print(*(port.name for port in registry.ports()))\n"
        )
        self.directory.chmod(0o555)
        try:
            done = subprocess.run(
                [sys.executable, "-c", script, file], capture_output=True, text=True, check=False, cwd="/"
            )
        finally:
            self.directory.chmod(0o755)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()


@pytest.fixture
def build_user_reads() -> Iterator[BuildUser]:
    import shutil
    import tempfile

    directory = Path(tempfile.mkdtemp(prefix="porttrace-test-"))
    directory.chmod(0o755)
    yield BuildUser(directory)
    shutil.rmtree(directory)


def test_bad_registries_are_one_clear_line(tmp_path: Path) -> None:
    missing = tmp_path / "no" / "registry.db"
    garbage = tmp_path / "garbage.db"
    garbage.write_bytes(b"this is no database, whatever its name says" * 100)
    other = tmp_path / "other.db"
    sqlite3.connect(other).execute("CREATE TABLE t (a)").connection.close()
    newer = tmp_path / "newer.db"
    macports_connection(newer, MACPORTS_TABLES.replace("1.215", "2.0")).close()
    damaged = tmp_path / "damaged.db"
    macports_connection(damaged).close()
    connection = sqlite3.connect(damaged)
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    data = bytearray(damaged.read_bytes())
    data[4096:8192] = b"\xff" * 4096
    damaged.write_bytes(data)
    for file, text in (
        (missing, "there is no registry at"),
        (garbage, "is corrupt"),
        (other, "is not a MacPorts registry"),
        (newer, "schema version 2.0"),
        (damaged, "is corrupt"),
    ):
        with pytest.raises(RegistryError, match=text) as caught:
            Registry.open(file).ports()
        assert "\n" not in str(caught.value) and str(file) in str(caught.value)


def test_a_registry_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "registry.db")
    with pytest.raises(RegistryError, match="it is a pipe"):
        Registry.open(tmp_path / "registry.db")


def test_a_locked_registry_is_one_clear_line(macports: Path) -> None:
    holder = sqlite3.connect(macports, isolation_level=None)
    holder.create_collation("VERSION", macports_collation)
    holder.execute("BEGIN IMMEDIATE")
    with (
        Registry.open(macports, write=True, timeout=0.1) as registry,
        pytest.raises(RegistryError, match="locked by another process"),
    ):
        registry.add(new("bar"))
    holder.execute("ROLLBACK")
    holder.close()


def test_add_activate_deactivate_delete(tmp_path: Path) -> None:
    file = tmp_path / "made" / "registry" / "registry.db"
    odd = b"/opt/local/share/b\xe4r"
    with Registry.open(file, write=True) as registry:
        foo = registry.add(new("Foo", "1.0", b"/opt/local/bin/foo", odd, depends=("bar",)))
        assert not foo.active and registry.files(foo) == [b"/opt/local/bin/foo", odd]
        assert list(registry.owners()) == []
        with pytest.raises(RegistryError, match="already installed"):
            registry.add(new("foo", "1.0"))
        foo = registry.activate(foo)
        assert foo.active and sorted(registry.owners()) == [(b"/opt/local/bin/foo", "Foo"), (odd, "Foo")]
        assert registry.owner(odd) == foo
        other = registry.add(new("other", "2", odd))
        assert registry.conflicts(other) == [(odd, "Foo @1.0_0")]
        with pytest.raises(RegistryError, match=r"being used by another port, Foo @1\.0_0"):
            registry.activate(other)
        registry.activate(other, {odd: odd + b"2"})
        assert registry.files(registry.ports("other")[0]) == [odd + b"2"]
        registry.delete(registry.ports("other")[0])
        foo = registry.deactivate(foo)
        assert list(registry.owners()) == []
        registry.delete(foo)
    # Nothing is left of it in any table.
    raw = sqlite3.connect(file)
    assert [raw.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in ("ports", "files", "dependencies")] == [
        0
    ] * 3
    raw.close()


def test_portgroups_are_kept_and_counted(tmp_path: Path) -> None:
    group = PortGroup("cmake", "1.1", 12, "ab" * 32)
    with Registry.open(tmp_path / "registry.db", write=True) as registry:
        for name in ("one", "two"):
            registry.add(NewPort(name, "1", portgroups=(group,), portfile="x-1"))
        one = registry.ports("one")[0]
        assert registry.portgroups(one) == [group] and registry.portgroup_users(group) == 2
        registry.delete(one)
        assert registry.portgroup_users(group) == 1 and registry.portfile_users(registry.ports("two")[0]) == 1


def test_a_failed_transaction_leaves_the_registry_unchanged(tmp_path: Path) -> None:
    file = tmp_path / "registry.db"
    with Registry.open(file, write=True) as registry:
        kept = registry.activate(registry.add(new("kept", "1", b"/p/kept")))
        with pytest.raises(ZeroDivisionError), registry.transaction():
            registry.deactivate(kept)
            registry.add(new("half", "1", b"/p/half"))
            with registry.transaction():
                registry.delete(kept)
            raise ZeroDivisionError
    with Registry.open(file) as registry:
        assert registry.ports() == [kept]
        assert list(registry.owners()) == [(b"/p/kept", "kept")]


def test_what_we_create_is_what_macports_creates(tmp_path: Path) -> None:
    """Table by table and column by column, so that MacPorts opens it as its own."""

    def shape(file: Path) -> object:
        connection = sqlite3.connect(file)
        tables = sorted(row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'"))
        result = {
            table: (
                connection.execute(f"PRAGMA table_info({table})").fetchall(),
                connection.execute(f"PRAGMA foreign_key_list({table})").fetchall(),
                sorted(
                    (name, unique, tuple(connection.execute(f"PRAGMA index_xinfo({name})").fetchall()))
                    for _, name, unique, *_ in connection.execute(f"PRAGMA index_list({table})").fetchall()
                ),
            )
            for table in tables
        }
        version = connection.execute("SELECT value FROM metadata WHERE key = 'version'").fetchone()
        journal = connection.execute("PRAGMA journal_mode").fetchone()
        connection.close()
        return result, version, journal

    ours, theirs = tmp_path / "ours.db", tmp_path / "theirs.db"
    Registry.open(ours, write=True).close()
    macports_connection(theirs).close()
    assert shape(ours) == shape(theirs)


def test_the_owners_of_half_a_million_files_take_less_than_half_a_second(tmp_path: Path) -> None:
    file = tmp_path / "registry.db"
    Registry.open(file, write=True).close()
    raw = sqlite3.connect(file)
    raw.create_collation("VERSION", macports_collation)
    raw.executemany(
        "INSERT INTO ports (id, name, version, revision, variants, epoch, state)"
        " VALUES (?, ?, '1', 0, '', 0, 'installed')",
        ((number, f"port{number}") for number in range(1000)),
    )
    paths = ((n // 500, f"/opt/local/share/doc/port{n // 500}/html/page{n}.html") for n in range(500_000))
    raw.executemany("INSERT INTO files SELECT ?1, ?2, ?2, 1, 0", paths)
    raw.commit()
    raw.close()
    with Registry.open(file) as registry:
        times = []
        for _ in range(3):
            start = time.process_time()
            count = sum(1 for _ in registry.owners())
            times.append(time.process_time() - start)
            assert count == 500_000
    assert min(times) < 0.5 * pace()


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("1.0", "1.1"),
        ("1.9", "1.10"),
        ("1.0a", "1.0.1"),
        ("1.0", "1.0a"),
        ("2a", "2b"),
        ("0.9", "1"),
        ("7.1.000", "7.1.002"),
    ],
)
def test_versions_compare_as_macports_does(older: str, newer: str) -> None:
    assert vercmp(older, newer) < 0 < vercmp(newer, older)


def test_versions_that_macports_takes_for_the_same() -> None:
    assert vercmp("1.0", "1_0") == vercmp("1.01", "1.1") == vercmp("1.0rc", "1.0r") == 0


@given(st.lists(st.from_regex(r"[0-9]{1,3}([._-]?([0-9]{1,3}|[ab])){0,3}", fullmatch=True), min_size=2, max_size=6))
def test_versions_have_one_order(versions: list[str]) -> None:
    for a in versions:
        assert vercmp(a, a) == 0
        for b in versions:
            assert (vercmp(a, b) > 0) == (vercmp(b, a) < 0)
    ordered = sorted(versions, key=cmp_to_key(vercmp))
    for a, b in itertools.pairwise(ordered):
        assert vercmp(a, b) <= 0


@contextlib.contextmanager
def begun(file: Path) -> Iterator[Callable[[], object]]:
    """Somebody has begun to write an empty registry; what is given ends that."""
    file.parent.mkdir()
    with contextlib.closing(sqlite3.connect(file, isolation_level=None, check_same_thread=False)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection.rollback


def test_who_makes_the_registry_waits_for_who_is_at_it(tmp_path: Path) -> None:
    file = tmp_path / "registry" / "registry.db"
    with begun(file) as end:
        timer, began = threading.Timer(0.5, end), time.monotonic()
        timer.start()
        with Registry.open(file, write=True, timeout=60) as registry:
            assert time.monotonic() - began >= 0.5
            assert registry.ports() == []
        timer.join()


def test_nobody_waits_for_ever(tmp_path: Path) -> None:
    file, began = tmp_path / "registry" / "registry.db", time.monotonic()
    with begun(file), pytest.raises(RegistryError, match="locked by another process; try again"):
        Registry.open(file, write=True, timeout=0.3)
    assert time.monotonic() - began >= 0.3


def test_two_writers_take_turns(tmp_path: Path) -> None:
    """Both make the registry at the same time and both add their ports."""
    file = tmp_path / "registry" / "registry.db"
    script = (
        "import sys\nfrom porttrace.registry import NewPort, Registry\n"
        "with Registry.open(sys.argv[1], write=True) as r:\n"
        "    for n in range(20):\n"
        "        r.add(NewPort(f'{sys.argv[2]}{n}', '1', files=(f'/p/{sys.argv[2]}/{n}'.encode(),)))\n"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", script, file, name], cwd="/", env=dict(os.environ))
        for name in ("a", "b")
    ]
    assert [process.wait(60) for process in started] == [0, 0]
    with Registry.open(file) as registry:
        assert len(registry.ports()) == 40
