"""The results of a sweep: one SQLite file, written after each port, so that a killed sweep loses none of them."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from porttrace.errors import PorttraceError
from porttrace.sweep.plan import TEST, Node

__all__ = ["FINAL", "Results"]

_APPLICATION: Final = 0x70747377  # "ptsw", in SQLite's header
FORMAT: Final = 1
"""The version of the tables; a file of another one is refused."""
FINAL: Final = ("right", "change", "failed", "crashed", "blocked", "built")
"""The statuses of a port that is done; the first two are verdicts on its dependencies."""
_TABLES: Final = """
create table ports (
  name text primary key collate nocase, version text not null, portdir text not null, kind text not null,
  level integer not null, key text not null, status text not null, error text not null, worker text not null,
  started real not null, seconds real not null, prefix_seconds real not null, log text not null, verdict text not null);
create table needs (port text not null collate nocase, type text not null, needed text not null);
create table findings (
  port text not null collate nocase, code text not null, kind text not null, subject text not null, path text not null,
  reason text not null, fix text not null);
"""


class Results:
    """An open results file; a context manager. PorttraceError where the file is something else."""

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            self._db = sqlite3.connect(file, timeout=10)
            self._db.row_factory = sqlite3.Row
            (application,) = self._db.execute("pragma application_id").fetchone()
            (version,) = self._db.execute("pragma user_version").fetchone()
            empty = not self._db.execute("select 1 from sqlite_master").fetchone()
            if empty and application == 0:
                self._db.executescript(
                    f"begin; {_TABLES} pragma application_id = {_APPLICATION}; pragma user_version = {FORMAT}; commit;"
                )
                return
        except sqlite3.Error as error:
            raise PorttraceError(f"{file} cannot be used for results: {error}; name another file (--results)") from None
        if application != _APPLICATION:
            raise PorttraceError(f"{file} holds something else than a sweep's results; name another file (--results)")
        if version != FORMAT:
            raise PorttraceError(
                f"{file} was written by another version of porttrace (format {version}, this one has {FORMAT}): "
                "remove it, or name another file (--results)"
            )

    def __enter__(self) -> Results:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    def done(self, node: Node) -> str | None:
        """The status of a port that is done and has not changed since; None where there is something to do."""
        row = self._db.execute("select kind, key, status from ports where name = ?", (node.name,)).fetchone()
        if row is None or row["key"] != node.key or row["status"] not in FINAL:
            return None
        return str(row["status"]) if row["kind"] in (node.kind, TEST) else None

    def begin(self, node: Node, worker: str = "") -> None:
        """A port is being worked on; what was known of it is replaced."""
        with self._db:
            for table, column in (("ports", "name"), ("needs", "port"), ("findings", "port")):
                self._db.execute(f"delete from {table} where {column} = ?", (node.name,))
            self._db.execute(
                "insert into ports values (?, ?, ?, ?, ?, ?, 'running', '', ?, ?, 0, 0, '', '{}')",
                (node.name, node.version, node.portdir, node.kind, node.level, node.key, worker, time.time()),
            )
            self._db.executemany("insert into needs values (?, ?, ?)", [(node.name, *need) for need in node.needs])

    def finish(self, node: Node, outcome: Mapping[str, Any]) -> None:
        """How a port ended, as :func:`porttrace.sweep.job.run` returns it."""
        found = outcome.get("findings", [])
        with self._db:
            self._db.execute(
                "update ports set status = ?, error = ?, worker = ?, seconds = ?, prefix_seconds = ?, log = ?, "
                "verdict = ? where name = ?",
                (
                    *(outcome["status"], outcome.get("error", ""), outcome.get("worker", "")),
                    *(outcome.get("seconds", 0.0), outcome.get("prefix_seconds", 0.0), outcome.get("log", "")),
                    *(json.dumps(outcome.get("verdict", {})), node.name),
                ),
            )
            self._db.executemany(
                "insert into findings values (?, ?, ?, ?, ?, ?, ?)",
                [
                    (node.name, *(str(f.get(key) or "") for key in ("code", "kind", "port", "path", "reason", "fix")))
                    for f in found
                ],
            )

    def rows(self) -> list[dict[str, Any]]:
        """All ports, in dependency order, each with its findings and needs."""
        ports = [dict(row) for row in self._db.execute("select * from ports order by level, name collate nocase")]
        for port in ports:
            name = (port["name"],)
            port["verdict"] = json.loads(port["verdict"])
            columns = "code, kind, subject as port, path, reason, fix"
            found = self._db.execute(f"select {columns} from findings where port = ? order by rowid", name)
            port["findings"] = [dict(row) for row in found]
            needs = self._db.execute("select type, needed from needs where port = ?", name)
            port["needs"] = [list(row) for row in needs]
        return ports
