"""Which ports a sweep works on, in which order, and what each has to wait for."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

__all__ = ["Node", "Plan", "tree_digest"]

TEST, BUILD = "test", "build"
"""What is done with a port: its dependencies are tested, or it is only built because others need it."""


@dataclass
class Node:
    """A port of the sweep. `needs` holds (type, name); `error` says why it cannot be built at all."""

    name: str
    portdir: str = ""
    version: str = ""
    needs: tuple[tuple[str, str], ...] = ()
    error: str = ""
    kind: str = BUILD
    level: int = 0
    key: str = ""
    """Digest of all that its result depends on: the same key, the same result."""


def tree_digest(directory: Path) -> bytes:
    """A digest of the names and contents of all files below a directory. OSError where one cannot be read."""
    digest = hashlib.sha256()
    for file in sorted(path for path in directory.rglob("*") if path.is_file()):
        content = file.read_bytes()
        digest.update(b"%s\0%d\0" % (str(file.relative_to(directory)).encode("utf-8", "surrogateescape"), len(content)))
        digest.update(content)
    return digest.digest()


class Plan:
    """The ports by lower-cased name. With `alone` a prefix holds a port's dependencies and nothing else."""

    def __init__(self, nodes: Iterable[Node], asked: Iterable[str], alone: bool, salt: bytes = b"") -> None:
        self.nodes = {node.name.lower(): node for node in nodes}
        self.alone = alone
        self._salt = salt + (b"alone" if alone else b"")
        for name in asked:
            self.nodes[name.lower()].kind = TEST
        order = self._order()
        for name in order:
            self._place(self.nodes[name])
        self.order = sorted(order, key=lambda name: (self.nodes[name].level, name))
        self._place_of = {name: number for number, name in enumerate(self.order)}

    def direct(self, name: str) -> frozenset[str]:
        """What a port itself declares, without what closes a circle."""
        return frozenset(self._edges[name])

    def closure(self, name: str) -> list[str]:
        """All that a port needs, in the order in which it can be installed."""
        seen: set[str] = set()
        todo = [*self._edges[name]]
        while todo:
            one = todo.pop()
            if one not in seen:
                seen.add(one)
                todo += self._edges[one]
        return sorted(seen, key=self._place_of.__getitem__)

    def ready(self, name: str, done: Container[str], lowest: int) -> bool:
        """Whether a port can be started; `lowest` is the lowest level of what is not done."""
        return (self.alone or self.nodes[name].level <= lowest) and all(one in done for one in self._edges[name])

    def others(self, name: str) -> list[str]:
        """What else is in a port's prefix, so that a use of it is seen: all that stands before it in the order."""
        if self.alone:
            return []
        needed = set(self.closure(name))
        return [n for n in self.order if self.nodes[n].level < self.nodes[name].level and n not in needed]

    def _order(self) -> list[str]:
        """Dependencies first. What closes a circle is left out where it is only for testing, else it is an error."""
        self._edges: dict[str, dict[str, None]] = {}
        for name, node in self.nodes.items():
            known = (needed.lower() for kind, needed in node.needs if kind != "test")
            self._edges[name] = dict.fromkeys(needed for needed in known if needed in self.nodes)
        while True:
            try:
                order = list(TopologicalSorter(self._edges).static_order())
                break
            except CycleError as error:
                circle = list(dict.fromkeys(error.args[1]))
                for name in circle:
                    others = [
                        self.nodes[n].name for n in [*circle[circle.index(name) :], *circle[: circle.index(name)]]
                    ]
                    self.nodes[name].error = f"the ports {' -> '.join([*others, others[0]])} depend on each other"
                    self._edges[name] = {}
        for name, node in self.nodes.items():
            for needed in (each.lower() for kind, each in node.needs if kind == "test"):
                if needed in self.nodes and needed != name and not self._reaches(needed, name):
                    self._edges[name][needed] = None
                    order = []
        return order or list(TopologicalSorter(self._edges).static_order())

    def _reaches(self, start: str, target: str) -> bool:
        seen, todo = {start}, [start]
        while todo:
            for one in self._edges[todo.pop()]:
                if one == target:
                    return True
                if one not in seen:
                    seen.add(one)
                    todo.append(one)
        return False

    def _place(self, node: Node) -> None:
        direct = [self.nodes[name] for name in self._edges[node.name.lower()]]
        node.level = max((each.level + 1 for each in direct), default=0)
        digest = hashlib.sha256(self._salt)
        try:
            digest.update(tree_digest(Path(node.portdir)) if node.portdir else b"")
        except OSError as error:
            node.error = node.error or f"{error.filename}: {error.strerror}"
        for key in sorted(each.key for each in direct):
            digest.update(key.encode())
        digest.update(f"{node.name} {node.error}".encode("utf-8", "surrogateescape"))
        node.key = digest.hexdigest()


def make_nodes(rows: Iterable[Mapping[str, str]], pairs: Iterable[list[str]]) -> list[Node]:
    """Nodes from the rows of ``port::graph`` and their needs, each a flat list of type and name."""
    return [
        Node(
            row["name"],
            row["portdir"],
            row["version"],
            tuple(dict.fromkeys(zip(needs[::2], needs[1::2], strict=True))),
            row["error"],
        )
        for row, needs in zip(rows, pairs, strict=True)
    ]
