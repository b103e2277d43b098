"""Opening the registry's file: for reading without ever writing to it, or for writing, made where it is missing."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from porttrace.registry import schema
from porttrace.registry.errors import RegistryError
from porttrace.registry.versions import vercmp

if TYPE_CHECKING:
    import tempfile


@contextmanager
def one_line(path: Path) -> Iterator[None]:
    """Turn what SQLite says into one RegistryError line about the registry at ``path``."""
    try:
        yield
    except sqlite3.Error as error:
        text = " ".join(str(error).split())
        if "locked" in text or "busy" in text:
            message = f"the registry {path} is locked by another process; try again when that has finished"
        elif "readonly" in text or "permission" in text:
            message = f"the registry {path} cannot be written ({text}); run port as the user who owns the prefix"
        elif "unable to open" in text:
            message = f"the registry {path} cannot be opened; check that it exists and that you may read it"
        elif "malformed" in text or "not a database" in text or "disk image" in text:
            message = f"the registry {path} is corrupt ({text}); restore it from a backup"
        else:
            message = f"the registry {path} could not be used: {text}"
        raise RegistryError(message) from error


def decode(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _connect(uri: str, timeout: float) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, timeout=timeout, isolation_level=None, uri=True, check_same_thread=False)
    connection.text_factory = decode
    connection.create_collation("VERSION", vercmp)
    return connection


def _probe(connection: sqlite3.Connection) -> None:
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()


class ReadOnly:
    """A connection that cannot write. ``keep`` holds a copy alive where the original could not be read in place."""

    def __init__(self, path: Path, timeout: float) -> None:
        self.keep: tempfile.TemporaryDirectory[str] | None = None
        if not path.exists():
            raise RegistryError(f"there is no registry at {path}; check the prefix, or install a port first")
        if path.is_fifo():  # SQLite would wait for a writer
            raise RegistryError(f"the registry {path} cannot be read: it is a pipe")
        uri = f"file:{quote(str(path))}"
        with one_line(path):
            try:
                self.connection = _connect(f"{uri}?mode=ro", timeout)
                _probe(self.connection)
                return
            except sqlite3.OperationalError as error:
                # A write-ahead log needs its index file, which we may not create where the directory is not ours.
                if "unable to open" not in str(error) and "readonly" not in str(error):
                    raise
                with suppress(AttributeError):
                    self.connection.close()
            log = path.with_name(f"{path.name}-wal")
            try:
                pending = log.exists() and log.stat().st_size > 0
                if pending:
                    # What is still in the log counts: "immutable" would not see it. Read both from a copy of ours.
                    import shutil  # both rarely needed
                    import tempfile

                    self.keep = tempfile.TemporaryDirectory(prefix="porttrace-registry-")
                    copy = Path(self.keep.name) / path.name
                    shutil.copyfile(path, copy)
                    shutil.copyfile(log, copy.with_name(log.name))
                    self.connection = _connect(f"file:{quote(str(copy))}", timeout)
                else:
                    self.connection = _connect(f"{uri}?immutable=1", timeout)
            except OSError as error:
                raise RegistryError(f"the registry {path} cannot be read: {error.strerror}") from error
            _probe(self.connection)


def open_writable(path: Path, timeout: float) -> sqlite3.Connection:
    """Open for writing; a registry that is missing or empty is made, with its directory."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RegistryError(f"the registry {path} cannot be made: {error.strerror}") from error
    with one_line(path):
        connection = _connect(f"file:{quote(str(path))}?mode=rwc", timeout)
        try:
            connection.execute("PRAGMA foreign_keys = ON")
            if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
                _use_log(connection, timeout)
                _create(connection)
        except BaseException:
            connection.close()
            raise
        return connection


def _use_log(connection: sqlite3.Connection, timeout: float) -> None:
    """Have a write-ahead log, so that readers and a writer do not wait for each other.

    SQLite itself does not wait for this: where another port has just begun to write, it says so at once.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
        else:
            return
        time.sleep(0.01)


def _create(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another port may have made the tables between our look and our lock.
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
            for statement in schema.CREATE:
                connection.execute(statement)
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def check_schema(connection: sqlite3.Connection, path: Path, write: bool) -> dict[str, frozenset[str]]:
    """Return the columns by table, or raise RegistryError where this is no registry that we can read (or write)."""
    with one_line(path):
        columns = {
            table: frozenset(row[1] for row in connection.execute(f"PRAGMA table_info({table})"))
            for table in ("metadata", "ports", "files", "dependencies", "portgroups")
        }
        if not columns["metadata"]:
            raise RegistryError(f"{path} is not a MacPorts registry: it has no table 'metadata'")
        row = connection.execute("SELECT value FROM metadata WHERE key = 'version'").fetchone()
    if row is None or row[0] is None:
        raise RegistryError(f"the registry {path} does not say its schema version; restore it from a backup")
    version = str(row[0])
    if write and version != schema.VERSION:
        advice = "let MacPorts 2.10 or later upgrade it" if vercmp(version, schema.VERSION) < 0 else "update porttrace"
        raise RegistryError(
            f"the registry {path} has schema version {version}, porttrace writes {schema.VERSION}; {advice}"
        )
    if vercmp(version, "1") < 0 or vercmp(version, "2") >= 0:
        raise RegistryError(f"the registry {path} has schema version {version}, porttrace reads 1.x; update porttrace")
    for table, needed in schema.REQUIRED.items():
        missing = needed - columns[table]
        if missing:
            what = f"column {min(missing)} in table {table}" if columns[table] else f"table {table}"
            raise RegistryError(f"the registry {path} (schema version {version}) has no {what}")
    return columns
