"""Why a checkpoint was refused, by what to do about it."""

from __future__ import annotations

from etl.errors import ConfigurationError, DataError, RetryableError


class WrongDigestError(DataError):
    """A file is not the one that the catalog pins, or not the one that was added first."""

    def __init__(self, file: str, found: str, expected: str, *, recorded: bool, remedy: str) -> None:
        says = "the one added first has" if recorded else "the catalog pins"
        super().__init__(f"{file} has the sha256 {found}, but {says} {expected}", remedy=remedy)
        self.file, self.found, self.expected, self.recorded = file, found, expected, recorded


class WrongSizeError(DataError):
    """A file has another length than the catalog says: it is cut short, or another one."""

    def __init__(self, file: str, found: int, expected: int, *, remedy: str) -> None:
        kind = "it is cut short" if found < expected else "it is another file"
        super().__init__(f"{file} has {found:,} bytes, but the catalog says {expected:,}: {kind}", remedy=remedy)
        self.file, self.found, self.expected = file, found, expected


class NotTheFileError(DataError):
    """A server answered with something else in place of the file, such as a page to log in on."""


class WrongFilesError(ConfigurationError):
    """Not all files of a checkpoint were given, or others too."""


class LicenceError(ConfigurationError):
    """Nobody has accepted the licence of a checkpoint."""


class RefusedDownloadError(ConfigurationError):
    """A server does not give out the file, or it may not be reached; trying again changes nothing."""


class InterruptedDownloadError(RetryableError):
    """A download broke off; what has arrived stays and is gone on with.

    Attributes:
        wait: Seconds that the server asks to wait, if it does.
    """

    def __init__(self, message: str, *, wait: float | None = None, remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.wait = wait


class NoRoomError(RetryableError):
    """A disk has too little room for what is about to be written."""
