"""SDK redirection: an SDK, or any sysroot, stands in the place of ``/`` for what is built.

Everything that the base system shows is looked up in the SDK first, and taken from the system where the SDK lacks it
(a finding ``redirected-missing``). The toolchain's own directories are not redirected; they are listed in
``porttrace/data/toolchain-*.toml``. Rules for the workpath, the prefix and the like are untouched: the more specific
rule wins, as everywhere.
"""

from __future__ import annotations

import glob
import os
import sys
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from porttrace.errors import PorttraceError
from porttrace.filemap import Action, Rule
from porttrace.installed import installed

__all__ = ["find_sdk", "kept_places", "sdk_rules"]

_XCODE = "Contents/Developer"
_PLATFORM_SDKS = "Platforms/MacOSX.platform/Developer/SDKs"


def _platform() -> str:
    return "macos" if sys.platform == "darwin" else "linux"


def _sdk_directories(portdbpath: Path | None, platform: str) -> list[Path]:
    """Where SDKs are looked for by name, in this order."""
    places = [Path("/Developer/SDKs")]
    if platform == "macos":
        chosen = Path("/var/db/xcode_select_link")
        developer = [Path("/Applications/Xcode.app") / _XCODE]
        if chosen.is_symlink():
            developer.insert(0, Path(os.path.realpath(chosen)))
        places += [top / _PLATFORM_SDKS for top in developer]
        places += [top / "SDKs" for top in (*developer, Path("/Library/Developer/CommandLineTools"))]
    if portdbpath is not None:
        places.append(portdbpath / "sdks")
    return list(dict.fromkeys(places))


def find_sdk(name: str, portdbpath: Path | None = None, platform: str | None = None) -> Path:
    """The real directory of an SDK: an absolute path, or a name to be looked for.

    Names are looked for, with and without ``.sdk``, below ``/Developer/SDKs``, on macOS in the chosen Xcode and the
    Command Line Tools, and in ``${portdbpath}/sdks``. Raises PorttraceError where there is none.
    """
    if not name or "\0" in name:
        raise PorttraceError("the name of an SDK is empty" if not name else "the name of an SDK holds a NUL byte")
    if name.startswith("/"):
        path = Path(os.path.realpath(name))
        if not path.is_dir():
            raise PorttraceError(f"the SDK {name}: there is no such directory")
        if path == Path("/"):
            raise PorttraceError(f"the SDK {name} is the root directory itself: there would be nothing to redirect")
        return path
    places = _sdk_directories(portdbpath, platform or _platform())
    if "/" not in name and name not in (".", ".."):
        for place in places:
            for candidate in (place / name, place / f"{name}.sdk"):
                if candidate.is_dir():
                    return Path(os.path.realpath(candidate))
    tried = ", ".join(map(str, places))
    raise PorttraceError(f"there is no SDK {name} (looked in {tried}); give its name there or an absolute path")


@cache
def _keep(platform: str) -> tuple[str, ...]:
    text = installed(f"data/toolchain-{platform}.toml").read_text(encoding="utf-8")
    return tuple(path for group in tomllib.loads(text)["keep"] for path in group["paths"])


def kept_places(platform: str | None = None) -> list[bytes]:
    """The toolchain's own places on this machine: the globs of the data, filled in; with their real names."""
    found: dict[bytes, None] = {}
    for pattern in _keep(platform or _platform()):
        # A name without wildcards stands for itself: it may come to exist while a build runs.
        names = glob.glob(pattern) if glob.has_magic(pattern) else [pattern]  # noqa: PTH207 - absolute patterns
        for name in sorted(names):
            found[os.fsencode(name)] = None
            found[os.fsencode(os.path.realpath(name))] = None
    return list(found)


def _within(path: bytes, top: bytes) -> bool:
    return path == top or path.startswith(top if top == b"/" else top + b"/")


def _first_of(path: bytes, rules: Iterable[Rule]) -> Rule | None:
    """The most specific of the base system's rules that speak of `path`."""
    matching = [rule for rule in rules if _within(path, rule.path)]
    return max(matching, key=lambda rule: len(rule.path)) if matching else None


def _lies_elsewhere(path: bytes, sdk: bytes) -> bool:
    """Is `path` a link here (``/lib`` to ``/usr/lib``), but a directory of its own in the SDK?

    Then its files are to be found by their one real name: falling back to this machine's would find, under the link's
    name, files that the SDK does have under the other.
    """
    inside = sdk + path
    return os.path.islink(path) and os.path.isdir(inside) and not os.path.islink(inside)  # noqa: PTH112, PTH114


def sdk_rules(base: Iterable[Rule], sdk: Path, platform: str | None = None) -> list[Rule]:
    """The base system's read rules with `sdk` in the place of ``/``; in no order: the more specific one is to win."""
    base = list(base)
    target = os.fsencode(sdk)
    origin = f"SDK {sdk}"
    kept = kept_places(platform)
    return [Rule(target, Action.ALLOW, origin=origin), *_rules(base, target, kept, origin)]


def _rules(base: list[Rule], sdk: bytes, kept: list[bytes], origin: str) -> Iterator[Rule]:
    named = {rule.path for rule in base}
    for rule in base:
        own = any(_within(rule.path, place) for place in kept)
        if rule.action is Action.ALLOW and not own:
            fallback = not _lies_elsewhere(rule.path, sdk)
            yield Rule(rule.path, Action.REDIRECT, sdk + rule.path, origin, fallback=fallback)
        elif rule.action is Action.DENY and not own and os.path.isdir(sdk + rule.path):  # noqa: PTH112 - bytes
            # Hidden on this machine; what the SDK has under that name is part of it.
            yield Rule(rule.path, Action.REDIRECT, sdk + rule.path, origin)
        else:
            yield rule
    for place in kept:
        rule_above = _first_of(place, base)
        if place not in named and rule_above is not None and rule_above.action is Action.ALLOW:
            named.add(place)
            yield Rule(place, Action.ALLOW, origin=f"toolchain ({origin})")
    with os.scandir(sdk) as entries:
        for name in sorted(entry.name for entry in entries):
            top = b"/" + name
            if top not in named and not any(_within(top, place) or _within(place, top) for place in kept):
                yield Rule(top, Action.REDIRECT, sdk + top, origin)
