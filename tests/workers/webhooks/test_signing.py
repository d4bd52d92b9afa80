"""What we sign is taken by the receivers' own library, and by a reading of the standard that knows nothing of ours."""

import base64
import time
from collections.abc import Mapping
from uuid import UUID

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from workers.webhooks import signing
from workers.webhooks.signing import Key

MESSAGE = UUID("01930000-0000-7000-8000-000000000001")
BODY = '{"type":"file.ready","data":{"name":"صورة 😀"}}'.encode()


def verify_ed25519(public_key: str, headers: Mapping[str, str], body: bytes) -> bool:
    """Verify as the standard says: any `v1a` signature over `id.timestamp.body`, by the key after `whpk_`."""
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key.removeprefix("whpk_"), validate=True))
    content = b".".join([headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body])
    for each in headers["webhook-signature"].split(" "):
        version, signature = each.split(",")
        if version == "v1a":
            try:
                key.verify(base64.b64decode(signature, validate=True), content)
            except InvalidSignature:
                continue
            return True
    return False


CONTENT = b'msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}'
VECTORS = (
    ("hmac", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", None, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
    (
        "ed25519",
        "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==",
        "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=",
        "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==",
    ),
)


@pytest.mark.parametrize(("signature", "text", "public", "signed"), VECTORS)
def test_the_vectors_that_the_libraries_of_the_standard_share_come_out(
    signature: str, text: str, public: str | None, signed: str
) -> None:
    key = Key(signature, base64.b64decode(text.partition("_")[2]))
    assert (key.text, key.public, key.sign(CONTENT)) == (text, public, signed)


def test_the_ed25519_key_is_the_seed_with_the_public_key_after_it() -> None:
    key = signing.new_key("ed25519")
    assert key.text.startswith("whsk_")
    raw = base64.b64decode(key.text.removeprefix("whsk_"), validate=True)
    assert len(raw) == 64
    public = Ed25519PrivateKey.from_private_bytes(raw[:32]).public_key().public_bytes_raw()
    assert raw[32:] == public
    assert key.public == "whpk_" + base64.b64encode(public).decode()


def test_hmac_keys_are_random_and_as_long_as_the_standard_wants() -> None:
    one, other = signing.new_key("hmac"), signing.new_key("hmac")
    assert one.raw != other.raw
    assert 24 <= len(base64.b64decode(one.text.removeprefix("whsec_"), validate=True)) <= 64


def test_the_receivers_library_verifies_an_hmac_beside_any_other_signature() -> None:
    old, new, public = signing.new_key("hmac"), signing.new_key("hmac"), signing.new_key("ed25519")
    headers = signing.headers(MESSAGE, int(time.time()), BODY, [new, public, old])
    assert headers["webhook-id"] == f"msg_{MESSAGE.hex}"
    assert [each.split(",")[0] for each in headers["webhook-signature"].split(" ")] == ["v1", "v1a", "v1"]
    for key in (old, new):
        assert Webhook(key.text).verify(BODY, headers)["data"]["name"] == "صورة 😀"
    assert public.public is not None
    assert verify_ed25519(public.public, headers, BODY)


@pytest.mark.parametrize("what", ["body", "webhook-id", "webhook-timestamp", "key"])
def test_whatever_is_changed_neither_signature_holds(what: str) -> None:
    now = int(time.time())
    hmac, public = signing.new_key("hmac"), signing.new_key("ed25519")
    headers, body = signing.headers(MESSAGE, now, BODY, [hmac, public]), BODY
    if what == "body":
        body = BODY.replace(b"ready", b"READY")
    elif what == "key":
        hmac, public = signing.new_key("hmac"), signing.new_key("ed25519")
    else:
        headers[what] = {"webhook-id": headers["webhook-id"][:-1] + "2", "webhook-timestamp": str(now + 1)}[what]
    with pytest.raises(WebhookVerificationError, match="No matching signature"):
        Webhook(hmac.text).verify(body, headers)
    assert public.public is not None
    assert not verify_ed25519(public.public, headers, body)


def test_a_key_does_not_show_itself_to_who_prints_it() -> None:
    for key in (signing.new_key("hmac"), signing.new_key("ed25519")):
        shown = f"{key} {key!r} {[key]}"
        assert key.text not in shown
        assert repr(key.raw) not in shown
