"""The progress bar of a fit."""

import sys


class Bar:
    """A progress bar over the stages of a fit, on a terminal unless asked otherwise."""

    def __init__(self, wanted: bool | None) -> None:
        from tqdm import tqdm

        shown = sys.stderr.isatty() if wanted is None else wanted
        self._bar = tqdm(total=1, disable=not shown, leave=False, bar_format="{desc}: {n}/{total} steps [{elapsed}]")

    def stage(self, name: str) -> None:
        self._bar.set_description_str(name)

    def step(self, done: int, most: int) -> None:
        self._bar.total = most
        self._bar.n = done
        self._bar.refresh()

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()
