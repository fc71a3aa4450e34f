"""A worker process in the reference interpreter: started once, asked many times, gone with whoever started it."""

from __future__ import annotations

import os
import select
import subprocess
import tempfile
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Self

from etl.errors import ConfigurationError
from etl.reference.environment import reference_python
from etl.reference.errors import ReferenceLacksError, UpstreamError, WorkerLostError
from etl.reference.worker.frames import LENGTH, Arrays, Message, packed, unpacked

WORKER = Path(__file__).parent / "worker" / "__main__.py"
OPEN_S = 1800.0  # the largest checkpoint from a slow disk
ANSWER_S = 1800.0  # one picture, with hundreds of boxes, on a small CPU
CLOSE_S = 10.0
END_S = 1.0  # between the end of its pipe and its own
LAST_LINES, LAST_BYTES = 3, 4000
PIECE = 1 << 20
UPSTREAM = ("ram", "segment_anything", "segment_anything_hq", "groundingdino")


class Worker:
    """A process that holds one of upstream's networks.

    Args:
        device: ``cpu`` or ``cuda:N``.
        threads: That its torch may use.

    Raises:
        ConfigurationError: There is no reference environment.
    """

    def __init__(self, device: str = "cpu", threads: int = 1) -> None:
        command = [str(reference_python()), "-I", "-W", "ignore", str(WORKER)]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads)}
        if device == "cpu":
            environment["CUDA_VISIBLE_DEVICES"] = ""
        self.device, self.threads = device, threads
        self.family = ""
        self._said: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=environment,
            start_new_session=True,  # a signal to a terminal's or a task's group is for the one who asks
        )
        for pipe in (self._process.stdin, self._process.stdout):
            os.set_blocking(pipe.fileno(), False)  # type: ignore[union-attr]
        self._close = weakref.finalize(self, _close, self._process, self._said)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process; again has no effect. It ends by itself, too, when this process does."""
        self._close()

    def open(self, family: str, folder: Path, *, seed: int | None = None, timeout: float = OPEN_S) -> dict[str, Any]:
        """Have a network read, and say what one has to know of it.

        Args:
            family: Its family.
            folder: Upstream's files.
            seed: Of random weights, written into the folder; None to read those it has.
            timeout: Seconds it may take.

        Raises:
            ReferenceLacksError: The environment has no package of upstream's for it.
            ConfigurationError: Upstream cannot read the folder.
            WorkerLostError: The process died, or did not answer in time.
        """
        self.family = family
        header = {"do": "open", "family": family, "folder": str(folder.resolve()), "seed": seed}
        answer = self._ask({**header, "device": self.device, "threads": self.threads}, {}, timeout)
        error = answer.header.get("error")
        if error is not None:
            missing = str(answer.header.get("missing") or "").partition(".")[0]
            if missing in UPSTREAM and "ModuleNotFoundError" in error:
                raise ReferenceLacksError(missing)
            raise ConfigurationError(
                f"the reference engine of {family} cannot open {folder}: {error}",
                remedy="give the folder that upstream's own package reads; 'make reference' renews its environment",
            )
        return dict(answer.header["facts"])

    def ask(self, arrays: Mapping[str, Any], *, timeout: float = ANSWER_S, do: str = "answer", **words: Any) -> Arrays:
        """The answer to a question: arrays by name.

        Args:
            arrays: The question's, by name.
            timeout: Seconds it may take.
            do: What is asked.
            words: What else is asked.

        Raises:
            UpstreamError: Upstream's code raised an error at this question.
            WorkerLostError: The process died, or did not answer in time.
        """
        answer = self._ask({"do": do, **words}, arrays, timeout)
        if "error" in answer.header:
            raise UpstreamError(f"the reference engine of {self.family}: {answer.header['error']}")
        return answer.arrays

    def _ask(self, header: Mapping[str, Any], arrays: Mapping[str, Any], timeout: float) -> Message:
        deadline = time.monotonic() + timeout
        try:
            self._send(packed(header, arrays), deadline)
            length = int.from_bytes(self._receive(LENGTH, deadline), "little")
            return unpacked(self._receive(length, deadline))
        except TimeoutError as error:
            self._process.kill()
            self._process.wait()
            raise self._lost(f"did not answer within {timeout:g} s") from error
        except (EOFError, BrokenPipeError, ValueError) as error:  # ValueError: it was closed before
            raise self._lost(f"ended with code {self._end()}") from error

    def _send(self, data: bytes, deadline: float) -> None:
        pipe = self._process.stdin.fileno()  # type: ignore[union-attr]
        left = memoryview(data)
        while left:
            _wait(pipe, select.POLLOUT, deadline)
            left = left[os.write(pipe, left[:PIECE]) :]

    def _receive(self, count: int, deadline: float) -> bytes:
        pipe = self._process.stdout.fileno()  # type: ignore[union-attr]
        parts = bytearray()
        while len(parts) < count:
            _wait(pipe, select.POLLIN, deadline)
            part = os.read(pipe, min(PIECE, count - len(parts)))
            if not part:
                raise EOFError
            parts += part
        return bytes(parts)

    def _end(self) -> int:
        """Its code: its own, or that of being killed now."""
        try:
            return self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _lost(self, how: str) -> WorkerLostError:
        said = ""
        if not self._said.closed:
            self._said.seek(max(0, self._said.seek(0, os.SEEK_END) - LAST_BYTES))
            said = "\n".join(self._said.read().decode(errors="replace").strip().splitlines()[-LAST_LINES:])
        return WorkerLostError(
            f"the reference engine of {self.family} {how}" + (f":\n{said}" if said else ""),
            remedy="run the command again: what is finished stays; if it happens again, look at its memory",
        )


def _wait(pipe: int, event: int, deadline: float) -> None:
    """Until a pipe is ready; raises TimeoutError."""
    poll = select.poll()
    poll.register(pipe, event)
    if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise TimeoutError


def _close(process: subprocess.Popen[bytes], said: BinaryIO) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()  # it ends when its question is no more
    try:
        process.wait(CLOSE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    said.close()
