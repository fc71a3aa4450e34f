"""What can go wrong between groundlake and the reference engine."""

from __future__ import annotations

from etl.errors import ConfigurationError, GroundlakeError, RetryableError

RAM_COMMIT = "7cb804a8609e9f4b1a50b7f31436d2df40bb9481"
RAM_CHECKOUT = (
    "git clone https://github.com/xinyu1205/recognize-anything, check out commit "
    f"{RAM_COMMIT}, and put its path as one line into a file ram.pth in site-packages of the reference environment"
)


class ReferenceLacksError(ConfigurationError):
    """The reference environment lacks one of upstream's packages."""

    def __init__(self, module: str) -> None:
        super().__init__(
            f"the reference environment has no package {module!r}",
            remedy=RAM_CHECKOUT if module == "ram" else "run 'make reference' again: it installs what the lock says",
        )
        self.module = module


class WorkerLostError(RetryableError):
    """The worker is dead or does not answer; a new one may do."""


class UpstreamError(GroundlakeError):
    """Upstream's code raised an error; the worker lives on."""
