"""The table of owners of a registry, and what its ports need, kept between processes.

Making it for half a million files takes half a second; mapping the one that another process made takes none. It is
kept in a file beside the registry (``.porttrace-owners``), or where that directory is not ours in the user's own cache
directory, and believed only while the registry is the same to the byte counters of SQLite, and only where nobody
but root, the registry's owner or we ourselves could have written it.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import pwd
import re
import stat
import struct
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cache
from pathlib import Path

from porttrace.policy import Links, Ownership

try:
    from _blake2 import blake2b  # what hashlib gives, too, which loads OpenSSL for its other sums
except ImportError:
    from hashlib import blake2b

__all__ = ["all_kept", "cache_places", "load", "ownership", "registry_identity", "store"]

Rows = Iterable[tuple[bytes, str]]
Graph = Mapping[str, Collection[str]]

_MAGIC = b"PTOWNER3"
# magic, identity of the registry, seed, number of paths, longest search, bytes of slots, of ports' names, of links, of
# the graph of dependencies
_HEADER = struct.Struct("=8s32sQQIQQQQ")
_ALIGN = 4096
_NAME = ".porttrace-owners"


@cache
def _boot() -> bytes:
    """Names this run of the machine; empty where it has no name.

    A file that was written in it is whole as long as it lasts, without waiting for the disk.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
    except OSError:
        return b""


def registry_identity(path: str | os.PathLike[str]) -> bytes:
    """32 bytes that change with each transaction on the registry at ``path``, and when the machine is started again.

    File numbers, sizes and times of the database and of its write-ahead log, and what SQLite counts: the change
    counter of the database's header (bytes 24-27), the log's salts, the header of the log's index. (SQLite's "Database
    File Format", sections 1.3, 4.1 and "WAL-mode File Format", 2.1.)
    """
    digest = blake2b(_boot(), digest_size=32)
    name = os.fsencode(path)
    for suffix, header in ((b"", 100), (b"-wal", 32), (b"-shm", 48)):
        try:
            with open(name + suffix, "rb", buffering=0) as file:  # noqa: PTH123 - bytes
                info = os.fstat(file.fileno())
                if suffix == b"-wal" and not info.st_size:
                    break  # readers make an empty one
                numbers = (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns)
                # readers make and touch the index, too
                digest.update((b"" if suffix == b"-shm" else repr(numbers).encode()) + file.read(header) + b";")
        except OSError:
            break
    return digest.digest()


def _home() -> Path | None:
    try:
        home = pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        return None
    return Path(home) if home.startswith("/") else None


def cache_places(registry: Path) -> list[Path]:
    """Where the table of this registry may be kept, the first that serves."""
    home = _home()
    return [registry.with_name(_NAME), *([_user_place(registry, home)] if home is not None else [])]


def _user_place(registry: Path, home: Path) -> Path:
    name = blake2b(os.fsencode(os.path.realpath(registry)), digest_size=16).hexdigest()
    return home / ".cache" / "porttrace" / f"owners-{name}"


def all_kept(registry: Path) -> list[Path]:
    """Every file in which a table of this registry is kept, or was about to be by a process that was killed.

    Beside it, and in the home of any user, where only the user's own file counts.
    """
    places: dict[Path, int | None] = {registry.with_name(_NAME): None}
    for user in pwd.getpwall():
        if user.pw_dir.startswith("/"):
            places[_user_place(registry, Path(user.pw_dir))] = user.pw_uid
    found: list[Path] = []
    for place, uid in places.items():
        with contextlib.suppress(OSError):
            for entry in sorted(place.parent.glob(f"{place.name}*")):
                info = entry.lstat()
                unfinished = re.fullmatch(r"\.[0-9a-f]{16}", entry.name[len(place.name) :])
                ours = entry == place or unfinished is not None
                if ours and stat.S_ISREG(info.st_mode) and uid in (None, info.st_uid):
                    found.append(entry)
    return found


def _ours_alone(info: os.stat_result, trusted: set[int]) -> bool:
    return info.st_uid in trusted and not info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _trusted(registry: Path) -> set[int]:
    """Users whose file is believed: root, we ourselves, and whoever could change the registry itself."""
    trusted = {0, os.geteuid()}
    with contextlib.suppress(OSError):
        trusted.add(registry.stat().st_uid)
    return trusted


def load(place: Path, identity: bytes, trusted: set[int]) -> Ownership | None:
    """The table kept at ``place``, or None where there is none, it is not of this registry, or not to be believed."""
    try:
        directory = place.parent.stat()
        fd = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        info = os.fstat(fd)
        sound = stat.S_ISREG(info.st_mode) and info.st_nlink == 1 and info.st_size > _HEADER.size
        if not sound or not _ours_alone(info, trusted) or not _ours_alone(directory, trusted):
            return None
        mapped = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
    except (OSError, ValueError):
        return None
    finally:
        os.close(fd)
    return _read(mapped, identity)


def _read(data: mmap.mmap, identity: bytes) -> Ownership | None:
    magic, made_for, seed, count, longest, slots, names, links, graph = _HEADER.unpack_from(data)
    if magic != _MAGIC or made_for != identity or len(data) != _ALIGN + slots + names + links + graph:
        return None
    at = _ALIGN + slots
    ports = data[at : at + names].decode("utf-8", "surrogateescape").split("\0")
    at_links = at + names
    parts = data[at_links : at_links + links].split(b"\0") if links else []
    try:
        directories: Links = tuple(zip(parts[::2], parts[1::2], strict=True))
        # A directory that leads elsewhere now gives files other real names.
        if any(_leads_to(name) != real for name, real in directories):
            return None
        found = Ownership.adopt(data, slice(_ALIGN, at), count, longest, seed, ports if names else (), directories)
        found.needs = _graph_of(data[at_links + links :])
    except ValueError:
        return None
    return found


def _graph_text(graph: Graph) -> bytes:
    """Each port followed by what it needs, and an empty word."""
    words = [word for port, needed in graph.items() for word in (port, *needed, "")]
    return "\0".join(words).encode("utf-8", "surrogateescape")


def _graph_of(text: bytes) -> Graph:
    graph: dict[str, list[str]] = {}
    port: list[str] | None = None
    for word in text.decode("utf-8", "surrogateescape").split("\0") if text else ():
        if not word:
            port = None
        elif port is None:
            port = graph.setdefault(word, [])
        else:
            port.append(word)
    return graph


def _leads_to(directory: bytes) -> bytes:
    return os.path.realpath(directory) if os.path.islink(directory) else directory  # noqa: PTH114


def store(place: Path, identity: bytes, owners: Ownership, trusted: set[int]) -> bool:
    """Keep the table at ``place``; False where that is not possible, which costs nothing but time."""
    slots, count, longest = owners.state()
    names = "\0".join(owners.ports).encode("utf-8", "surrogateescape")
    links = b"\0".join(part for pair in owners.directories for part in pair)
    graph = _graph_text(owners.needs)
    sizes = (len(slots), len(names), len(links), len(graph))
    header = _HEADER.pack(_MAGIC, identity, owners.seed, count, longest, *sizes)
    fresh = place.with_name(f"{place.name}.{os.urandom(8).hex()}")
    try:
        if place.name != _NAME:
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _ours_alone(place.parent.stat(), trusted):
            return False
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError:
        return False
    try:
        with os.fdopen(fd, "wb") as file:
            os.fchmod(fd, 0o644)
            for part in (header.ljust(_ALIGN, b"\0"), slots, names, links, graph):
                file.write(part)
            file.flush()
            if not _boot():
                os.fsync(fd)  # after a crash of the machine a file of zeros would own nothing
        fresh.replace(place)
    except OSError:
        with contextlib.suppress(OSError):
            fresh.unlink()
        return False
    return True


def ownership(
    path: str | os.PathLike[str], rows: Callable[[], Rows], graph: Callable[[], Graph]
) -> tuple[bytes, Ownership]:
    """The registry's identity, and the table of its owners: a kept one, or made and kept.

    It is made from ``rows()`` and, for what the ports need, ``graph()``. Raises what these and ``Ownership`` raise.
    """
    registry = Path(path)
    identity = registry_identity(registry)
    trusted = _trusted(registry)
    places = cache_places(registry)
    for place in places:
        kept = load(place, identity, trusted)
        if kept is not None:
            return identity, kept
    made = Ownership(rows())
    made.needs = {port: needed for port, needed in graph().items() if port}
    # Where the registry changed meanwhile, nobody knows what the rows are of.
    if registry_identity(registry) == identity:
        any(store(place, identity, made, trusted) for place in places)
    return identity, made
