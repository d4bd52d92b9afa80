"""What is asked of S3, one blocking call a method; what it answers is told as facts."""

import base64
import contextlib
import hashlib
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError

from infra.settings import Settings
from infra.storage import Area, Expected, Form, Link, ObjectNotFound, StorageUnavailable, sha256_of
from infra.storage.disposition import attachment

_CONNECT_S = 5
_READ_S = 30
_TRIES = 4
# Credentials, clocks and buckets that do not fit are the operator's to mend: to everybody else the store is away.
_AWAY = {"NoSuchBucket", "RequestTimeout", "ExpiredToken", "InvalidToken", "RequestTimeTooSkewed", "SlowDown"}
_AWAY_STATUS = {401, 403, 408, 409, 429}


class Buckets:
    """The two buckets of the settings; may be used by several threads at once."""

    def __init__(self, settings: Settings, *, connections: int) -> None:
        """Prepare; the first call looks for credentials and connects."""
        self._settings = settings
        self._connections = connections
        self.names: dict[Area, str] = {"quarantine": settings.s3_quarantine, "assets": settings.s3_assets}
        self._lock = threading.Lock()
        self._connected: Any = None

    @property
    def _client(self) -> Any:
        with self._lock:  # two threads may be first
            if self._connected is None:
                self._connected = _connect(self._settings, self._connections)
            return self._connected

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            if self._connected is not None:
                self._connected.close()

    def at(self, area: Area, key: str) -> dict[str, str]:
        """Return where an object is, in boto3's words; raises `ValueError` for what is no key."""
        sha256_of(key)
        return {"Bucket": self.names[area], "Key": key}

    def form(self, key: str, expected: Expected, seconds: int) -> Form:
        """Sign a form: S3 itself takes nothing that is not exactly what the conditions say."""
        fields = {
            "Content-Type": expected.media_type,
            "x-amz-checksum-algorithm": "SHA256",
            "x-amz-checksum-sha256": _base64(expected.sha256),
        }
        conditions: list[Any] = [{name: value} for name, value in fields.items()]
        conditions.append(["content-length-range", expected.size_bytes, expected.size_bytes])
        expires_at = datetime.now(UTC) + timedelta(seconds=seconds)
        with _telling():
            post = self._client.generate_presigned_post(
                **self.at("quarantine", key), Fields=fields, Conditions=conditions, ExpiresIn=seconds
            )
        return Form(url=post["url"], fields=post["fields"], expires_at=expires_at)

    def link(self, key: str, filename: str, media_type: str, seconds: int) -> Link:
        """Sign a link whose name and type S3 gives to whoever follows it."""
        asked = {"ResponseContentDisposition": attachment(filename), "ResponseContentType": media_type}
        expires_at = datetime.now(UTC) + timedelta(seconds=seconds)
        with _telling():
            url = self._client.generate_presigned_url(
                "get_object", Params=self.at("assets", key) | asked, ExpiresIn=seconds
            )
        return Link(url=url, expires_at=expires_at)

    def size(self, at: dict[str, str]) -> int | None:
        """Return how many bytes an object has; None where there is none."""
        try:
            with _telling():
                return self._client.head_object(**at)["ContentLength"]
        except ObjectNotFound:
            return None

    def open(self, at: dict[str, str]) -> Any:
        """Return an object's body, to be read and closed; raises `ObjectNotFound`."""
        with _telling():
            return self._client.get_object(**at)["Body"]

    def read(self, body: Any, size_bytes: int) -> bytes:
        """Return the next bytes of a body, none after the last."""
        with _telling():
            return body.read(size_bytes)

    def put(self, at: dict[str, str], path: Path, sha256: str | None) -> bool:
        """Write a file where nothing is; returns whether it did. S3 compares the SHA-256 where it is given one."""
        checked = {} if sha256 is None else {"ChecksumSHA256": _base64(sha256)}
        with path.open("rb") as file, _telling():
            return _unless_there(self._client.put_object, **at, **checked, Body=file, IfNoneMatch="*")

    def begin(self, at: dict[str, str]) -> dict[str, str]:
        """Begin an upload in parts."""
        with _telling():
            begun = self._client.create_multipart_upload(**at, ChecksumAlgorithm="SHA256")
        return at | {"UploadId": begun["UploadId"]}

    def send(self, upload: dict[str, str], number: int, data: bytes) -> dict[str, Any]:
        """Send a part; returns what `complete` needs of it."""
        part = {"PartNumber": number, "ChecksumSHA256": _base64(hashlib.sha256(data).hexdigest())}
        with _telling():
            return part | {"ETag": self._client.upload_part(**upload, **part, Body=data)["ETag"]}

    def complete(self, upload: dict[str, str], parts: list[dict[str, Any]]) -> bool:
        """Make the parts an object where nothing is; returns whether it did."""
        try:
            with _telling():
                return _unless_there(
                    self._client.complete_multipart_upload, **upload, MultipartUpload={"Parts": parts}, IfNoneMatch="*"
                )
        except ObjectNotFound as error:  # completed before, and the answer was lost: asked again, it is not known
            if self.size({"Bucket": upload["Bucket"], "Key": upload["Key"]}) is None:
                raise StorageUnavailable from error
            return True

    def abort(self, upload: dict[str, str]) -> None:
        """Forget an upload in parts; one that is over, or has become an object, is forgotten."""
        with contextlib.suppress(ObjectNotFound), _telling():
            self._client.abort_multipart_upload(**upload)

    def abort_older(self, bucket: str, before: datetime) -> int:
        """Forget the uploads in parts that were begun before a moment; returns how many."""
        aborted = 0
        with _telling():
            for page in self._client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket):
                for upload in page.get("Uploads", []):
                    if upload["Initiated"] < before:
                        self.abort({"Bucket": bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]})
                        aborted += 1
        return aborted

    def delete(self, at: dict[str, str]) -> None:
        """Remove an object, if it is there."""
        with contextlib.suppress(ObjectNotFound), _telling():
            self._client.delete_object(**at)

    def look(self, bucket: str) -> None:
        """Raise `StorageUnavailable` where a bucket cannot be used."""
        try:
            with _telling():
                self._client.head_bucket(Bucket=bucket)
        except ObjectNotFound as error:
            raise StorageUnavailable from error


def _connect(settings: Settings, connections: int) -> Any:
    config = Config(
        signature_version="s3v4",
        retries={"mode": "standard", "total_max_attempts": _TRIES},
        connect_timeout=_CONNECT_S,
        read_timeout=_READ_S,
        max_pool_connections=connections,
        tcp_keepalive=True,
        # Servers other than AWS's are usually found by one name, and know no checksums that nobody asked for. On AWS,
        # boto3's own choice would sign for the endpoint of all regions, which sends a form on to another address.
        s3={"addressing_style": "path" if settings.s3_endpoint else "virtual"},
        request_checksum_calculation="when_required",
    )
    named = {"endpoint_url": settings.s3_endpoint or None, "region_name": settings.s3_region or None}
    session: Any = boto3.Session()  # its types are a client for every service of AWS
    with _telling():
        if session.get_credentials() is None:
            raise NoCredentialsError  # signing a form without any is a crash of boto3's
        return session.client("s3", config=config, **named)


@contextmanager
def _telling() -> Generator[None]:
    """Tell errors of S3 and of the way to it as facts; one that is neither is a bug of ours and passes."""
    try:
        yield
    except ClientError as error:
        code, status = _reason(error)
        if code in _AWAY or status in _AWAY_STATUS or status >= 500:
            raise StorageUnavailable from error
        if status == 404:
            raise ObjectNotFound from error
        raise
    except ParamValidationError:
        raise
    except BotoCoreError as error:
        raise StorageUnavailable from error


def _reason(error: ClientError) -> tuple[str, int]:
    response: Any = error.response
    return response.get("Error", {}).get("Code", ""), response["ResponseMetadata"]["HTTPStatusCode"]


def _unless_there(write: Callable[..., object], **arguments: Any) -> bool:
    try:
        write(**arguments)
    except ClientError as error:
        if _reason(error)[1] != 412:
            raise
        return False
    return True


def _base64(sha256: str) -> str:
    return base64.b64encode(bytes.fromhex(sha256)).decode()
