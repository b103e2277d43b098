"""Archives of what a port installs: the same destroot gives the same bytes, whenever and by whomever it is packed.

The layout is MacPorts': a compressed tar whose first members are ``+COMMENT``, ``+CONTENTS``, ``+DESC``, ``+PORTFILE``
and ``+STATE``, then the files of the destroot. Entries are sorted; times are clamped; the build user's files become
root's.
"""

from porttrace.archive.model import TYPES, ArchiveError, Contents, Metadata, archive_type
from porttrace.archive.pack import create, is_binary, outside_prefix, scan
from porttrace.archive.unpack import extract, read_contents, read_control

__all__ = [
    "TYPES",
    "ArchiveError",
    "Contents",
    "Metadata",
    "archive_type",
    "create",
    "extract",
    "is_binary",
    "outside_prefix",
    "read_contents",
    "read_control",
    "scan",
]
