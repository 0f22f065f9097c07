"""One file for a fitted model: safetensors with a JSON document in its header, checked by a digest, running nothing."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from ..errors import FileError, NotAvailable, OptionError
from ..families import Family
from ..files import replace_file, vacant
from ..targets import Target
from ..version import version
from .document import Plain, Reader, Writer
from .portable import Asked, F, Fit, portable, schema
from .shapes import check

FORMAT, VERSION = "deepreg result", 1
LONGEST = 16 * 2**20  # bytes of the header
PACKAGES = ("torch", "numpy", "pandas", "formulaic")


def save(
    result: Fit,
    path: str | os.PathLike[str],
    data: bool,
    overwrite: bool,
    targets: Asked | Iterable[Asked],
) -> None:
    """Write a result to one file; see `Results.save`."""
    place = vacant(path, overwrite)
    asked = (targets,) if isinstance(targets, str | Target | type) else tuple(targets)
    whole = portable(result, data, asked)
    writer = Writer(schema(type(result), None, {}))
    content: Plain = {
        "versions": {"deepreg": version(), **{name: metadata.version(name) for name in PACKAGES}},
        "formula": whole.design.formula,
        "family": whole.structure.family.name,
        "nobs": whole.design.n,
        "data": data,
        "result": writer.write(whole),
    }
    document = {"format": FORMAT, "version": VERSION, "sha256": _digest(content, writer.tensors), "content": content}
    text = json.dumps(document, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    if len(text) > LONGEST // 2:
        raise NotAvailable(
            f"The file would hold {len(text):,} characters beside its tensors, more than load() reads: there are "
            "categories or clusters with very many levels in text. Merge rare levels, or leave data=True out."
        )
    replace_file(place, save_tensors(writer.tensors, {"deepreg": text}))


def load(path: str | os.PathLike[str], whole: type[F], context: Mapping[str, object], family: Family | None) -> F:
    """Read a file of a result of class `whole`; see `deepreg.load`."""
    name = str(path)
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise FileError(f"{name!r} cannot be read: {error.strerror or error}.") from error
    document = _document(name, raw)
    try:
        tensors = {
            key: tensor.clone() for key, tensor in load_tensors(raw).items()
        }  # where arithmetic finds them aligned
        content = document["content"]
        sound = document["sha256"] == _digest(content, tensors)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, RecursionError) as error:
        raise _damaged(name, str(error)) from error
    if not sound:
        raise _damaged(name, "its digest is not that of its content")
    Wanted.of(content).check(name, context, family)
    try:
        read = Reader(schema(whole, family, context), tensors).read(content["result"])
        if not isinstance(read, whole):
            raise FileError(f"it holds a {type(read).__name__}")
        check(read)
    except FileError as error:
        raise _damaged(name, str(error)) from error
    except Exception as error:  # whatever a made-up file makes of the classes it names
        raise _damaged(name, f"{type(error).__name__}: {error}") from error
    return read


class Wanted(NamedTuple):
    """What a file leaves to the caller of load()."""

    functions: tuple[str, ...]
    family: str | None

    @classmethod
    def of(cls, content: Plain) -> "Wanted":
        """Looks through a document for what is named and not held."""
        functions: dict[str, None] = {}
        family, waiting = None, [content]
        while waiting:
            one = waiting.pop()
            inside = list(one.values()) if isinstance(one, dict) else one if isinstance(one, list) else []
            waiting.extend(inside)
            if isinstance(one, dict) and one.get("record") == "Borrowed" and isinstance(one.get("fields"), dict):
                functions[str(one["fields"].get("name"))] = None
            if isinstance(one, dict) and one.get("kind") == "family" and isinstance(one.get("value"), str):
                family = one["value"]
        return cls(tuple(sorted(functions)), family)

    def check(self, name: str, context: Mapping[str, object], family: Family | None) -> None:
        """Raise OptionError unless just that was given."""
        if set(context) != set(self.functions):
            shown = ", ".join(f"{one!r}: ..." for one in self.functions)
            given = ", ".join(map(repr, sorted(context))) or "none"
            raise OptionError(
                f"The formula in {name!r} borrowed {', '.join(map(repr, self.functions))} from where it was written, "
                f"and a file holds no functions; given are {given}. Type load(path, context={{{shown}}})."
                if self.functions
                else f"The formula in {name!r} borrowed no functions; leave context= out."
            )
        if (family is None) != (self.family is None) or (family is not None and type(family).__name__ != self.family):
            raise OptionError(
                f"{name!r} was fitted with a family of your own, {self.family}, and a file holds no code; given is "
                f"{family!r}. Type load(path, family={self.family}(...)) with the options it had."
                if self.family
                else f"{name!r} holds its family; leave family= out."
            )


def _document(name: str, raw: bytes) -> dict[str, Plain]:
    """The document in the header of a file; FileError where there is none, or it is of another format."""
    length = int.from_bytes(raw[:8], "little")
    if len(raw) < 8 or raw[8:9] != b"{":
        raise FileError(f"{name!r} is no result of deepreg. Files are made by Results.save().")
    if not 2 <= length <= min(LONGEST, len(raw) - 8):
        raise _damaged(name, f"its header would have {length:,} bytes")
    try:
        header = json.loads(raw[8 : 8 + length], parse_constant=_refuse)
        document = json.loads(header["__metadata__"]["deepreg"], parse_constant=_refuse)
        known = document["format"], document["version"], str(document["content"]["versions"]["deepreg"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(name, f"its header cannot be read ({type(error).__name__})") from error
    if known[0] != FORMAT or known[1] != VERSION:
        raise FileError(
            f"{name!r} is in format {known[1]!r:.20} of {known[0]!r:.40}, written by deepreg {known[2]:.20}; this is "
            f"deepreg {version()}, which reads format {VERSION}. Install deepreg-structural {known[2]:.20} or newer."
        )
    return dict(document)


def _refuse(text: str) -> None:
    raise ValueError(f"{text} is no number of JSON")


def _damaged(name: str, why: str) -> FileError:
    return FileError(f"{name!r} is no sound result of deepreg: {why:.200}. Copy it again from where it was saved.")


def _digest(content: Plain, tensors: Mapping[str, Tensor]) -> str:
    """sha256 of the document and of names, types, shapes and bytes of the tensors."""
    found = hashlib.sha256(json.dumps([FORMAT, VERSION, content], ensure_ascii=True, separators=(",", ":")).encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.contiguous().view(-1).view(torch.uint8).numpy() if tensor.numel() else b"")
    return found.hexdigest()
