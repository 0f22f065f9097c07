"""Griffe extension: docstrings of this package written so that Markdown shows them as they are meant.

Doctests outside an "Examples" section become Python blocks. In docstrings without numpy sections, lines `name : text`
become list items.
"""

import re
from typing import Any

import griffe

_DOCTEST = re.compile(r"(?:^(?P<indent> *)>>> .*\n?)(?:^ *\S.*\n?)*", re.MULTILINE)
_SECTION = re.compile(r"^ *-{3,} *$", re.MULTILINE)
_ARGUMENT = re.compile(r"^(?P<name>[a-z]\w*(?:, \w+)*) : ", re.MULTILINE)


def _fence(found: re.Match[str]) -> str:
    indent = len(found["indent"])
    lines = [line[indent:] for line in found[0].rstrip("\n").split("\n")]
    return "\n```python\n" + "\n".join(lines) + "\n```\n"


def written(text: str) -> str:
    """The docstring as Markdown."""
    if _SECTION.search(text):
        return text
    return _DOCTEST.sub(_fence, re.sub(_ARGUMENT, r"\n- `\g<name>`: ", text))


class Docstrings(griffe.Extension):
    """Rewrites every docstring as it is read."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = written(obj.docstring.value)
