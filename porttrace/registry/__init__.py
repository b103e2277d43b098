"""The registry of installed ports: SQLite, in MacPorts' schema."""

from porttrace.registry.database import Registry
from porttrace.registry.errors import RegistryError
from porttrace.registry.models import ACTIVE, INACTIVE, NewPort, Port, PortGroup
from porttrace.registry.versions import vercmp

__all__ = ["ACTIVE", "INACTIVE", "NewPort", "Port", "PortGroup", "Registry", "RegistryError", "vercmp"]
