"""What a build looked for, did not find, and some port would install: "configure looked for libfoo.pc".

Off by default (`--absent`): it needs every access, and most of what is looked for in vain is looked for in ten places.
A probe counts where nothing of that name was found in any place of its kind; what ports install is known from the
registry (ports that are installed but not active) and from archives.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from errno import ENOENT, ENOTDIR
from pathlib import Path

from porttrace.archive import ArchiveError, archive_type, read_contents
from porttrace.errors import PorttraceError
from porttrace.eventlog import Event
from porttrace.identity import privileged
from porttrace.processes import ProcessTree
from porttrace.registry import Registry
from porttrace.registry.errors import RegistryError

__all__ = ["PortIndex", "Probe", "probes", "tail"]

_LOOKS = frozenset({"read", "stat", "exec", "readlink"})
_PLACE = re.compile(r"(?:^|.*/)(bin|sbin|include|lib|lib64|libexec|share)/(.+)")
_MULTIARCH = re.compile(r"(?<=/)\w+-linux-\w+/")


@dataclass(frozen=True)
class Probe:
    """A path that was looked for in vain, and the executable that looked (the first that did)."""

    path: str
    exe: str


def tail(path: str) -> str | None:
    """A path from the directory on that says what it is (``include/x.h``); None for a path of no such place.

    >>> tail("/usr/lib/x86_64-linux-gnu/pkgconfig/foo.pc"), tail("/usr/lib/gcc/include/foo.h"), tail("/etc/foo")
    ('lib/pkgconfig/foo.pc', 'include/foo.h', None)
    """
    found = _PLACE.fullmatch(path)
    if found is None:
        return None
    place = "lib" if found[1] == "lib64" else found[1]
    return _MULTIARCH.sub("", f"{place}/{found[2]}")


def probes(events: Iterable[Event], tree: ProcessTree, workpath: Path, prefix: Path | None) -> dict[str, Probe]:
    """By `tail`, what was looked for outside of the workpath and found nowhere; a path in the prefix is preferred."""
    work, own = f"{workpath}/", f"{prefix}/" if prefix is not None else None
    wanted: dict[str, Probe] = {}
    found: set[str] = set()
    seen: set[tuple[bytes, int]] = set()
    for event in events:
        if event.access not in _LOOKS or (event.path, event.error) in seen:
            continue
        seen.add((event.path, event.error))
        path = os.fsdecode(event.path)
        if event.error not in (ENOENT, ENOTDIR):
            # By the name that was asked for, too: /usr/bin/cc is a link to something else.
            found |= {name for name in (tail(path), tail(os.fsdecode(event.asked))) if name}
            continue
        name = tail(path)
        if name is None or path.startswith(work):
            continue
        if name not in wanted or (own and path.startswith(own) and not wanted[name].path.startswith(own)):
            image = tree.images.get(event.image)
            wanted[name] = Probe(path, os.fsdecode(image.exe) if image is not None else "?")
    return {name: probe for name, probe in sorted(wanted.items()) if name not in found}


class PortIndex:
    """Which port installs a file: `tail` -> names of ports that are not active."""

    def __init__(self) -> None:
        self._ports: dict[str, dict[str, None]] = {}
        self.archives = 0
        """How many archives were read."""

    def add(self, port: str, files: Iterable[bytes]) -> None:
        """Add the files of a port, by absolute path."""
        for file in files:
            name = tail(os.fsdecode(file))
            if name is not None:
                self._ports.setdefault(name, {})[port] = None

    def providers(self, name: str) -> list[str]:
        """The ports that install a file of this `tail`."""
        return sorted(self._ports.get(name, ()))

    @classmethod
    def of(cls, registry: str | os.PathLike[str], archives: Iterable[Path]) -> PortIndex:
        """From the registry and the archives below some directories. Raises PorttraceError where the registry cannot
        be read; an archive that cannot be read is passed over."""
        index = cls()
        try:
            with privileged(), Registry.open(registry) as ports:
                installed = ports.ports()
                active = {port.name.lower() for port in installed if port.active}
                for port in installed:
                    if port.name.lower() not in active:
                        index.add(port.name, ports.image_files(port))
        except RegistryError as error:
            raise PorttraceError(str(error)) from None
        for directory in archives:
            for path in sorted(directory.rglob("*")):
                try:
                    archive_type(path)
                    contents = read_contents(path)
                except ArchiveError:
                    continue
                index.archives += 1
                name = contents.keys.get("portname") or contents.keys.get("name", path.name).rsplit("-", 1)[0]
                if name.lower() not in active:
                    index.add(name, contents.files)
        return index

    def answers(self, probed: Mapping[str, Probe], leave_out: Iterable[str] = ()) -> dict[str, list[str]]:
        """`tail` -> ports that would have answered, without those of `leave_out`."""
        unwanted = {name.lower() for name in leave_out}
        found = {name: [p for p in self.providers(name) if p.lower() not in unwanted] for name in probed}
        return {name: ports for name, ports in found.items() if ports}
