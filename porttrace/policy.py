"""Policies and the images that they are compiled to.

A policy is two filemaps, the owners of the prefix' files, and which ports a phase may see. Its image is what every
traced process maps; ``Image.decide`` answers through the same C code.
"""

from __future__ import annotations

import mmap
import os
import sys
from array import array
from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from porttrace._core import ffi, lib
from porttrace.diskname import spelt
from porttrace.filemap import Action, Filemap, Rule, display
from porttrace.realpath import real_path
from porttrace.records import field, record

__all__ = ["Decision", "Image", "MapName", "Ownership", "Policy", "PolicyError", "image_size"]

MapName = Literal["read", "write"]
Links = tuple[tuple[bytes, bytes], ...]
"""Directories and where they lead: (name, real name)."""
_WATCHED = 1024
_MAPS: tuple[MapName, MapName] = ("read", "write")


class PolicyError(ValueError):
    """A policy that cannot be compiled, or bytes that are no image."""


def _text(pointer: Any) -> str:
    return bytes(ffi.string(pointer)).decode("utf-8", "surrogateescape")


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


class _RealDirectories:
    """Real paths of directories, one ``readlink`` for each directory however many files lie in it."""

    def __init__(self) -> None:
        self._known: dict[bytes, bytes] = {b"": b""}
        self.links: dict[bytes, bytes] = {}

    def __getitem__(self, directory: bytes) -> bytes:
        known = self._known.get(directory)
        if known is None:
            parent, _, name = directory.rpartition(b"/")
            known = self[parent] + b"/" + name
            try:
                os.readlink(known)  # noqa: PTH115 - bytes, and the quickest way to ask whether it is a link
            except (OSError, ValueError):
                pass  # no link, or not there: the name is as real as it gets
            else:
                leads_to = real_path(known)
                self.links[known] = leads_to
                known = leads_to
            self._known[directory] = known
        return known

    def watched(self) -> Links:
        """All links that were met, and the uppermost directories: what tells whether real names have changed."""
        plain = [name for name, real in self._known.items() if name and name == real]
        plain.sort(key=lambda name: (name.count(b"/"), name))
        return (*self.links.items(), *((name, name) for name in plain[:_WATCHED]))


def _random_seed() -> int:
    return int.from_bytes(os.urandom(8), "little")


class Ownership:
    """Which port each file in the prefix belongs to: a table of seeded 64-bit hashes, no names of files.

    ``files`` yields (absolute path, port) of active files. A path is found under the name in the registry and, where
    a directory on the way is a symlink, under its real name too. The table is made once and can serve the policies
    of all phases. ``seed`` is random unless given. ``needs``: what the ports need at run time, where that is known
    (`Registry.dependency_graph`).
    """

    def __init__(self, files: Iterable[tuple[bytes, str]], seed: int | None = None, resolve: bool = True) -> None:
        rows = list(files)
        paths: list[bytes] = [path for path, _ in rows]
        index: dict[str, int] = {}
        ports = array("I", [index.setdefault(port, len(index)) for _, port in rows])
        del rows
        self.directories: Links = ()
        self.needs: Mapping[str, Collection[str]] = {}
        if resolve:
            real = _RealDirectories()
            moved = {d for d in {path.rpartition(b"/")[0] for path in paths} if d.startswith(b"/") and real[d] != d}
            self.directories = real.watched()
            for i in range(len(paths)) if moved else ():
                directory, _, name = paths[i].rpartition(b"/")
                if directory in moved:
                    paths.append(real[directory] + b"/" + name)
                    ports.append(ports[i])
        blob = b"\0".join([*paths, b""])
        if blob.count(b"\0") != len(paths):
            raise PolicyError("the registry holds a path with a NUL byte")
        self.ports: tuple[str, ...] = tuple(index)
        self._keep: Any = None
        self.seed = _random_seed() if seed is None else seed
        table = lib.pt_owners_new(blob, len(blob), ffi.from_buffer("uint32_t[]", ports), len(paths), self.seed)
        if not table:
            raise MemoryError("no memory for the table of owners")
        self.table: Any = ffi.gc(table, lib.pt_owners_free, size=len(paths) * 24)

    @classmethod
    def adopt(
        cls,
        data: Any,
        where: slice,
        count: int,
        longest: int,
        seed: int,
        ports: Iterable[str],
        directories: Links,
    ) -> Ownership:
        """A table from what :meth:`state` gave, which lies at ``where`` in ``data``, bytes or the map of a file.

        Raises ``PolicyError`` where it is none.
        """
        made = cls.__new__(cls)
        # Of the whole, and no memoryview of the part: at the interpreter's end those are cleared while cffi holds them.
        buffer = ffi.from_buffer(data)
        table = lib.pt_owners_adopt(buffer + where.start, where.stop - where.start, count, longest, seed)
        if not table:
            raise PolicyError("no table of owners")
        made._keep = buffer  # the table points into it
        made.table = ffi.gc(table, lib.pt_owners_free)
        made.ports, made.seed, made.directories, made.needs = tuple(ports), seed, directories, {}
        return made

    def state(self) -> tuple[Any, int, int]:
        """The table's bytes (a buffer that lives as long as this object), its number of paths, its longest search."""
        size, longest = ffi.new("size_t *"), ffi.new("uint32_t *")
        slots = lib.pt_owners_slots(self.table, size, longest)
        return ffi.buffer(ffi.cast("char *", slots), size[0]), len(self), longest[0]

    def __len__(self) -> int:
        """Number of paths, both names of a file counted."""
        return int(lib.pt_owners_count(self.table))


@record(frozen=True)
class Decision:
    """What becomes of one path. An ask is already answered: ``action`` is ALLOW, REDIRECT or DENY."""

    action: Action
    rule: Rule | None
    """The rule that won; ``None``: not listed."""
    index: int | None
    """The rule's place in the image: those of the read map come first."""
    port: str | None
    """Owner, where the table was asked and knew one."""
    unowned: bool
    """In the ask area, and no port's."""
    visible_dir: bool
    """Denied as a file, but visible if it is a directory: something below may be, or it lies in the ask area."""
    live: bool = False
    silent: bool = False
    fallback: bool = False
    physical: bytes | None = None
    """Where a redirect leads."""


def image_size(header: bytes) -> int:
    """The size of an image of which these are the first bytes (csrc/image.h). PolicyError: they are none's."""
    if len(header) < 24 or header[:8] != b"PTIMAGE\0":
        raise PolicyError("does not begin as a policy image")
    return int.from_bytes(header[16:24], sys.byteorder)


class Image:
    """A compiled policy. ``data`` is bytes or a mapping; raises ``PolicyError`` when it is not an image.

    ``verify`` checks every node and index, not only the header.
    """

    def __init__(self, data: bytes | mmap.mmap | memoryview, verify: bool = False) -> None:
        self.data = data
        self._buffer = ffi.from_buffer(data)
        why = ffi.new("const char **")
        offset = ffi.new("size_t *")
        check = lib.pt_image_verify if verify else lib.pt_image_check
        if not check(self._buffer, len(self._buffer), why, offset):
            raise PolicyError(f"not a policy image: {_text(why[0])} (at byte {offset[0]})")
        self.pointer: Any = lib.pt_image_check(self._buffer, len(self._buffer), why, offset)

    @property
    def flags(self) -> int:
        """Bits of ``enum pt_image_flag``."""
        return int(lib.pt_image_flags(self.pointer))

    @property
    def seed(self) -> int:
        """Of the path hashes."""
        return int(lib.pt_image_seed(self.pointer))

    def label(self, key: str) -> str | None:
        """``port``, ``phase``, ``prefix``: what reports say about where this policy belongs."""
        value = lib.pt_image_label(self.pointer, _encode(key))
        return _text(value) if value else None

    def port(self, index: int) -> str | None:
        """Name of a port by its index."""
        name = lib.pt_image_port(self.pointer, index, ffi.NULL)
        return _text(name) if name else None

    def in_closure(self, port: str) -> bool:
        """Does the phase see this port's files? Names compare without case."""
        return port.lower() in self._closure

    @cached_property
    def _closure(self) -> frozenset[str]:
        inside = ffi.new("bool *")
        names = set()
        index = 0
        while name := lib.pt_image_port(self.pointer, index, inside):
            if inside[0]:
                names.add(_text(name).lower())
            index += 1
        return frozenset(names)

    @property
    def rules(self) -> int:
        """How many rules there are, of both maps."""
        return int(lib.pt_image_rules(self.pointer))

    def rule(self, index: int) -> Rule | None:
        """A rule by its index."""
        view = ffi.new("struct pt_rule_view *")
        if not lib.pt_image_rule(self.pointer, index, view):
            return None
        return Rule(
            bytes(ffi.buffer(view.path, view.path_len)),
            Action(view.action),
            bytes(ffi.buffer(view.target, view.target_len)) if view.target else None,
            _text(view.origin),
            literal=view.literal,
            live=view.live,
            silent=view.silent,
            fallback=view.fallback,
        )

    def filemap(self, name: MapName) -> Filemap:
        """The rules of one map, in order."""
        view = ffi.new("struct pt_rule_view *")
        wanted = _MAPS.index(name)
        found = Filemap()
        for index in range(lib.pt_image_rules(self.pointer)):
            if lib.pt_image_rule(self.pointer, index, view) and view.map == wanted:
                rule = self.rule(index)
                assert rule is not None
                found.append(rule)
        return found

    def decide(self, path: bytes, map: MapName = "read") -> Decision:
        """Decide an absolute, normalized, real path."""
        v = lib.pt_decide(self.pointer, _MAPS.index(map), path, len(path))
        rule = self.rule(v.rule) if v.rule != lib.PT_NO_RULE else None
        physical = None
        if v.action == lib.PT_REDIRECT and rule is not None and rule.target is not None:
            room = len(path) + len(rule.target) + 2
            out = ffi.new("char[]", room)
            n = lib.pt_redirect(self.pointer, v.rule, path, len(path), out, room)
            physical = bytes(ffi.buffer(out, n))
        denied = v.action == lib.PT_DENY
        return Decision(
            Action(v.action),
            rule,
            v.rule if rule is not None else None,
            self.port(v.port) if v.port != lib.PT_NO_PORT else None,
            bool(v.flags & lib.PT_V_UNOWNED),
            denied and bool(v.flags & (lib.PT_V_BELOW | lib.PT_V_ASKED)),
            bool(v.flags & lib.PT_V_LIVE),
            bool(v.flags & lib.PT_V_SILENT),
            bool(v.flags & lib.PT_V_FALLBACK),
            physical,
        )


@record
class Policy:
    """Everything that decides what a phase's processes see."""

    read: Filemap = field(default_factory=Filemap)
    write: Filemap = field(default_factory=Filemap)
    prefix: Path | None = None
    owners: Ownership | None = None
    closure: frozenset[str] = frozenset()
    """Ports whose files the phase sees; names compare without case."""
    port: str = ""
    phase: str = ""
    strict: bool = False
    audit: bool = False
    log: bool = False
    absent: bool = False
    """Remember what was looked for and is not there; needs every access, as `log` does."""
    fence: bool = True
    dirs_visible: bool = False
    """Every existing directory may be looked at (``stat``), as in later MacPorts."""
    filtered: bool = False
    """The session runs under a seccomp filter itself, as in a container: that a program has one says nothing of it."""
    supervised: bool = True
    """Whether a supervisor stands by; its own judgement includes what the system's loader opens."""

    places: Mapping[bytes, bytes] = field(default_factory=dict)
    """Directories of the base system: a path, and its real one (see `places.known`)."""
    programs: Mapping[bytes, bytes] = field(default_factory=dict)
    """Programs of the base system that need no look: a path, and where it leads in one step (see `programs.usual`)."""

    def compile(self) -> bytes:
        """The image. Raises ``PolicyError`` naming the rule that cannot be compiled."""
        return bytes(self.build())

    def build(self) -> Any:
        """The image where the compiler has left it, a buffer: with a large registry each copy of it would be felt.

        Raises ``PolicyError`` as `compile` does.
        """
        rules = [*self.read, *self.write]
        maps = bytes(len(self.read)) + b"\x01" * len(self.write)
        known: dict[bytes, bytes] = {}
        texts = list(chain.from_iterable((spelt(r.path, known), r.target or b"", _encode(r.origin)) for r in rules))
        flags = (
            (r.literal and lib.PT_RULE_LITERAL)
            | (r.live and lib.PT_RULE_LIVE)
            | (r.silent and lib.PT_RULE_SILENT)
            | (r.fallback and lib.PT_RULE_FALLBACK)
            for r in rules
        )
        closure = {name.lower() for name in self.closure}
        ports = self.owners.ports if self.owners else ()
        labels = {"port": self.port, "phase": self.phase, "prefix": os.fspath(self.prefix) if self.prefix else ""}
        build = ffi.new("struct pt_build *")
        keep: list[Any] = []

        def block(data: bytes) -> Any:
            keep.append(ffi.from_buffer(data))
            return keep[-1]

        def put(name: str, data: bytes) -> None:
            setattr(build, name, block(data))
            setattr(build, name + "_size", len(data))

        build.flags = (
            (self.strict and lib.PT_IMG_STRICT)
            | (self.audit and lib.PT_IMG_AUDIT)
            | ((self.log or self.absent) and lib.PT_IMG_LOG)
            | (self.fence and lib.PT_IMG_FENCE)
            | (self.dirs_visible and lib.PT_IMG_DIRS_VISIBLE)
            | (self.filtered and lib.PT_IMG_FILTERED)
        )
        build.rules = len(rules)
        build.actions = ffi.cast("uint8_t *", block(bytes(r.action for r in rules)))
        build.maps = ffi.cast("uint8_t *", block(maps))
        build.rule_flags = ffi.cast("uint8_t *", block(bytes(flags)))
        put("rule_texts", _texts(texts))
        build.ports = len(ports)
        put("port_names", _texts([_encode(name) for name in ports]))
        build.in_closure = ffi.cast("uint8_t *", block(bytes(name.lower() in closure for name in ports)))
        build.labels = len(labels)
        put("label_texts", _texts([_encode(text) for text in chain.from_iterable(labels.items())]))
        build.places = len(self.places)
        put("place_texts", _texts(list(chain.from_iterable(self.places.items()))))
        build.programs = len(self.programs)
        put("program_texts", _texts(list(chain.from_iterable(self.programs.items()))))
        build.owners = self.owners.table if self.owners else ffi.NULL
        build.seed = _random_seed()

        size = ffi.new("size_t *")
        why = ffi.new("const char **")
        bad = ffi.new("uint32_t *")
        image = lib.pt_build_image(build, size, why, bad)
        if not image:
            if bad[0] != lib.PT_NO_RULE:
                rule = rules[bad[0]]
                origin = f" ({rule.origin})" if rule.origin else ""
                raise PolicyError(f"rule for {display(rule.path)}{origin}: {_text(why[0])}")
            for rule in rules:
                if b"\0" in rule.path + (rule.target or b"") or "\0" in rule.origin:
                    raise PolicyError(f"rule for {display(rule.path)}: it holds a NUL byte")
            raise PolicyError(f"the policy cannot be compiled: {_text(why[0])}")
        return ffi.buffer(ffi.gc(image, lib.pt_build_free), size[0])


def _texts(texts: list[bytes]) -> bytes:
    return b"".join(text + b"\0" for text in texts)
