"""The exceptions deepreg raises, all below one root so that a caller can catch them together."""


class DeepregError(Exception):
    """Root of every error raised on purpose by this package."""


class FormulaError(DeepregError, ValueError):
    """The formula cannot be read as `outcome ~ structural terms | features | controls`."""


class DataError(DeepregError, ValueError):
    """The data do not hold what the formula, the family or the target asks of them."""


class OptionError(DeepregError, ValueError):
    """An argument or an option has a value that is not among the allowed ones."""


class FileError(DeepregError, ValueError):
    """A file is not a result of this package, is damaged, or needs another version."""


class NotAvailable(DeepregError, NotImplementedError):
    """The quantity has no valid definition or no valid interval here; the message says why."""


AGAIN = "Fit again, or save with data=True."  # what helps where a result was saved without its rows


class DeepregWarning(UserWarning):
    """Something the reader of the results should know, though the fit went on."""
