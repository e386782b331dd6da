"""A storage in a bucket of S3, or of what speaks as S3 does.

Where it is and who may use it comes from the environment, as AWS's SDK reads it: `AWS_ENDPOINT_URL`,
`AWS_ACCESS_KEY_ID`, … or the machine's role.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from http import HTTPStatus
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from app.errors import NoRoom, SettingsError, Unavailable
from app.observability import metrics
from app.storage.store import CHUNK, Storage, StorageMissing, Writer, checked, cut_short

_PART = 5 * CHUNK
"""The least that S3 takes as a part: what a transfer costs in memory."""
_ABSENT = {"404", "NoSuchKey", "NotFound"}


class S3Storage(Storage):
    """One object each. A long one is sent in parts, and appears when it is told that these were all."""

    def __init__(self, url: str) -> None:
        if find_spec("boto3") is None:
            raise SettingsError(["HEADRACE_STORAGE_URL: s3:// needs more: pip install 'headrace[s3]'"])
        parts = urlsplit(url)
        self._bucket = parts.netloc
        self._prefix = parts.path.strip("/")

    @contextmanager
    def write(self, key: str) -> Iterator[Writer]:
        """See `Storage`. Parts of a writer that was killed are for a rule of the bucket to remove."""
        parts = _Parts(self._client, self._object(key))
        try:
            writer = Writer(parts.put)
            yield writer
            writer.flush()
            parts.finish()
        except BaseException:
            parts.forget()
            raise

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """See `Storage`."""
        size = self.size(key)
        end = size if end is None else end
        if end > size:
            raise cut_short()
        if start >= end:
            return iter(())
        with _failures_told():
            answer = self._client.get_object(**self._object(key), Range=f"bytes={start}-{end - 1}")
        return _chunks(answer["Body"], end - start)

    def delete(self, key: str) -> None:
        """See `Storage`."""
        with _failures_told():
            self._client.delete_object(**self._object(key))

    def size(self, key: str) -> int:
        """See `Storage`."""
        with _failures_told():
            return int(self._client.head_object(**self._object(key))["ContentLength"])

    @cached_property
    def _client(self) -> Any:
        import boto3
        from botocore.config import Config

        # What is not asked for is not sent: others that speak as S3 don't know the newest checksums.
        config = Config(
            connect_timeout=3,
            read_timeout=30,
            retries={"mode": "standard", "total_max_attempts": 3},
            max_pool_connections=64,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        return boto3.session.Session().client("s3", config=config)

    def _object(self, key: str) -> dict[str, str]:
        path = f"{self._prefix}/{checked(key)}" if self._prefix else checked(key)
        return {"Bucket": self._bucket, "Key": path}


class _Parts:
    """Sends what it is given in parts; if that is little, at once at the end."""

    def __init__(self, client: Any, target: dict[str, str]) -> None:
        self._client = client
        self._target = target
        self._held = bytearray()
        self._upload: str | None = None
        self._sent: list[dict[str, Any]] = []

    def put(self, chunk: bytes) -> None:
        self._held += chunk
        if len(self._held) >= _PART:
            with _failures_told():
                self._send()

    def finish(self) -> None:
        with _failures_told():
            if self._upload is None:
                self._client.put_object(**self._target, Body=self._held)
                return
            if self._held:
                self._send()
            self._client.complete_multipart_upload(
                **self._target, UploadId=self._upload, MultipartUpload={"Parts": self._sent}
            )

    def forget(self) -> None:
        if self._upload is not None:
            with suppress(Exception):
                self._client.abort_multipart_upload(**self._target, UploadId=self._upload)

    def _send(self) -> None:
        if self._upload is None:
            self._upload = self._client.create_multipart_upload(**self._target)["UploadId"]
        number = len(self._sent) + 1
        answer = self._client.upload_part(
            **self._target, UploadId=self._upload, PartNumber=number, Body=self._held
        )
        self._sent.append({"PartNumber": number, "ETag": answer["ETag"]})
        self._held = bytearray()


def _chunks(body: Any, left: int) -> Iterator[bytes]:
    try:
        while left:
            with _failures_told():
                chunk = body.read(min(CHUNK, left))
            if not chunk:
                raise cut_short()
            left -= len(chunk)
            yield chunk
    finally:
        body.close()


@contextmanager
def _failures_told() -> Iterator[None]:
    """The SDK's errors have no common root: all but an object's absence are `Unavailable`."""
    try:
        yield
    except Exception as error:
        answer = getattr(error, "response", None) or {}
        if answer.get("Error", {}).get("Code") in _ABSENT:
            raise StorageMissing("nothing is stored under this key") from error
        if answer.get("ResponseMetadata", {}).get("HTTPStatusCode") == HTTPStatus.INSUFFICIENT_STORAGE:
            metrics.NO_ROOM.labels("storage").inc()
            raise NoRoom("the file storage is full") from error
        raise Unavailable("the file storage can't be used") from error
