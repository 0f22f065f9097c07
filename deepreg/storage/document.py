"""Document: frozen values as plain JSON and named tensors, and back, by a list of the classes that may be made."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch
from torch import Tensor

from ..errors import FileError, NotAvailable

Plain = Any  # what json writes: null, true, 1, 1.5, "text", [...], {"...": ...}

SCALARS = (NoneType, bool, int, float, str)


@dataclass(frozen=True)
class Kind:
    """A class of another package, by the plain or registered value that it is written as."""

    name: str
    of: type
    write: Callable[[Any], object]
    read: Callable[[Any], object]


@dataclass(frozen=True)
class Schema:
    """What a document may hold: records, made of their checked fields; foreign kinds; stand-ins for protocols."""

    records: tuple[type, ...]
    kinds: tuple[Kind, ...]
    stand: Mapping[type, tuple[type, ...]] = field(default_factory=dict)  # the classes behind a protocol
    holes: tuple[type, ...] = ()  # records whose numbers need not be finite

    def named(self, name: object) -> type:
        """The record of that name; FileError where there is none."""
        found = [one for one in self.records if one.__name__ == name]
        if not found:
            raise FileError(f"it names {name!r}, which is nothing that a result is made of")
        return found[0]


@cache
def hints_of(record: type) -> dict[str, Any]:
    """The declared type of each field."""
    return get_type_hints(record)


@cache
def names_of(record: type) -> tuple[str, ...]:
    """The fields of a dataclass or a NamedTuple."""
    return tuple(one.name for one in fields(record)) if is_dataclass(record) else record._fields  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Writer:
    """Turns values into JSON; tensors go into `tensors`, and an object met again becomes a reference."""

    schema: Schema
    tensors: dict[str, Tensor] = field(default_factory=dict)
    met: dict[int, int] = field(default_factory=dict)  # id -> number
    alive: list[object] = field(default_factory=list)  # so that no id is used twice

    def write(self, value: object) -> Plain:
        """The JSON of a value; NotAvailable where it is of a kind that a document does not hold."""
        if isinstance(value, np.generic):
            return self.write(value.item())
        if isinstance(value, float) and not math.isfinite(value):
            return {"float": repr(value)}
        if type(value) in SCALARS:
            return value
        if type(value) is tuple:
            return [self.write(one) for one in value]
        if type(value) is list:
            return {"list": [self.write(one) for one in value]}
        if isinstance(value, Mapping):
            return {"dict": [[self.write(key), self.write(one)] for key, one in value.items()]}
        return self._object(value)

    def _object(self, value: object) -> Plain:
        if id(value) in self.met:
            return {"again": self.met[id(value)]}
        if isinstance(value, Tensor):
            plain: Plain = {"tensor": f"t{len(self.tensors)}"}
            self.tensors[plain["tensor"]] = value.detach().cpu().contiguous().clone()
        elif (record := type(value)) in self.schema.records and not self._coded(value):
            names: tuple[str, ...] = names_of(record)  # type: ignore[arg-type]  # a class can be hashed
            plain = {"record": record.__name__, "fields": {name: self.write(getattr(value, name)) for name in names}}
        else:
            kind = next((kind for kind in self.schema.kinds if isinstance(value, kind.of)), None)
            if kind is None:
                raise NotAvailable(f"A {type(value).__name__} ({value!r:.60}) cannot be saved.")
            plain = {"kind": kind.name, "value": self.write(kind.write(value))}
        self.met[id(value)] = len(self.met)
        self.alive.append(value)
        return plain

    def _coded(self, value: object) -> bool:
        """Whether a field of a record is a function, which only a kind can stand for."""
        parts = (getattr(value, name) for name in names_of(type(value)))  # type: ignore[arg-type]  # as in _object
        return any(callable(part) and type(part) not in self.schema.records for part in parts)


@dataclass(frozen=True)
class Reader:
    """Turns JSON back into values; FileError where it is not what a Writer writes, or a field is of another type."""

    schema: Schema
    tensors: Mapping[str, Tensor]
    made: list[object] = field(default_factory=list)

    def read(self, plain: Plain) -> Any:
        """The value of a JSON."""
        if type(plain) in SCALARS:
            return plain
        if isinstance(plain, list):
            return tuple(self.read(one) for one in plain)
        head = next(iter(plain), "")
        if len(plain) == 1 and head == "float" and plain[head] in ("nan", "inf", "-inf"):
            return float(plain[head])
        if len(plain) == 1 and head == "list" and isinstance(plain[head], list):
            return [self.read(one) for one in plain[head]]
        if len(plain) == 1 and head == "dict" and isinstance(plain[head], list):
            return {self.read(key): self.read(one) for key, one in plain[head]}
        if len(plain) == 1 and head == "again" and type(plain[head]) is int and 0 <= plain[head] < len(self.made):
            return self.made[plain[head]]
        made = self._object(head, plain)
        self.made.append(made)
        return made

    def _object(self, head: str, plain: dict[str, Plain]) -> object:
        if list(plain) == ["tensor"] and plain[head] in self.tensors:
            return self.tensors[plain[head]]
        if list(plain) == ["record", "fields"] and isinstance(plain["fields"], dict):
            return self._record(self.schema.named(plain["record"]), plain["fields"])
        if list(plain) == ["kind", "value"]:
            for kind in self.schema.kinds:
                if kind.name == plain["kind"]:
                    return kind.read(self.read(plain["value"]))
        raise FileError(f"it holds {str(plain)[:60]}, which is nothing that a result is made of")

    def _record(self, record: type, given: dict[str, Plain]) -> object:
        names, hints = names_of(record), hints_of(record)
        if tuple(given) != names:
            raise FileError(f"its {record.__name__} has the fields {', '.join(given)}, not {', '.join(names)}")
        values = {name: self.read(one) for name, one in given.items()}
        for name, value in values.items():
            if not self._fits(value, hints[name]):
                raise FileError(f"its {record.__name__}.{name} is a {type(value).__name__}, not a {hints[name]}")
            if record not in self.schema.holes and not all(map(_finite, _numbers(value))):
                raise FileError(f"its {record.__name__}.{name} is not finite")
        return record(**values)

    def _fits(self, value: object, hint: Any) -> bool:
        """Whether a value is of the type that a field is declared with."""
        origin, inside = get_origin(hint), get_args(hint)
        if hint is Any or hint is object:
            return True
        if origin in (Union, UnionType):
            return any(self._fits(value, one) for one in inside)
        if origin is tuple:
            if not isinstance(value, tuple):
                return False
            each = inside[:1] * len(value) if inside[1:] == (...,) else inside
            return len(each) == len(value) and all(map(self._fits, value, each))
        if origin is not None and issubclass(origin, Mapping):
            return isinstance(value, dict) and all(
                self._fits(key, inside[0]) and self._fits(one, inside[1]) for key, one in value.items()
            )
        if hint in self.schema.stand:
            return isinstance(value, self.schema.stand[hint])
        if hint in (int, float):
            return isinstance(value, (int, hint)) and not isinstance(value, bool)
        return isinstance(hint, type) and isinstance(value, hint)


def _numbers(value: object) -> Iterator[Tensor | float]:
    if isinstance(value, Tensor | float):
        yield value
    elif isinstance(value, np.ndarray) and value.dtype.kind == "f":
        yield torch.from_numpy(value)
    elif type(value) in (tuple, list):
        for one in value:  # type: ignore[attr-defined]
            yield from _numbers(one)
    elif isinstance(value, dict):
        for one in value.values():
            yield from _numbers(one)


def _finite(value: Tensor | float) -> bool:
    return bool(value.isfinite().all()) if isinstance(value, Tensor) else math.isfinite(value)
