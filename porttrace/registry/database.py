"""Reading and changing the registry."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from porttrace.registry import schema
from porttrace.registry.connect import ReadOnly, check_schema, one_line, open_writable
from porttrace.registry.errors import RegistryError
from porttrace.registry.models import ACTIVE, INACTIVE, NewPort, Port, PortGroup
from porttrace.registry.versions import vercmp

_TEXT = ("portfile", "location", "requested_variants", "installtype", "archs", "os_platform", "os_major", "cxx_stdlib")
_PORT_COLUMNS = ("id", "name", "version", "revision", "variants", "state", *schema.PORT_DEFAULTS)


def _number(value: object) -> int:
    """SQLite keeps what it was given: a number may be a text, or nothing."""
    try:
        return int(str(value))
    except ValueError:
        return 0


class Registry:
    """A registry of installed ports.

    Names of ports compare without case. Every method raises :class:`RegistryError`, one line, where the file cannot
    be used. Nothing that is read depends on MacPorts' own collation or functions.
    """

    def __init__(self, path: Path, *, write: bool, timeout: float) -> None:
        self.path = path
        self.writable = write
        self._reader: ReadOnly | None = None
        if write:
            self._connection = open_writable(path, timeout)
        else:
            self._reader = ReadOnly(path, timeout)
            self._connection = self._reader.connection
        try:
            columns = check_schema(self._connection, path, write)
        except BaseException:
            self.close()
            raise
        chosen = [name if name in columns["ports"] else schema.PORT_DEFAULTS.get(name, name) for name in _PORT_COLUMNS]
        self._select = f"SELECT {', '.join(chosen)} FROM ports"
        self._has_portgroups = bool(columns["portgroups"])
        self._depth = 0

    @classmethod
    def open(cls, path: str | os.PathLike[str], write: bool = False, timeout: float = 10.0) -> Self:
        """Open the registry file at ``path``; with ``write`` it is made where it does not exist.

        ``timeout`` is how many seconds to wait for another process' lock.
        """
        return cls(Path(path), write=write, timeout=timeout)

    @classmethod
    def make(cls, path: Path) -> None:
        """An empty registry where there is none yet: reports name it, also where nothing is installed.

        Raises ``OSError`` or ``PorttraceError`` where it cannot be made.
        """
        if not path.exists():
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            cls.open(path, write=True).close()

    def close(self) -> None:
        self._connection.close()
        if self._reader is not None and self._reader.keep is not None:
            self._reader.keep.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # -- reading ---------------------------------------------------------------------------------------------------

    def _rows(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
        with one_line(self.path):
            return self._connection.execute(sql, parameters).fetchall()

    def _ports(self, where: str, parameters: Sequence[Any] = ()) -> list[Port]:
        found = []
        for row in self._rows(f"{self._select} WHERE state IN ('{ACTIVE}', '{INACTIVE}') AND {where}", parameters):
            values = dict(zip(_PORT_COLUMNS, row, strict=True))
            for name in ("id", "revision", "epoch", "date"):
                values[name] = _number(values[name])
            for name in ("requested", "cxx_stdlib_overridden"):
                values[name] = bool(_number(values[name]))
            for name in (*_TEXT, "name", "version", "variants"):
                values[name] = "" if values[name] is None else str(values[name])
            found.append(Port(**values))
        return sorted(
            found, key=lambda port: (port.name.lower(), _VersionKey(port.version), port.revision, port.variants)
        )

    def ports(self, name: str | None = None) -> list[Port]:
        """All installed ports, or all installed versions of one, sorted by name and version."""
        if name is None:
            return self._ports("1")
        return self._ports("name = ? COLLATE NOCASE", (name,))

    def active(self, name: str) -> Port | None:
        """The active version of a port, if there is one."""
        found = [port for port in self.ports(name) if port.active]
        return found[0] if found else None

    def find(self, name: str, version: str, revision: int, variants: str) -> Port | None:
        """The installed port with exactly this version, revision and variants."""
        for port in self.ports(name):
            if (port.version, port.revision, port.variants) == (version, revision, variants):
                return port
        return None

    def files(self, port: Port) -> list[bytes]:
        """The files of a port, sorted: where they are in the prefix if it is active, else as they are in its image."""
        if port.active:
            sql = "SELECT CAST(actual_path AS BLOB) FROM files WHERE id = ? AND active"
        else:
            sql = "SELECT CAST(path AS BLOB) FROM files WHERE id = ?"
        return sorted(row[0] for row in self._rows(sql, (port.id,)) if row[0] is not None)

    def image_files(self, port: Port) -> list[bytes]:
        """The files of a port as they are in its image, sorted."""
        return sorted(
            row[0] for row in self._rows("SELECT CAST(path AS BLOB) FROM files WHERE id = ?", (port.id,)) if row[0]
        )

    def owner(self, path: bytes, case_sensitive: bool = True) -> Port | None:
        """The active port to which the file ``path`` (as the registry spells it) belongs."""
        collation = "" if case_sensitive else " COLLATE NOCASE"
        rows = self._rows(
            f"SELECT id FROM files WHERE actual_path = CAST(? AS TEXT){collation} AND active LIMIT 1", (path,)
        )
        found = self._ports("id = ?", (rows[0][0],)) if rows else []
        return found[0] if found else None

    def below(self, directory: bytes) -> list[tuple[bytes, str]]:
        """The active files below a directory, sorted, each with the name of its port."""
        rows = self._rows(
            "SELECT CAST(actual_path AS BLOB), ports.name FROM files JOIN ports ON ports.id = files.id"
            " WHERE files.active AND actual_path > CAST(? AS TEXT) AND actual_path < CAST(? AS TEXT)",
            (directory + b"/", directory + b"0"),  # "0" is what follows "/"
        )
        return sorted((path, str(name)) for path, name in rows)

    def owners(self) -> Iterator[tuple[bytes, str]]:
        """Every active file with the name of its port, in no special order."""
        # One row a port, split here: a row a file would cost half a second for half a million of them.
        rows = self._rows(
            "SELECT ports.name, CAST(group_concat(actual_path, char(0)) AS BLOB) FROM ports"
            " JOIN files ON files.id = ports.id WHERE files.active AND actual_path IS NOT NULL"
            " GROUP BY ports.id"
        )
        for name, paths in rows:
            text = str(name)
            for path in paths.split(b"\0"):
                yield path, text

    def dependencies(self, port: Port) -> list[str]:
        """Names of the ports that ``port`` needs at run time, as recorded when it was installed."""
        return sorted({str(row[0]) for row in self._rows("SELECT name FROM dependencies WHERE id = ?", (port.id,))})

    def dependents(self, port: Port) -> list[Port]:
        """The installed ports that name this one as a dependency."""
        return self._ports("id IN (SELECT id FROM dependencies WHERE name = ? COLLATE NOCASE)", (port.name,))

    def dependency_graph(self) -> dict[str, frozenset[str]]:
        """Lower-cased name of each installed port -> lower-cased names of the ports that it needs at run time.

        Where several versions are installed the active one counts; where none is active, all of them.
        """
        # Three columns, not whole ports: this is asked at each start of a trace.
        rows = self._rows(f"SELECT id, name, state FROM ports WHERE state IN ('{ACTIVE}', '{INACTIVE}')")
        ports = [(number, str(name or "").lower(), state == ACTIVE) for number, name, state in rows]
        with_active = {name for _, name, active in ports if active}
        counted = {number: name for number, name, active in ports if active or name not in with_active}
        graph: dict[str, set[str]] = {name: set() for name in counted.values()}
        for number, name in self._rows("SELECT id, name FROM dependencies"):
            if number in counted and name is not None:
                graph[counted[number]].add(str(name).lower())
        return {name: frozenset(needed) for name, needed in graph.items()}

    def portgroups(self, port: Port) -> list[PortGroup]:
        """The PortGroups that the port's Portfile used."""
        if not self._has_portgroups:
            return []
        rows = self._rows("SELECT name, version, size, sha256 FROM portgroups WHERE id = ?", (port.id,))
        return [PortGroup(str(name), str(version), _number(size), str(digest)) for name, version, size, digest in rows]

    # -- changing --------------------------------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All changes made inside are kept together, or not at all where anything is raised. May be nested."""
        self._must_write()
        with one_line(self.path):
            if self._depth == 0:
                self._connection.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
                if self._depth == 1:
                    self._connection.execute("COMMIT")
            except BaseException:
                if self._depth == 1 and self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            finally:
                self._depth -= 1

    def _must_write(self) -> None:
        if not self.writable:
            raise RegistryError(f"the registry {self.path} was opened for reading only")

    def add(self, new: NewPort) -> Port:
        """Record a port as installed and not active. An equal entry (same version, revision, variants) is an error."""
        values = {
            "name": new.name,
            "version": new.version,
            "revision": new.revision,
            "variants": new.variants,
            "epoch": new.epoch,
            "requested_variants": new.requested_variants,
            "location": new.location,
            "portfile": new.portfile,
            "archs": new.archs,
            "requested": int(new.requested),
            "os_platform": new.os_platform,
            "os_major": new.os_major,
            "cxx_stdlib": new.cxx_stdlib,
            "cxx_stdlib_overridden": int(new.cxx_stdlib_overridden),
            "date": new.date,
            "installtype": "image",
            "state": INACTIVE,
        }
        marks = ", ".join(f":{name}" for name in values)
        with self.transaction():
            if self.find(new.name, new.version, new.revision, new.variants) is not None:
                raise RegistryError(
                    f"{new.name} @{new.version}_{new.revision}{new.variants} is already installed; uninstall it first"
                )
            try:
                cursor = self._connection.execute(f"INSERT INTO ports ({', '.join(values)}) VALUES ({marks})", values)
            except sqlite3.IntegrityError as error:
                raise RegistryError(
                    f"{new.name} @{new.version}_{new.revision}{new.variants} counts as the same as"
                    " an installed version; uninstall that first"
                ) from error
            number = cursor.lastrowid
            self._connection.executemany(
                "INSERT INTO files (id, path, active, binary) VALUES (?, CAST(? AS TEXT), 0, ?)",
                ((number, path, _optional_bool(new.binary.get(path))) for path in new.files),
            )
            self._connection.executemany(
                "INSERT INTO dependencies (id, name) VALUES (?, ?)", ((number, name) for name in new.depends)
            )
            self._connection.executemany(
                "INSERT INTO portgroups (id, name, version, size, sha256) VALUES (?, ?, ?, ?, ?)",
                ((number, group.name, group.version, group.size, group.sha256) for group in new.portgroups),
            )
            return self._ports("id = ?", (number,))[0]

    def delete(self, port: Port) -> None:
        """Forget a port with its files, dependencies and PortGroups."""
        with self.transaction():
            # Said table by table: registries made before 1.214 have no cascading keys.
            for table in ("files", "dependencies", "portgroups"):
                self._connection.execute(f"DELETE FROM {table} WHERE id = ?", (port.id,))
            self._connection.execute("DELETE FROM ports WHERE id = ?", (port.id,))

    def activate(self, port: Port, names: Mapping[bytes, bytes] | None = None) -> Port:
        """Mark a port and its files active; ``names`` maps a path in the image to another one in the prefix.

        A path that another active port has is an error: one file belongs to one port.
        """
        names = names or {}
        with self.transaction():
            taken = self.conflicts(port, names)
            if taken:
                path, other = taken[0]
                raise RegistryError(
                    f"{os.fsdecode(path)} is being used by another port, {other}; deactivate that first"
                )
            self._connection.execute("UPDATE files SET active = 1, actual_path = path WHERE id = ?", (port.id,))
            self._connection.executemany(
                "UPDATE files SET actual_path = CAST(? AS TEXT) WHERE id = ? AND path = CAST(? AS TEXT)",
                ((actual, port.id, path) for path, actual in names.items()),
            )
            self._connection.execute("UPDATE ports SET state = ? WHERE id = ?", (ACTIVE, port.id))
            return self._ports("id = ?", (port.id,))[0]

    def conflicts(self, port: Port, names: Mapping[bytes, bytes] | None = None) -> list[tuple[bytes, str]]:
        """Paths that ``port`` would install and another active port has, each with that port's name and version."""
        if names:
            wanted = {names.get(path, path) for path in self.image_files(port)}
            rows = [
                (path, number)
                for path, number in self._rows(
                    "SELECT CAST(actual_path AS BLOB), id FROM files WHERE active AND id != ?", (port.id,)
                )
                if path in wanted
            ]
        else:
            rows = [
                (row[0], row[1])
                for row in self._rows(
                    "SELECT CAST(other.actual_path AS BLOB), other.id FROM files AS mine"
                    " JOIN files AS other ON other.actual_path = mine.path"
                    " WHERE mine.id = ? AND other.id != mine.id AND other.active",
                    (port.id,),
                )
            ]
        called = {number: str(self._ports("id = ?", (number,))[0]) for number in {number for _, number in rows}}
        return sorted((path, called[number]) for path, number in rows)

    def rename_active(self, port: Port, actual: bytes, renamed: bytes) -> None:
        """Record that an active port's file now has another name in the prefix (it was moved out of the way)."""
        with self.transaction():
            self._connection.execute(
                "UPDATE files SET actual_path = CAST(? AS TEXT) WHERE id = ? AND actual_path = CAST(? AS TEXT)",
                (renamed, port.id, actual),
            )

    def deactivate(self, port: Port) -> Port:
        """Mark a port and its files not active."""
        with self.transaction():
            self._connection.execute("UPDATE files SET active = 0 WHERE id = ?", (port.id,))
            self._connection.execute("UPDATE ports SET state = ? WHERE id = ?", (INACTIVE, port.id))
            return self._ports("id = ?", (port.id,))[0]

    def portfile_users(self, port: Port) -> int:
        """How many installed entries of this name, version and revision share this port's kept Portfile."""
        rows = self._rows(
            "SELECT version FROM ports WHERE name = ? COLLATE NOCASE AND portfile = ? AND revision = ?",
            (port.name, port.portfile, port.revision),
        )
        return sum(1 for (version,) in rows if str(version) == port.version)

    def portgroup_users(self, group: PortGroup) -> int:
        """How many installed entries use this PortGroup's kept text."""
        rows = self._rows(
            "SELECT version FROM portgroups WHERE name = ? AND size = ? AND sha256 = ?",
            (group.name, group.size, group.sha256),
        )
        return sum(1 for (version,) in rows if str(version) == group.version)


def _optional_bool(value: bool | None) -> int | None:
    return None if value is None else int(value)


class _VersionKey:
    """Sort key in the order of :func:`vercmp`."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __lt__(self, other: _VersionKey) -> bool:
        return vercmp(self.text, other.text) < 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _VersionKey) and vercmp(self.text, other.text) == 0

    __hash__ = None  # type: ignore[assignment]
