"""Images of installed ports: kept as archives below ``${portdbpath}/software``, activated into the prefix.

Every change either happens whole (registry and files) or not at all, also where port is killed in the middle: what a
dead process left half done is finished or taken back by the next one that changes the prefix.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from porttrace import archive as archives
from porttrace.errors import PorttraceError
from porttrace.identity import Identity
from porttrace.records import replace
from porttrace.registry import ACTIVE, INACTIVE, NewPort, Port, PortGroup, Registry
from porttrace.undo import Undo, exclusive, move, recover

Say = Callable[[str, str], None]
"""Called with a level of port's messages (``debug info notice msg warn error``) and a line."""

_SHOWN_CONFLICTS: Final = 3


class ImageError(PorttraceError):
    """A port cannot be installed, activated, deactivated or uninstalled; the prefix is as it was."""


@dataclass(frozen=True)
class Group:
    """A PortGroup file that the Portfile used."""

    name: str
    version: str
    file: Path


def image_name(name: str, specifier: str, platform: str, archs: Iterable[str], kind: str) -> str:
    """File name of an image, as MacPorts forms it: ``foo-1.0_0+x.linux_6.x86_64.tbz2``."""
    full = f"{name}-{specifier}.{platform}.{'-'.join(archs)}.{kind}"
    if len(full.encode()) > 245:  # leaves room for a signature's extension within 255 bytes
        version, plus, variants = specifier.partition("+")
        digest = hashlib.sha256(variants.encode()).hexdigest()[:40] if plus else ""
        full = f"{name}-{version}{plus}{digest}.{platform}.{'-'.join(archs)}.{kind}"
    if len(full.encode()) > 245:
        raise ImageError(f"the name of the image is too long: {full}; shorten version or variants of {name}")
    return full


class Images:
    """The images of one registry. ``prefix`` is never removed by deactivation, whatever becomes empty."""

    def __init__(self, portdbpath: Path, prefix: Path, say: Say, lock_timeout: float | None = None) -> None:
        self.portdbpath = portdbpath
        self.prefix = prefix
        self._say = say
        self._timeout = lock_timeout
        self._directory = portdbpath / "registry"
        self._journal = self._directory / ".porttrace-journal"
        self._held = False

    @property
    def registry_file(self) -> Path:
        return self._directory / "registry.db"

    def image_directory(self, name: str) -> Path:
        return self.portdbpath / "software" / name

    # -- the frame of every change ---------------------------------------------------------------------------------

    @contextmanager
    def _locked(self) -> Iterator[Registry]:
        lock = self._directory / ".registry.lock"
        with (
            exclusive(lock, lambda: self._say("msg", f"Waiting for lock on {lock}"), self._timeout),
            Registry.open(self.registry_file, write=True) as registry,
        ):
            if recover(self._journal, lambda expect: _is_final(registry, expect)):
                self._say("warn", "an earlier port process died while it changed the prefix; that was put in order")
            yield registry

    @contextmanager
    def _change(self, registry: Registry, port: NewPort | Port, state: str | None) -> Iterator[Undo]:
        """One change as a whole; ``state`` is what the registry says of ``port`` once it is final (None: gone)."""
        expect: dict[str, object] = {
            "port": [port.name, port.version, port.revision, port.variants],
            "state": state,
        }
        try:
            with Undo(self._journal, expect) as undo, registry.transaction():
                yield undo
                undo.commit()
        except OSError as error:
            name = f": {error.filename}" if error.filename else ""
            raise ImageError(f"{port.name}: {error.strerror}{name}; the prefix is as it was") from error

    def recover(self) -> None:
        """Put in order what a dead process left half done."""
        if self._journal.exists():
            with self._locked():
                pass

    # -- install ---------------------------------------------------------------------------------------------------

    def install(
        self,
        new: NewPort,
        metadata: archives.Metadata,
        destroot: Path,
        image: str,
        *,
        epoch: int,
        portfile: Path,
        groups: Iterable[Group] = (),
        build_user: Identity | None = None,
    ) -> Port:
        """Pack ``destroot`` as the image file ``image`` and record the port, not active.

        ``new.files``, ``location``, ``portfile``, ``portgroups`` and ``date`` are filled in here.
        """
        target = self.image_directory(new.name) / image
        with self._locked() as registry:
            self._refuse_installed(registry, new)
            with self._change(registry, new, INACTIVE) as undo:
                self._make_directory(target.parent, undo)
                undo.creates(target)
                contents = archives.create(destroot, target, metadata, epoch=epoch, build_user=build_user)
                return self._record(registry, new, contents, target, portfile, groups, undo)

    def install_archive(
        self, new: NewPort, file: Path, contents: archives.Contents, image: str, *, groups: Iterable[Group] = ()
    ) -> Port:
        """Record a port, not active, with an archive of it as its image; otherwise like :meth:`install`."""
        target = self.image_directory(new.name) / image
        with self._locked() as registry:
            self._refuse_installed(registry, new)
            with self._change(registry, new, INACTIVE) as undo:
                self._make_directory(target.parent, undo)
                work = self._work_directory(target.parent, undo)
                portfile = work / "Portfile"
                portfile.write_bytes(archives.read_control(file).get("+PORTFILE", b""))
                undo.creates(target)
                shutil.copyfile(file, target)
                target.chmod(0o644)
                return self._record(registry, new, contents, target, portfile, groups, undo)

    def _record(
        self,
        registry: Registry,
        new: NewPort,
        contents: archives.Contents,
        target: Path,
        portfile: Path,
        groups: Iterable[Group],
        undo: Undo,
    ) -> Port:
        kept, kept_groups = self._keep_portfile(new, portfile, groups, undo)
        recorded = replace(
            new,
            files=contents.files,
            binary=contents.binary,
            location=str(target),
            portfile=kept,
            portgroups=kept_groups,
            date=int(time.time()),
        )
        return registry.add(recorded)

    def _refuse_installed(self, registry: Registry, new: NewPort) -> None:
        if registry.find(new.name, new.version, new.revision, new.variants) is not None:
            raise ImageError(
                f"{new.name} @{new.version}_{new.revision}{new.variants} is already installed; uninstall it first"
            )

    def _make_directory(self, directory: Path, undo: Undo) -> None:
        if not directory.is_dir():
            self._make_directory(directory.parent, undo)
            undo.makes_directory(directory)
            directory.mkdir(mode=0o755)

    def _keep_portfile(
        self, new: NewPort, portfile: Path, groups: Iterable[Group], undo: Undo
    ) -> tuple[str, tuple[PortGroup, ...]]:
        sha256, size = _digest(portfile)
        directory = self._portfile_directory(new.name, new.version, new.revision, f"{sha256}-{size}")
        self._keep(portfile, directory / "Portfile", undo)
        kept = []
        for group in groups:
            digest, length = _digest(group.file)
            record = PortGroup(group.name, group.version, length, digest)
            self._keep(group.file, self._group_file(record), undo)
            kept.append(record)
        return f"{sha256}-{size}", tuple(kept)

    def _portfile_directory(self, name: str, version: str, revision: int, digest: str) -> Path:
        return self._directory / "portfiles" / f"{name}-{version}_{revision}" / digest

    def _group_file(self, group: PortGroup) -> Path:
        return self._directory / "portgroups" / f"{group.sha256}-{group.size}" / f"{group.name}-{group.version}.tcl"

    def _keep(self, source: Path, target: Path, undo: Undo) -> None:
        if target.is_file() and _digest(target) == _digest(source):
            return
        self._make_directory(target.parent, undo)
        if target.exists():
            target.unlink()  # it was damaged: its name is the digest that it does not have
        undo.creates(target)
        shutil.copyfile(source, target)
        target.chmod(0o644)

    def kept_portfile(self, port: Port) -> Path:
        """The Portfile as it was when the port was installed."""
        return self._portfile_directory(port.name, port.version, port.revision, port.portfile) / "Portfile"

    # -- activate --------------------------------------------------------------------------------------------------

    def activate(self, name: str, specifier: str = "", force: bool = False) -> bool:
        """Put a port's files into the prefix; another active version of it goes out in the same step.

        Returns False where it was active already. Raises ImageError where files are in the way; with ``force``
        those are moved aside.
        """
        with self._locked() as registry:
            port = self._choose(registry, name, specifier)
            if port.active:
                self._say("info", f"{port} is already active.")
                return False
            location = Path(port.location)
            if not location.is_file():
                raise ImageError(f"Image error: Can't find image file {location}; uninstall {port.name} and install it")
            with self._change(registry, port, ACTIVE) as undo:
                current = registry.active(port.name)
                if current is not None:
                    self._say("msg", f"--->  Deactivating {current}")
                    self._take_out(registry, current, undo)
                self._say("msg", f"--->  Activating {port}")
                self._put_in(registry, port, location, undo, force)
            return True

    def _put_in(self, registry: Registry, port: Port, location: Path, undo: Undo, force: bool) -> None:
        work = self._work_directory(location.parent, undo)
        archives.extract(location, work)
        files = [Path(os.fsdecode(path)) for path in registry.image_files(port)]
        for file in files:
            if not os.path.lexists(work / file.relative_to("/")):
                raise ImageError(f"Image error: {location} does not hold {file}; uninstall {port.name} and install it")
        self._clear_the_way(registry, port, files, undo, force)
        directories: set[Path] = set()
        for file in files:
            directories.update(file.parents)
        for directory in sorted(directories):
            if not directory.is_dir():
                undo.makes_directory(directory)
                directory.mkdir(mode=0o755)
                _copy_attributes(work / directory.relative_to("/"), directory)
        for file in files:
            self._say("debug", f"activating file: {file}")
            undo.creates(file)
            move(work / file.relative_to("/"), file)
        registry.activate(port)

    def _work_directory(self, beside: Path, undo: Undo) -> Path:
        """A directory on the same file system as the images (and so, as a rule, as the prefix): renames are enough."""
        work = beside / f".porttrace-{secrets.token_hex(8)}"
        undo.temporary(work)
        work.mkdir(mode=0o700)
        return work

    def _clear_the_way(self, registry: Registry, port: Port, files: list[Path], undo: Undo, force: bool) -> None:
        suffix = f".mp_{int(time.time())}"
        taken: dict[str, list[bytes]] = {}
        for path, other in registry.conflicts(port):
            taken.setdefault(other, []).append(path)
        if taken and not force:
            self._say("error", _conflict_text(port, taken))
            raise ImageError(
                "Image error: Conflicting file(s) present. Please deactivate the conflicting port(s) first, or use"
                f" 'port -f activate {port.name}' to force the activation."
            )
        owned = {path for paths in taken.values() for path in paths}
        for file in files:
            if not os.path.lexists(file):
                continue
            if not force:
                raise ImageError(
                    f"Image error: {file} already exists and does not belong to a registered port.  Unable to activate"
                    f" port {port.name}. Use 'port -f activate {port.name}' to force the activation."
                )
            aside = file.with_name(file.name + suffix)
            self._say("warn", f"File {file} already exists.  Moving to: {aside}.")
            owner = registry.owner(os.fsencode(file)) if os.fsencode(file) in owned else None
            undo.moves(file, aside)
            file.rename(aside)
            if owner is not None:
                registry.rename_active(owner, os.fsencode(file), os.fsencode(aside))
        for path in owned:  # what the registry has and the prefix has not
            owner = registry.owner(path)
            if owner is not None:
                registry.rename_active(owner, path, path + os.fsencode(suffix))

    # -- deactivate ------------------------------------------------------------------------------------------------

    def deactivate(self, name: str, specifier: str = "", force: bool = False) -> bool:
        """Take a port's files out of the prefix, and the directories that this leaves empty.

        Returns False where no version of it was active.
        """
        with self._locked() as registry:
            port = registry.active(name)
            if port is None:
                installed = registry.ports(name)
                if not installed:
                    raise ImageError(f"Image error: port {name} is not active.")
                self._say("info", f"port {installed[0].name} is already inactive")
                return False
            if specifier and specifier not in (port.specifier, port.version):
                raise ImageError(f"Active version of {port.name} is not {specifier} but {port.specifier}.")
            self._check_dependents(registry, port, "deactivate", force)
            with self._change(registry, port, INACTIVE) as undo:
                self._say("msg", f"--->  Deactivating {port}")
                self._take_out(registry, port, undo)
            return True

    def _check_dependents(self, registry: Registry, port: Port, action: str, force: bool) -> None:
        dependents = [other for other in registry.dependents(port) if action != "deactivate" or other.active]
        if action != "deactivate" and len(registry.ports(port.name)) > 1 and not port.active:
            return
        if not dependents:
            return
        self._say("msg", f"--->  Unable to {action} {port}, the following ports depend on it:")
        for other in dependents:
            self._say("msg", f"--->  \t{other}")
        if not force:
            raise ImageError(f"Please uninstall the ports that depend on {port.name} first.")
        self._say("warn", f"{action.capitalize()} forced.  Proceeding despite dependencies.")

    def _take_out(self, registry: Registry, port: Port, undo: Undo) -> None:
        directory = self.image_directory(port.name)
        self._make_directory(directory, undo)
        trash = self._work_directory(directory, undo)
        parents: set[Path] = set()
        for number, path in enumerate(registry.files(port)):
            file = Path(os.fsdecode(path))
            if not os.path.lexists(file):
                self._say("debug", f"{file} does not exist.")
                continue
            # The real directory: where a part of the path is a link, the directory behind it is what gets empty.
            real = file.parent.resolve()
            parents.update((real, *real.parents))
            self._say("debug", f"deactivating file: {file}")
            away = trash / str(number)
            undo.moves(file, away)
            move(file, away)
        kept = {self.prefix.resolve(), *self.prefix.resolve().parents, *self.portdbpath.resolve().parents}
        for parent in sorted(parents - kept, reverse=True):
            if parent.is_dir() and not any(parent.iterdir()):
                self._say("debug", f"deactivating directory: {parent}")
                undo.removes_directory(parent)
                parent.rmdir()
        registry.deactivate(port)

    # -- uninstall -------------------------------------------------------------------------------------------------

    def uninstall(self, name: str, specifier: str = "", force: bool = False) -> Port:
        """Deactivate a port if it is active, forget it and remove its image. Returns what it was."""
        with self._locked() as registry:
            port = self._choose(registry, name, specifier)
            self._check_dependents(registry, port, "uninstall", force)
            with self._change(registry, port, None) as undo:
                if port.active:
                    self._say("msg", f"--->  Deactivating {port}")
                    self._take_out(registry, port, undo)
                self._say("msg", f"--->  Uninstalling {port}")
                location = Path(port.location)
                # Only what is ours: a registry may say anything.
                if port.location and location.is_relative_to(self.portdbpath / "software"):
                    undo.removes_at_the_end(location)
                if registry.portfile_users(port) <= 1 and port.portfile:
                    undo.removes_at_the_end(self.kept_portfile(port).parent)
                for group in registry.portgroups(port):
                    if registry.portgroup_users(group) <= 1:
                        undo.removes_at_the_end(self._group_file(group).parent)
                registry.delete(port)
            for directory in (self.image_directory(port.name), self.kept_portfile(port).parent.parent):
                if directory.is_dir() and not any(directory.iterdir()):
                    directory.rmdir()
            return port

    def _choose(self, registry: Registry, name: str, specifier: str) -> Port:
        """The one installed port that is meant; ``specifier`` is a version or ``version_revision+variants``."""
        installed = registry.ports(name)
        meant = [port for port in installed if specifier in ("", port.version, port.specifier)]
        if len(meant) == 1:
            return meant[0]
        if not meant:
            at = f" @{specifier}" if specifier else ""
            raise ImageError(f"Registry error: {name}{at} is not installed.")
        self._say("msg", f"--->  The following versions of {meant[0].name} are currently installed:")
        for port in meant:
            self._say("msg", f"--->      {port}{' (active)' if port.active else ''}")
        raise ImageError("Registry error: Please specify the full version as recorded in the port registry.")


def _is_final(registry: Registry, expect: dict[str, object]) -> bool:
    described = expect.get("port")
    if not isinstance(described, list) or len(described) != 4:
        return False
    name, version, revision, variants = described
    port = registry.find(str(name), str(version), int(revision), str(variants))
    return (port.state if port else None) == expect.get("state")


def _conflict_text(port: Port, taken: dict[str, list[bytes]]) -> str:
    lines = [f"The following ports have active files that conflict with {port.name}'s:"]
    for other, paths in taken.items():
        lines.append(other)
        shown = paths if len(paths) <= _SHOWN_CONFLICTS + 1 else paths[:_SHOWN_CONFLICTS]
        lines += [f"  {os.fsdecode(path)}" for path in shown]
        if len(shown) < len(paths):
            lines.append(f"  (... {len(paths) - len(shown)} more not shown)")
    return "\n".join(lines)


def _copy_attributes(source: Path, target: Path) -> None:
    if source.is_dir():
        status = source.stat()
        if os.geteuid() == 0:
            os.chown(target, status.st_uid, status.st_gid)
        target.chmod(status.st_mode & 0o7777)


def _digest(file: Path) -> tuple[str, int]:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest(), file.stat().st_size
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise ImageError(f"{file} does not exist; it is needed to install the port") from error
        raise
