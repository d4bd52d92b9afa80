"""Signs the forms and links of a local store, and takes none that was changed by a single character.

form    the fields key, Content-Type, policy and x-pulse-signature; the policy is JSON in base64, as S3's is, and
        the signature the HMAC-SHA256 of it
link    <key>?name=...&type=...&expires=...&signature=..., the signature that of all that stands before it
"""

import base64
import hashlib
import hmac
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import parse_qs, quote

import msgspec
from msgspec import Struct

from infra.errors import PulseError
from infra.storage import Expected, sha256_of

_PURPOSE = b"signs the forms and links of a local file store"
_SIGNATURE = b"&signature="
_FIELDS = {"key", "Content-Type", "policy", "x-pulse-signature"}


class SignatureInvalid(PulseError):
    """The signature does not fit: the form or link is not one of ours, or was changed."""

    ar = "التوقيع غير مطابق: النموذج أو الرابط ليس من عندنا أو جرى تغييره."
    status = 403


class FormExpired(PulseError):
    """The time in which this upload had to begin is over. Ask for a new one."""

    ar = "انتهت المهلة التي كان يجب أن يبدأ الرفع خلالها. اطلب رفعًا جديدًا."
    status = 410


class LinkExpired(PulseError):
    """The link has expired. Ask for a new one."""

    ar = "انتهت صلاحية الرابط. اطلب رابطًا جديدًا."
    status = 410


class UploadTypeWrong(PulseError):
    """{field} must be {expected}, as it was declared."""

    ar = "يجب أن تكون قيمة {field} ‎{expected}‎ كما صُرّح بها."
    status = 400


class Admission(Struct, frozen=True, kw_only=True):
    """What a form lets in: these bytes under this key, while the upload begins before the moment (Unix seconds)."""

    key: str
    expected: Expected
    expires: int


class Shown(Struct, frozen=True, kw_only=True):
    """What a link shows: an asset under a name and a type, until a moment (Unix seconds)."""

    key: str
    filename: str
    media_type: str
    expires: int


class Signer:
    """Signs and checks under a key of its own, which is made from the installation's secret."""

    def __init__(self, secret: str) -> None:
        """Derive the key."""
        self._key = hmac.digest(secret.encode(), _PURPOSE, hashlib.sha256)

    def form(self, key: str, expected: Expected, *, seconds: int) -> tuple[dict[str, str], datetime]:
        """Return the fields of a form, and until when it holds."""
        sha256_of(key)
        admission = Admission(key=key, expected=expected, expires=int(time.time()) + seconds)
        policy = base64.b64encode(msgspec.json.encode(admission)).decode()
        fields = {
            "key": key,
            "Content-Type": expected.media_type,
            "policy": policy,
            "x-pulse-signature": self.sign("form", policy.encode()).decode(),
        }
        return fields, datetime.fromtimestamp(admission.expires, UTC)

    def admit(self, fields: Mapping[str, str]) -> Admission:
        """Return what a form lets in; raises `SignatureInvalid`, `FormExpired` or `UploadTypeWrong`."""
        if set(fields) != _FIELDS:
            raise SignatureInvalid
        policy = fields["policy"].encode()
        self._check("form", policy, fields["x-pulse-signature"].encode())
        admission = msgspec.json.decode(base64.b64decode(policy), type=Admission)
        if fields["key"] != admission.key:
            raise SignatureInvalid
        if admission.expires <= time.time():
            raise FormExpired
        if fields["Content-Type"] != admission.expected.media_type:
            raise UploadTypeWrong(field="Content-Type", expected=admission.expected.media_type)
        return admission

    def link(self, key: str, *, filename: str, media_type: str, seconds: int) -> tuple[str, datetime]:
        """Return `<key>?<query>`, and until when it holds."""
        sha256_of(key)
        expires = int(time.time()) + seconds
        signed = f"{key}?name={quote(filename, safe='')}&type={quote(media_type, safe='')}&expires={expires}".encode()
        link = signed + _SIGNATURE + self.sign("link", signed)
        return link.decode(), datetime.fromtimestamp(expires, UTC)

    def show(self, key: str, query: bytes) -> Shown:
        """Return what a link shows, its query as it came; raises `SignatureInvalid` or `LinkExpired`."""
        signed, _, signature = query.rpartition(_SIGNATURE)
        self._check("link", key.encode() + b"?" + signed, signature)
        # It is ours to the letter, so it has each of these once.
        asked = parse_qs(signed.decode(), strict_parsing=True, keep_blank_values=True)
        shown = Shown(key=key, filename=asked["name"][0], media_type=asked["type"][0], expires=int(asked["expires"][0]))
        if shown.expires <= time.time():
            raise LinkExpired
        return shown

    def sign(self, purpose: str, signed: bytes) -> bytes:
        """Return the signature, in hexadecimal, of something that is signed for a purpose."""
        return hmac.new(self._key, purpose.encode() + b"\n" + signed, hashlib.sha256).hexdigest().encode()

    def _check(self, purpose: str, signed: bytes, signature: bytes) -> None:
        if not hmac.compare_digest(self.sign(purpose, signed), signature):
            raise SignatureInvalid
