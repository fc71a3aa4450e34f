"""What an exception of a network means: the image's own fault, too little memory, or a broken place."""

from __future__ import annotations

import re

from etl.errors import DataError, GroundlakeError, RetryableError

MAX_ERROR_SHARE = 0.5  # of a slice; more is a bug of the code, not of the pictures
MIN_ERROR_SLICE = 20
_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory", re.IGNORECASE)
_DEVICE = re.compile(r"CUDA error|CUDNN_STATUS|cuDNN error|CUBLAS_STATUS|NCCL error|device-side assert", re.IGNORECASE)


class OutOfMemoryError(RetryableError):
    """The smallest batch does not fit into the memory of the device."""


class DeviceError(RetryableError):
    """The device failed: nothing after it in this process can be trusted."""


class FailureRateError(DataError):
    """So many images of a slice raised errors that the code must be wrong; the slice is not written."""


class ContractError(GroundlakeError):
    """A stage broke its contract (another number of results, a table it did not declare)."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether host or device memory ran out; known by torch's types and, in older paths, by text."""
    return (
        isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or bool(_MEMORY.search(str(error)))
    )


def is_device_failure(error: BaseException) -> bool:
    """Whether the device itself failed, which poisons every later call."""
    return type(error).__name__ == "AcceleratorError" or bool(_DEVICE.search(str(error)))


def check_error_rate(errors: int, images: int, example: str) -> None:
    """Stop when errors of the code prevail in a slice.

    Args:
        errors: Images of the slice that raised so far.
        images: Images of the slice.
        example: The last error.

    Raises:
        FailureRateError: More than half of a slice of at least twenty images.
    """
    if images >= MIN_ERROR_SLICE and errors > MAX_ERROR_SHARE * images:
        raise FailureRateError(
            f"{errors} of {images} images of a slice raised errors, such as: {example}",
            remedy="this is a fault of the stage, not of the pictures: mend it and run again; nothing was written",
        )


def words(error: BaseException) -> str:
    """An error in one bounded line, for a row."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= 500 else text[:497] + "..."
