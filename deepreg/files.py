"""Files are replaced whole or not at all."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from .errors import OptionError


def vacant(path: str | os.PathLike[str], overwrite: bool) -> Path:
    """The path, where a file can be written. Raises OptionError where there is one already, or no folder for it."""
    place = Path(path)
    if place.exists() and not overwrite:
        raise OptionError(f"{str(place)!r} exists. Type overwrite=True to replace it, or choose another name.")
    if not place.parent.is_dir():
        raise OptionError(f"The folder {str(place.parent)!r} of {place.name!r} does not exist. Make it first.")
    return place


def replace_file(path: str | os.PathLike[str], content: bytes) -> Path:
    """Write `content` beside `path`, force it to the disk, and rename it onto `path`; returns the path.

    A reader sees the old file or the new one, never a part. Raises OSError where the folder is missing or closed.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     replace_file(Path(folder) / "a.txt", b"text").read_bytes()
    b'text'
    """
    target = Path(path)
    beside = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        with open(beside, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, target)
    except BaseException as error:
        beside.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:  # about the file asked for
            raise OSError(error.errno, error.strerror, str(target)) from None
        raise
    with suppress(OSError):  # so that the name survives a crash; not every system lets a folder be opened
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    return target
