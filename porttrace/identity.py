"""Who a build runs as.

port is root and its phases run as an unprivileged user; an ordinary user's port runs everything as itself.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from porttrace.errors import PorttraceError
from porttrace.records import record

__all__ = ["Identity", "privileged"]


@record(frozen=True)
class Identity:
    """User id, primary group id, supplementary group ids and name of the user that runs a build."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    name: str

    @classmethod
    def named(cls, name: str) -> Identity:
        """The user `name` of the system's user database.

        Raises PorttraceError where it does not exist.
        """
        return _named(name)

    @classmethod
    def current(cls) -> Identity:
        """The effective user of this process, which is what its children work as."""
        uid = os.geteuid()
        try:
            name = pwd.getpwuid(uid).pw_name
        except KeyError:
            name = str(uid)
        return cls(uid, os.getegid(), tuple(sorted(os.getgroups())), name)

    @property
    def is_current(self) -> bool:
        """True where real and effective user of this process are this one already."""
        return os.getuid() == os.geteuid() == self.uid and os.getgid() == os.getegid() == self.gid


@cache
def _named(name: str) -> Identity:
    """Asked once: each phase wants to know it, and the system's database may be behind a service."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise PorttraceError(
            f"user {name!r} does not exist: create it "
            f"(useradd --system --home-dir /var/empty --shell /usr/sbin/nologin {name}) or name another one"
        ) from None
    groups = tuple(sorted(set(os.getgrouplist(entry.pw_name, entry.pw_gid))))
    return Identity(entry.pw_uid, entry.pw_gid, groups, entry.pw_name)


@contextmanager
def privileged() -> Iterator[None]:
    """Work as the real user where the effective one is another (port lowers only its effective ids), else as is."""
    uid, gid = os.geteuid(), os.getegid()
    if uid == os.getuid():
        yield
        return
    os.seteuid(os.getuid())
    os.setegid(os.getgid())
    try:
        yield
    finally:
        os.setegid(gid)
        os.seteuid(uid)
