"""What the registry's rows are to Python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from porttrace.records import field, record

ACTIVE: Final = "installed"
INACTIVE: Final = "imaged"


@record(frozen=True)
class Port:
    """One installed version of a port.

    ``state`` is ``installed`` (active: its files are in the prefix) or ``imaged`` (only its image is kept).
    ``location`` is the image; ``portfile`` is ``sha256-size`` of the Portfile kept beside the registry;
    ``date`` is in seconds since 1970 UTC.
    """

    id: int
    name: str
    version: str
    revision: int
    variants: str
    state: str
    portfile: str = ""
    location: str = ""
    epoch: int = 0
    requested_variants: str = ""
    date: int = 0
    installtype: str = "image"
    archs: str = ""
    requested: bool = False
    os_platform: str = ""
    os_major: str = ""
    cxx_stdlib: str = ""
    cxx_stdlib_overridden: bool = False

    @property
    def active(self) -> bool:
        return self.state == ACTIVE

    @property
    def specifier(self) -> str:
        """``version_revision+variants``, as users write it after the ``@``."""
        return f"{self.version}_{self.revision}{self.variants}"

    def __str__(self) -> str:
        return f"{self.name} @{self.specifier}"


@record(frozen=True)
class PortGroup:
    """A PortGroup that an installed port's Portfile used; its text is kept under ``sha256-size``."""

    name: str
    version: str
    size: int
    sha256: str


@record(frozen=True)
class NewPort:
    """What :meth:`Registry.add` records. ``files`` are absolute paths; ``binary`` says which are executables or
    libraries (None where nobody looked); ``depends`` are the names of the ports that it needs to run."""

    name: str
    version: str
    revision: int = 0
    variants: str = ""
    epoch: int = 0
    requested_variants: str = ""
    location: str = ""
    portfile: str = ""
    archs: str = "noarch"
    requested: bool = False
    os_platform: str = "any"
    os_major: str = "any"
    cxx_stdlib: str = "none"
    cxx_stdlib_overridden: bool = False
    date: int = 0
    files: tuple[bytes, ...] = ()
    binary: Mapping[bytes, bool] = field(default_factory=dict)
    depends: tuple[str, ...] = ()
    portgroups: tuple[PortGroup, ...] = ()
