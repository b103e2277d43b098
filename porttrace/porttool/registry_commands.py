"""The registry and the images as Tcl commands of the port tool.

:meth:`RegistryCommands.table` gives name and function of each; words come in as Tcl's text, values go out as what
``tclbridge.tcllist`` can write. Errors are :class:`PorttraceError`, one line, which the host makes a Tcl error.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from porttrace import archive, closure
from porttrace.errors import PorttraceError
from porttrace.identity import Identity
from porttrace.images import Group, Images, Say, image_name
from porttrace.records import replace
from porttrace.registry import NewPort, Port, Registry
from porttrace.tclbridge import tcllist
from porttrace.tclbridge.tcllist import TclValue

__all__ = ["RegistryCommands"]

# ${prefix}/X that ports may have, as MacPorts' prefix.mtree lays it out.
_PREFIX_DIRECTORIES = frozenset(
    {"bin", "etc", "include", "lib", "libexec", "sbin", "share", "src", "var", "www"}
    | {"Applications", "Developer", "Library"}
)


class RegistryCommands:
    """Commands over one prefix.

    ``say`` gets port's messages; ``build_user`` is who runs the phases (None: ourselves).
    """

    def __init__(self, portdbpath: Path, prefix: Path, say: Say, build_user: Identity | None = None) -> None:
        self.prefix = prefix
        self.images = Images(portdbpath, prefix, say)
        self.build_user = build_user

    def table(self) -> dict[str, Callable[..., TclValue]]:
        """Tcl name -> function of the command's words."""
        return {
            "registry_installed": self.installed,
            "registry_is_installed": self.is_installed,
            "registry_is_active": self.is_active,
            "registry_active": self.active,
            "registry_files": self.files,
            "registry_owner": self.owner,
            "registry_provider": self.provider,
            "registry_closure": self.closure,
            "registry_explain": self.explain,
            "registry_dependents": self.dependents,
            "image_name": self.image_name,
            "image_install": self.install,
            "image_archive": self.archive,
            "image_install_archive": self.install_archive,
            "image_portfile": self.portfile,
            "archive_made_from": self.made_from,
            "image_activate": self.activate,
            "image_deactivate": self.deactivate,
            "image_uninstall": self.uninstall,
            "image_violations": self.violations,
        }

    @contextmanager
    def _read(self) -> Iterator[Registry | None]:
        """None where nothing was ever installed: that is no error for a question."""
        if not self.images.registry_file.exists():
            yield None
            return
        with Registry.open(self.images.registry_file) as registry:
            yield registry

    # -- questions ------------------------------------------------------------------------------------------------

    def installed(self, name: str = "", specifier: str = "") -> TclValue:
        """A list of dicts, one for each installed version (of one port), sorted by name and version."""
        with self._read() as registry:
            ports = registry.ports(name or None) if registry else []
        return [_entry(port) for port in ports if specifier in ("", port.version, port.specifier)]

    def is_installed(self, name: str, version: str, revision: str, variants: str) -> TclValue:
        return self._find(name, version, revision, variants) is not None

    def is_active(self, name: str, version: str, revision: str, variants: str) -> TclValue:
        port = self._find(name, version, revision, variants)
        return port is not None and port.active

    def _find(self, name: str, version: str, revision: str, variants: str) -> Port | None:
        number = _integer("revision", revision)
        with self._read() as registry:
            return registry.find(name, version, number, variants) if registry else None

    def active(self, name: str) -> TclValue:
        """The dict of the active version of a port, or the empty string."""
        with self._read() as registry:
            port = registry.active(name) if registry else None
        return _entry(port) if port else ""

    def files(self, name: str, specifier: str = "") -> TclValue:
        """The files of a port (of its active version where none is named)."""
        with self._read() as registry:
            ports = registry.ports(name) if registry else []
            meant = [port for port in ports if specifier in ("", port.version, port.specifier)]
            chosen = next((port for port in meant if port.active), meant[-1] if meant else None)
            if registry is None or chosen is None:
                at = f" @{specifier}" if specifier else ""
                raise PorttraceError(f"{name}{at} is not installed")
            return [os.fsdecode(path).encode("utf-8", "replace").decode() for path in registry.files(chosen)]

    def owner(self, path: str) -> TclValue:
        """Name of the active port to which a file belongs, or the empty string."""
        with self._read() as registry:
            port = registry.owner(os.fsencode(path)) if registry else None
        return port.name if port else ""

    def provider(self, depspec: str, path: str = "") -> TclValue:
        """The port that a dependency means now; the empty string where a file that is no port's does it.

        ``path`` is a Tcl list of the directories where programs are searched.
        """
        directories = _words("search path", path) or None
        with self._read() as registry:
            try:
                if registry is not None:
                    return closure.provider(registry, depspec, self.prefix, directories) or ""
                spec = closure.Depspec.parse(depspec)
            except ValueError as error:
                raise PorttraceError(str(error)) from None
            return "" if closure.satisfying_file(spec, self.prefix, directories) else spec.port

    def closure(self, names: str) -> TclValue:
        """Lower-cased names of ports (a Tcl list) with all that they need at run time."""
        wanted = _words("list of ports", names)
        with self._read() as registry:
            return sorted(closure.closure(registry, wanted) if registry else {name.lower() for name in wanted})

    def explain(self, names: str, port: str) -> TclValue:
        """The chain of ports that brings ``port`` into the closure of ``names``; empty where it is not in it."""
        with self._read() as registry:
            if registry is None:
                return []
            return list(closure.closure_chains(registry, _words("list of ports", names)).get(port.lower(), ()))

    def dependents(self, name: str) -> TclValue:
        """Dicts of the installed ports that need this one."""
        with self._read() as registry:
            port = next(iter(registry.ports(name)), None) if registry else None
            return [_entry(other) for other in registry.dependents(port)] if registry and port else []

    # -- changes --------------------------------------------------------------------------------------------------

    def image_name(self, name: str, specifier: str, platform: str, archs: str, kind: str) -> TclValue:
        if kind not in archive.TYPES:
            raise PorttraceError(f"portarchivetype {kind} is not supported; it is one of {', '.join(archive.TYPES)}")
        return image_name(name, specifier, platform, _words("archs", archs), kind)

    def install(self, description: str) -> TclValue:
        """Pack and record a port from a dict with the keys that :func:`_described` reads; returns its image's path."""
        values = _dict("description of a port", description)
        new, described = _described(values)
        # An image has the same bytes whether its build was traced or not: only an archive says what was read.
        metadata = replace(described, trace=b"")
        destroot = self._checked_destroot(values)
        groups = _words("portgroups", values.get("portgroups", ""))
        port = self.images.install(
            new,
            metadata,
            destroot,
            _needed(values, "image"),
            epoch=_integer("source_date_epoch", _needed(values, "source_date_epoch")),
            portfile=Path(_needed(values, "portfile")),
            groups=[Group(n, v, Path(f)) for n, v, f in zip(groups[::3], groups[1::3], groups[2::3], strict=True)],
            build_user=self.build_user,
        )
        return port.location

    def archive(self, description: str, directory: str) -> TclValue:
        """Pack a port like :meth:`install`, into ``directory``, without recording it; returns the archive's path."""
        values = _dict("description of a port", description)
        _, metadata = _described(values)
        target = Path(directory) / _needed(values, "image")
        archive.create(
            self._checked_destroot(values),
            target,
            metadata,
            epoch=_integer("source_date_epoch", _needed(values, "source_date_epoch")),
            build_user=self.build_user,
        )
        return str(target)

    def install_archive(self, description: str, file: str) -> TclValue:
        """Record a port from an archive of it; returns its image's path. ``description`` as for :meth:`install`."""
        values = _dict("description of a port", description)
        new, _ = _described(values)
        contents = archive.read_contents(Path(file))
        said = {key: contents.keys.get(key, "") for key in ("portname", "portversion", "portrevision", "archs")}
        wanted = {
            "portname": new.name,
            "portversion": new.version,
            "portrevision": str(new.revision),
            "archs": new.archs,
        }
        said["variants"] = "".join(contents.keys.get("portvariant", "").split("\n"))
        wanted["variants"] = new.variants
        for key, value in wanted.items():
            if said[key] != value:
                raise PorttraceError(f"the archive {file} says {key} {said[key] or 'nothing'}, not {value}; remove it")
        for path in contents.files:
            if {b"", b".", b".."} & set(path[1:].split(b"/")):
                raise PorttraceError(
                    f"the archive {file} lists {os.fsdecode(path)!r}, which is no clean path; remove it"
                )
        if values.get("violate_mtree", "no") not in ("yes", "1", "true", "on"):
            also = tuple(Path(directory) for directory in _words("also", values.get("also", "")))
            outside = archive.outside_prefix(contents, self.prefix, also)
            if outside:
                raise PorttraceError(
                    f"the archive {file} holds {os.fsdecode(outside[0])}, outside the prefix {self.prefix}; it was made"
                    " for another one"
                )
        groups = _words("portgroups", values.get("portgroups", ""))
        port = self.images.install_archive(
            new,
            Path(file),
            contents,
            _needed(values, "image"),
            groups=[Group(n, v, Path(f)) for n, v, f in zip(groups[::3], groups[1::3], groups[2::3], strict=True)],
        )
        return port.location

    def made_from(self, file: str) -> TclValue:
        """SHA-256 of the Portfile that an archive was made from, and whether that build was traced."""
        control = archive.read_control(Path(file))
        return [hashlib.sha256(control.get("+PORTFILE", b"")).hexdigest(), "+TRACE" in control]

    def portfile(self, action: str, name: str, specifier: str = "") -> TclValue:
        """Directory of the Portfile that was kept of an installed port, its version, variants and whether it is active.

        Of the active one for ``deactivate``. Empty where not just one version is meant, or no Portfile was kept.
        """
        with self._read() as registry:
            ports = registry.ports(name) if registry else []
        meant = [port for port in ports if specifier in ("", port.version, port.specifier)]
        chosen = [port for port in meant if port.active] if action == "deactivate" else meant
        if len(chosen) != 1 or not chosen[0].portfile or not self.images.kept_portfile(chosen[0]).is_file():
            return []
        port = chosen[0]
        return [str(self.images.kept_portfile(port).parent), port.name, port.specifier, port.variants, port.active]

    def _checked_destroot(self, values: dict[str, str]) -> Path:
        destroot = Path(_needed(values, "destroot"))
        if not destroot.is_dir():
            raise PorttraceError(f"no destroot found at: {destroot}")
        if values.get("violate_mtree", "no") not in ("yes", "1", "true", "on"):
            also = tuple(Path(directory) for directory in _words("also", values.get("also", "")))
            outside = archive.outside_prefix(archive.scan(destroot), self.prefix, also)
            if outside:
                more = f" and {len(outside) - 1} more" if len(outside) > 1 else ""
                raise PorttraceError(
                    f"{values.get('name')} would install outside the prefix {self.prefix}:"
                    f" {os.fsdecode(outside[0])}{more}; correct the port, or set destroot.violate_mtree yes"
                )
        return destroot

    def violations(self, destroot: str) -> TclValue:
        """What in a destroot is not where files of a prefix go: outside the prefix, or an unusual directory in it."""
        found = []
        within = str(self.prefix).rstrip("/") + "/"
        for path in (os.fsdecode(path) for path in archive.scan(Path(destroot)).files):
            if not path.startswith(within):
                found.append(path)
                continue
            first = path[len(within) :].split("/")[0]
            if first not in _PREFIX_DIRECTORIES and within + first not in found:
                found.append(within + first)
        return found

    def activate(self, name: str, specifier: str = "", force: str = "0") -> TclValue:
        return self.images.activate(name, specifier, _boolean(force))

    def deactivate(self, name: str, specifier: str = "", force: str = "0") -> TclValue:
        return self.images.deactivate(name, specifier, _boolean(force))

    def uninstall(self, name: str, specifier: str = "", force: str = "0") -> TclValue:
        return str(self.images.uninstall(name, specifier, _boolean(force)))


def _entry(port: Port) -> dict[str, TclValue]:
    return {
        "name": port.name,
        "version": port.version,
        "revision": port.revision,
        "variants": port.variants,
        "requested_variants": port.requested_variants,
        "epoch": port.epoch,
        "active": port.active,
        "requested": port.requested,
        "location": port.location,
        "archs": port.archs,
        "os_platform": port.os_platform,
        "os_major": port.os_major,
        "date": port.date,
    }


def _described(values: dict[str, str]) -> tuple[NewPort, archive.Metadata]:
    name, version = _needed(values, "name"), _needed(values, "version")
    revision = _integer("revision", values.get("revision", "0"))
    variants, epoch = values.get("variants", ""), _integer("epoch", values.get("epoch", "0"))
    archs = _words("archs", values.get("archs", "noarch"))
    new = NewPort(
        name,
        version,
        revision,
        variants,
        epoch,
        requested_variants=values.get("requested_variants", ""),
        archs=" ".join(archs),
        requested=_boolean(values.get("requested", "0")),
        os_platform=values.get("os_platform", "any"),
        os_major=values.get("os_major", "any"),
        depends=tuple(_words("depends", values.get("depends", ""))),
    )
    portfile = Path(_needed(values, "portfile"))
    try:
        text = portfile.read_bytes()
    except OSError as error:
        raise PorttraceError(f"{portfile} cannot be read: {error.strerror}") from error
    metadata = archive.Metadata(
        name,
        version,
        revision,
        variants,
        epoch,
        archs=tuple(archs),
        depends=tuple(_words("pkgdeps", values.get("pkgdeps", ""))),
        description=values.get("description", ""),
        long_description=values.get("long_description", ""),
        homepage=values.get("homepage", ""),
        portfile=text,
        state=values.get("state", "").encode(),
        trace=values.get("trace", "").encode(),
        extra={"source_date_epoch": values.get("source_date_epoch", "")},
    )
    return new, metadata


def _needed(values: dict[str, str], key: str) -> str:
    if not values.get(key):
        raise PorttraceError(f"the description of the port has no {key}")
    return values[key]


def _words(what: str, text: str) -> list[str]:
    try:
        return tcllist.split(text)
    except ValueError as error:
        raise PorttraceError(f"{what}: {error}") from None


def _dict(what: str, text: str) -> dict[str, str]:
    words = _words(what, text)
    if len(words) % 2:
        raise PorttraceError(f"{what}: missing value to go with key")
    return dict(zip(words[::2], words[1::2], strict=True))


def _integer(what: str, text: str) -> int:
    if not re.fullmatch(r"-?\d+", text):
        raise PorttraceError(f"{what} is {text!r}; it must be a whole number")
    return int(text)


def _boolean(text: str) -> bool:
    return text.lower() in ("1", "yes", "true", "on")
