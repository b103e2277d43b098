"""Records for the modules that the core of a running port loads: what they use of ``dataclasses``, without its start.

``dataclasses`` loads half of Python's compiler and compiles several functions for each class, which together were a
quarter of the time until a core is ready. These records share theirs. For a type checker they are data classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["field", "record", "replace"]

if TYPE_CHECKING:
    from dataclasses import dataclass as record
    from dataclasses import field, replace  # noqa: TID251
else:
    _set = object.__setattr__

    class field:
        """A default that is made anew for each record."""

        __slots__ = ("make",)

        def __init__(self, *, default_factory):
            self.make = default_factory

    def record(cls=None, /, *, frozen=False, slots=False):
        """Make a class one of records: its annotated attributes are the fields, their values the defaults.

        As ``dataclasses.dataclass`` with the same words; there is no inheritance of fields.
        """
        if cls is None:
            return lambda cls: record(cls, frozen=frozen, slots=slots)
        names = tuple(cls.__annotations__)  # its own only
        given = {name: cls.__dict__[name] for name in names if name in cls.__dict__}
        methods = {"__init__": _init, "__repr__": _repr, "__eq__": _eq, "__hash__": _hash if frozen else None}
        if frozen:
            methods |= {"__setattr__": _refuse, "__delattr__": _refuse}
        if slots:
            kept = {key: value for key, value in cls.__dict__.items() if key not in (*names, "__dict__", "__weakref__")}
            cls = type(cls)(cls.__name__, cls.__bases__, {**kept, "__slots__": names, "__qualname__": cls.__qualname__})
        else:
            for name, default in given.items():
                if isinstance(default, field):
                    delattr(cls, name)
        cls.__match_args__, cls._defaults, cls._complete = names, given, hasattr(cls, "__post_init__")
        cls._slotted = slots
        for name, method in methods.items():
            if name not in cls.__dict__ or cls.__dict__[name] is None:
                setattr(cls, name, method)
        return cls

    def replace(old, /, **changes):
        """The record, or data class, with other values for some fields; the one of ``dataclasses`` takes no records."""
        cls = type(old)
        return cls(**{name: getattr(old, name) for name in cls.__match_args__} | changes)

    def _init(self, *values, **named):
        cls = type(self)
        names = cls.__match_args__
        if cls._slotted:
            for name, value in zip(names, values):  # noqa: B905 - the rest follows
                _set(self, name, value)
        else:
            self.__dict__.update(zip(names, values))  # noqa: B905 - likewise
        if named or len(values) != len(names):
            if len(values) > len(names):
                raise TypeError(f"{cls.__name__} takes {len(names)} values, and was given {len(values)}")
            for name in names[len(values) :]:
                if name in named:
                    value = named.pop(name)
                elif name in cls._defaults:
                    value = cls._defaults[name]
                    if type(value) is field:
                        value = value.make()
                else:
                    raise TypeError(f"{cls.__name__} needs a value for {name}")
                _set(self, name, value)
            if named:
                raise TypeError(f"{cls.__name__} has no place for {', '.join(named)}")
        if cls._complete:
            self.__post_init__()

    def _values(self):
        return tuple([getattr(self, name) for name in self.__match_args__])

    def _repr(self):
        parts = (f"{name}={value!r}" for name, value in zip(self.__match_args__, _values(self), strict=True))
        return f"{type(self).__qualname__}({', '.join(parts)})"

    def _eq(self, other):
        return _values(self) == _values(other) if type(other) is type(self) else NotImplemented

    def _hash(self):
        return hash(_values(self))

    def _refuse(self, name, *value):
        raise AttributeError(f"{type(self).__name__} cannot be changed: {name}")
