"""Overwriting parts of an S3 object, which S3 cannot do in place: the object is put back whole under the same key.

Every put-back carries the ETag that was read (If-Match), so of two calls at once one is refused and looks again: what
the other has erased stays erased. A store that ignores If-Match is found out by a probe, and refused.
"""

from __future__ import annotations

import functools
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from etl.errors import ConfigurationError
from etl.storage.base import StorageError
from etl.storage.s3_calls import CONDITION_FAILED, CONFLICT, error_code, fetch, forgiving, head, pause
from etl.storage.s3_versions import forget_versions
from etl.storage.spans import Window, blocks

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

WINDOW = 16 << 20  # bytes held in memory; a part of an upload must have 5 MiB, but for the last one
COPIED = 256 << 20  # bytes that one request copies inside the store: more would run into the read time-out
MOST_PUT = 5 << 30  # bytes that S3 takes in one PUT
PROBE = "probe-"
_PARTS, _TRIES = 5_000, 10  # windows of one upload (S3 takes 10,000 parts); put-backs that other writers refuse
_WRONG = '"00000000000000000000000000000000"'  # no object's ETag
_CHANGED = CONDITION_FAILED | CONFLICT | {"NoSuchUpload"}


@dataclass(frozen=True)
class Guards:
    """Whether a store honours If-Match on a PUT, and on the completion of a multipart upload."""

    put: bool
    complete: bool


@dataclass(frozen=True)
class Eraser:
    """Erases in the objects of one bucket; its methods raise what boto3 does, for the store to type.

    Attributes:
        client: The S3 client.
        bucket: The bucket.
        place: The store's uri, for messages.
        folder: Where in the bucket the store lies, for the probe's object.
    """

    client: S3Client
    bucket: str
    place: str
    folder: str

    def erase(self, key: str, name: str, wanted: Sequence[Window]) -> None:
        """Make windows of the object ``name`` zeros, and leave none of its older versions.

        Raises:
            StorageError: The object ends before a window does, or others kept changing it.
            ConfigurationError: The store ignores If-Match, or keeps versions that we may not remove.
        """
        for attempt in range(_TRIES):
            found = head(self.client, self.bucket, name, must_exist=True)
            size, etag = found["ContentLength"], found["ETag"]
            if wanted[-1].end > size:
                raise StorageError("erase", key, f"bytes up to {wanted[-1].end} wanted, {size} there")
            try:
                if not self._are_zeros(name, etag, wanted):
                    self._put_back(name, etag, size, wanted)
                break
            except ClientError as error:
                # Changed since, or the answer to our own put-back was lost and its repetition met our own object.
                if error_code(error) not in _CHANGED:
                    raise
            pause(attempt)
        else:
            cause = f"other writers changed it {_TRIES} times meanwhile"
            raise StorageError("erase", key, cause, remedy="run the command again")
        # Last: what was put back made a version of what was there before.
        forget_versions(self.client, self.bucket, name, "erase", self.place)

    @functools.cached_property
    def guards(self) -> Guards:
        """What the store honours, tried out once on an object of our own."""
        at: Any = {"Bucket": self.bucket, "Key": f"{self.folder}{PROBE}{uuid.uuid4().hex}"}
        self.client.put_object(**at, Body=b"first")
        try:
            put = _refused(lambda: self.client.put_object(**at, Body=b"second", IfMatch=_WRONG))
            with self._upload(at["Key"]) as upload:
                upload.put(b"third")
                return Guards(put, _refused(lambda: upload.complete(_WRONG)))
        finally:
            with forgiving():  # a few bytes of no meaning
                self.client.delete_object(**at)
                forget_versions(self.client, self.bucket, at["Key"], "probe", self.place)

    def _are_zeros(self, name: str, etag: str, wanted: Sequence[Window]) -> bool:
        """Whether there is nothing to write: done before, by a twin, or by ourselves without hearing of it."""
        pieces = (piece for window in wanted for piece in blocks(window.offset, window.length, WINDOW))
        return not any(
            any(fetch(self.client, self.bucket, name, offset, length, IfMatch=etag)) for offset, length in pieces
        )

    def _put_back(self, name: str, etag: str, size: int, wanted: Sequence[Window]) -> None:
        guards = self.guards
        if guards.complete and size > WINDOW:
            self._put_pieces(name, etag, size, wanted)
        elif guards.put and size <= MOST_PUT:
            self._put_whole(name, etag, size, wanted)
        else:
            lacking = "on multipart uploads, which objects over 5 GiB need" if guards.put else "on PUT"
            raise ConfigurationError(
                f"{self.place} does not honour If-Match {lacking}: two processes that erase at once would undo each "
                "other's work",
                remedy="choose a store whose PUT honours If-Match (S3 does); nothing was erased",
            )

    def _put_whole(self, name: str, etag: str, size: int, wanted: Sequence[Window]) -> None:
        """Through a file that no one else sees and that a kill takes along."""
        with tempfile.SpooledTemporaryFile(max_size=WINDOW) as copy:
            for offset, length in blocks(0, size, WINDOW):
                copy.write(self._erased(name, etag, offset, length, wanted))
            copy.seek(0)
            self.client.put_object(Bucket=self.bucket, Key=name, Body=copy, IfMatch=etag)

    def _put_pieces(self, name: str, etag: str, size: int, wanted: Sequence[Window]) -> None:
        """Only what has something to erase passes through here; the store copies the rest within itself."""
        with self._upload(name) as upload:
            for offset, length, touched in pieces(size, wanted):
                if touched:
                    upload.put(self._erased(name, etag, offset, length, wanted))
                else:
                    upload.copy(offset, length, etag)
            upload.complete(etag)

    def _erased(self, name: str, etag: str, offset: int, length: int, wanted: Sequence[Window]) -> bytearray:
        data = bytearray(fetch(self.client, self.bucket, name, offset, length, IfMatch=etag))
        if len(data) != length:  # never put back less than was there
            raise StorageError("erase", name, f"{length} bytes from {offset} wanted, {len(data)} came")
        for window in wanted:
            first, last = max(window.offset - offset, 0), min(window.end - offset, length)
            if first < last:
                data[first:last] = bytes(last - first)
        return data

    def _upload(self, name: str) -> _Upload:
        return _Upload(self.client, self.bucket, name)


class _Upload:
    """A multipart upload; aborted unless completed."""

    def __init__(self, client: S3Client, bucket: str, name: str) -> None:
        self._client = client
        begun = client.create_multipart_upload(Bucket=bucket, Key=name)
        self._at: Any = {"Bucket": bucket, "Key": name, "UploadId": begun["UploadId"]}
        self._tags: list[Any] = []
        self._completed = False

    def __enter__(self) -> _Upload:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._completed:
            with forgiving():  # sweep removes what stays
                self._client.abort_multipart_upload(**self._at)

    def put(self, data: bytes | bytearray) -> None:
        number = len(self._tags) + 1
        answer = self._client.upload_part(**self._at, PartNumber=number, Body=bytes(data))
        self._tags.append({"PartNumber": number, "ETag": answer["ETag"]})

    def copy(self, offset: int, length: int, etag: str) -> None:
        number = len(self._tags) + 1
        answer = self._client.upload_part_copy(
            **self._at,
            PartNumber=number,
            CopySource={"Bucket": self._at["Bucket"], "Key": self._at["Key"]},
            CopySourceRange=f"bytes={offset}-{offset + length - 1}",
            CopySourceIfMatch=etag,
        )
        self._tags.append({"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]})

    def complete(self, etag: str) -> None:
        self._client.complete_multipart_upload(**self._at, MultipartUpload={"Parts": self._tags}, IfMatch=etag)
        self._completed = True


def pieces(size: int, wanted: Sequence[Window]) -> Iterator[tuple[int, int, bool]]:
    """An object cut into parts of an upload: (offset, length, whether something in it is to be erased).

    All are whole multiples of one step but the last, so that none is smaller than S3 allows.

    Args:
        size: Of the object, in bytes.
        wanted: The windows to erase, by offset, none overlapping.

    >>> MIB = 1 << 20
    >>> [(at // MIB, length // MIB, touched) for at, length, touched in pieces(400 * MIB, [Window(20 * MIB, 1)])]
    [(0, 16, False), (16, 16, True), (32, 256, False), (288, 112, False)]
    """
    step = max(WINDOW, -(-size // _PARTS // WINDOW) * WINDOW)
    touched = sorted({at for one in wanted for at in range(one.offset // step, (one.end - 1) // step + 1)})
    done = 0
    for at in touched:
        yield from ((offset, length, False) for offset, length in blocks(done, at * step - done, max(COPIED, step)))
        done = min((at + 1) * step, size)
        yield at * step, done - at * step, True
    yield from ((offset, length, False) for offset, length in blocks(done, size - done, max(COPIED, step)))


def _refused(write: Callable[[], object]) -> bool:
    try:
        write()
    except ClientError as error:
        if error_code(error) not in CONDITION_FAILED | {"NotImplemented"}:
            raise
        return error_code(error) in CONDITION_FAILED
    return False
