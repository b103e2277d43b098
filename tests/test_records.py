"""Records behave as the data classes that a type checker takes them for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from porttrace import records


def make(module: Any, decorator: str) -> tuple[type, type, type]:
    decorate, field = getattr(module, decorator), module.field

    @decorate
    class Plain:
        """Its text."""

        first: int
        second: str = "two"
        third: list[int] = field(default_factory=list)

        def double(self) -> int:
            return self.first * 2

    @decorate(frozen=True)
    class Frozen:
        path: bytes
        number: int = 0

        def __post_init__(self) -> None:
            object.__setattr__(self, "path", self.path.strip())

        def __str__(self) -> str:
            return f"<{self.number}>"

    @decorate(frozen=True, slots=True)
    class Slotted:
        kind: int
        path: bytes = b"/"

    return Plain, Frozen, Slotted


OURS = make(records, "record")
THEIRS = make(dataclasses, "dataclass")


CALLS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((1,), {}), ((1, "x"), {}), ((), {}), ((1, "x", [2], 4), {}), ((1,), {"first": 1}),
    ((), {"first": 3, "second": "y"}),
    ((b" a ", 2), {}), ((b"a",), {}), ((), {"path": b" p ", "number": 7}), ((5, b"/x"), {}), ((5,), {"path": b"/y"}),
    ((5,), {"strange": 1}),
]  # fmt: skip


def outcome(action: Callable[[], object]) -> object:
    """What it comes to: a value, or the kind of the error."""
    try:
        return action()
    except (TypeError, AttributeError) as error:
        return AttributeError if isinstance(error, AttributeError) else TypeError


def behaviour(cls: Any, replace: Callable[..., Any]) -> list[object]:
    made = [outcome(lambda a=args, n=named: cls(*a, **n)) for args, named in CALLS]  # type: ignore[misc]
    told: list[object] = []
    for one in made:
        told.append(one if isinstance(one, type) else (repr(one), str(one), [one == other for other in made]))
        if isinstance(one, type):
            continue
        hashed = outcome(lambda one=one: hash(one))  # type: ignore[misc]
        other = replace(one, **{cls.__match_args__[0]: b" new "})
        changes = [
            outcome(lambda other=other, name=name: setattr(other, name, b"changed"))  # type: ignore[misc]
            for name in cls.__match_args__
        ]
        removal = outcome(lambda other=other: delattr(other, cls.__match_args__[0]))  # type: ignore[misc]
        told.append((hashed == hash(one) if hashed is not TypeError else hashed, repr(one), changes, removal))
        told.append(outcome(lambda other=other: repr(other)))  # type: ignore[misc]
    return told


@pytest.mark.parametrize("number", range(3))
def test_records_are_made_compared_shown_and_changed_as_data_classes(number: int) -> None:
    assert behaviour(OURS[number], records.replace) == behaviour(THEIRS[number], dataclasses.replace)
    assert behaviour(THEIRS[number], records.replace) == behaviour(THEIRS[number], dataclasses.replace)
    assert OURS[number].__match_args__ == THEIRS[number].__match_args__  # type: ignore[attr-defined]


def test_a_default_that_is_made_is_made_for_each() -> None:
    plain: Any = OURS[0]
    one, other = plain(1), plain(2)
    one.third.append(5)
    assert (other.third, other.second, other.double()) == ([], "two", 4)
    assert not hasattr(plain, "third") and plain.second == "two"
    assert not hasattr(OURS[2](1), "__dict__")
