"""The version of this package."""

from importlib import metadata


def version() -> str:
    """As installed."""
    try:
        return metadata.version("deepreg-structural")
    except metadata.PackageNotFoundError:  # a source tree on the path that was never installed
        return "0+source"
