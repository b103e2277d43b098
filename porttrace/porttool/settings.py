"""macports.conf and sources.conf."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from porttrace.errors import PorttraceError

__all__ = ["KNOWN", "Settings", "Tree", "default_prefix"]

#: Keys of macports.conf that have an effect here, with their defaults; ``@prefix@`` stands for the prefix.
_EFFECTIVE: Mapping[str, str] = {
    "prefix": "",
    "portdbpath": "@prefix@/var/macports",
    "macportsuser": "macports",
    "porttrace": "no",
    "trace_sdk": "",
    "build_arch": "",
    "binpath": "@prefix@/bin:@prefix@/sbin:/usr/bin:/bin:/usr/sbin:/sbin",
    "buildmakejobs": "0",
    "buildnicevalue": "",
    "buildfromsource": "ifneeded",
    "portautoclean": "yes",
    "keeplogs": "no",
    "portarchivetype": "tbz2",
    "portverbose": "no",
    "configureccache": "no",
    "configurepipe": "no",
    "ccache_dir": "@prefix@/var/macports/build/.ccache",
    "sources_conf": "@prefix@/etc/macports/sources.conf",
    "variants_conf": "@prefix@/etc/macports/variants.conf",
    "extra_env": "",
    "sandbox_enable": "yes",
}

#: Keys that MacPorts knows and that mean nothing here: read without a word.
_HARMLESS = frozenset(
    (
        "applications_dir",
        "frameworks_dir",
        "cxx_stdlib",
        "delete_la_files",
        "developer_dir",
        "destroot_umask",
        "host_blacklist",
        "preferred_hosts",
        "macosx_deployment_target",
        "macosx_sdk_version",
        "mpkg_type",
        "packagemaker_path",
        "place_worksymlink",
        "porthotkeysmode",
        "portimagefilepath",
        "portinstalltype",
        "portstartupitem_install",
        "revupgrade_autorun",
        "revupgrade_check_id_loads",
        "revupgrade_mode",
        "rsync_dir",
        "rsync_options",
        "rsync_server",
        "startupitem_autostart",
        "startupitem_install",
        "startupitem_type",
        "ui_interactive",
        "umaskoverride",
        "universal_archs",
        "universal_sysroot",
        "xcodeversion",
        "xcodebuildcmd",
        "proxy_override_env",
        "proxy_http",
        "proxy_https",
        "proxy_ftp",
        "proxy_rsync",
        "proxy_skip",
        "release_urls",
        "release_version_urls",
        "archive_sites_conf",
        "configuredistcc",
        "installtype",
        "pubkeys_conf",
        "clonebin_path",
        "sandbox_network",
        "cachedb_path",
        "portpath",
        "libpath",
        "default_compilers",
        "auto_path",
        "signature_public_key",
        "signature_private_key",
        "package_destroot_retry",
        "selfupdate_first",
    )
)
KNOWN = frozenset(_EFFECTIVE) | _HARMLESS
_LINE = re.compile(r"^\s*([\w.]+)(?:[ \t]+(.*?))?\s*$")


@dataclass(frozen=True)
class Tree:
    """A ports tree: its directory, and whether it is the one that PortGroups are taken from by default."""

    path: Path
    default: bool


def default_prefix() -> Path:
    """``$PORTPREFIX`` is not read: a build must not depend on it. MacPorts' own default."""
    return Path("/opt/local")


class Settings:
    """The configuration of one prefix.

    ``warn`` is called with a line for each thing that is odd but harmless. Raises PorttraceError, one line, where a
    file cannot be read or a value makes no sense.
    """

    def __init__(self, prefix: Path | None, warn: Callable[[str], None]) -> None:
        self._warn = warn
        given = prefix
        self.prefix = Path(os.path.abspath(given)) if given else default_prefix()  # noqa: PTH100 - links stay
        self.file = self.prefix / "etc" / "macports" / "macports.conf"
        if not self.prefix.is_dir():
            raise PorttraceError(
                f"the prefix {self.prefix} does not exist: make it, with etc/macports/sources.conf, or name "
                "another one with --prefix DIR"
            )
        self._values = self._read(self.file)
        if given is None and self._values.get("prefix"):
            self.prefix = Path(self._values["prefix"])
        self.trees = self._sources(Path(self["sources_conf"]))

    def __getitem__(self, key: str) -> str:
        """A value as text, its default where the file says nothing."""
        if key == "prefix":
            return str(self.prefix)
        value = self._values.get(key)
        if value is None:
            value = _EFFECTIVE[key].replace("@prefix@", str(self.prefix))
        return value

    def flag(self, key: str) -> bool:
        """A ``yes`` or ``no``."""
        value = self[key].lower()
        if value in ("yes", "true", "on", "1"):
            return True
        if value in ("no", "false", "off", "0", ""):
            return False
        raise PorttraceError(f"{self.file}: {key} is {value!r}; it must be yes or no")

    @property
    def portdbpath(self) -> Path:
        """Where registry, images, builds and distfiles lie."""
        return Path(self["portdbpath"])

    def _lines(self, path: Path) -> list[tuple[int, str]]:
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise PorttraceError(f"{path} cannot be read: {reason}") from error
        lines = enumerate(text.splitlines(), 1)
        return [(number, line) for number, line in lines if line.strip() and not line.lstrip().startswith("#")]

    def _read(self, path: Path) -> dict[str, str]:
        values: dict[str, str] = {}
        for number, line in self._lines(path):
            match = _LINE.match(line)
            if match is None:
                raise PorttraceError(f"{path}:{number}: cannot read {line.strip()!r}: expected KEY VALUE")
            key, value = match[1], match[2] or ""
            if key not in KNOWN:
                self._warn(f"{path}:{number}: unknown key {key!r} is ignored")
            values[key] = value
        return values

    def _sources(self, path: Path) -> list[Tree]:
        trees = []
        for number, line in self._lines(path):
            url, *flags = line.split()
            words = ",".join(flags).strip("[]").split(",")
            if not url.startswith("file://"):
                self._warn(f"{path}:{number}: {url}: only file:// trees are read; this one is ignored")
                continue
            directory = Path(url.removeprefix("file://"))
            if not directory.is_dir():
                raise PorttraceError(f"{path}:{number}: the ports tree {directory} does not exist")
            trees.append(Tree(directory, "default" in words))
        return trees
