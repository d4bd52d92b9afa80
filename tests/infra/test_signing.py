"""Forms and links of a local store: what was signed is taken, and nothing that differs from it in anything."""

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from infra.errors import PulseError
from infra.storage import Expected
from infra.storage.disposition import attachment
from infra.storage.signing import FormExpired, LinkExpired, SignatureInvalid, Signer, UploadTypeWrong
from tests.support.stores import asset_key, expecting, new_key

SIGNER = Signer("a secret of this installation")
KEY = new_key()
ASSET = asset_key(b"x")
EXPECTED = expecting(b"data", "image/png")

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=60)
sizes = st.integers(1, 2**50)
hashes = st.binary(min_size=32, max_size=32).map(bytes.hex)


def changed(value: bytes, data: st.DataObject) -> bytes:
    """Return bytes that differ from `value` in one place: another byte, one more, or one less."""
    place = data.draw(st.integers(0, len(value) - 1))
    other = data.draw(st.binary(max_size=2))
    new = value[:place] + other + value[place + 1 :]
    assume(new != value)
    return new


@given(size_bytes=sizes, media_type=texts, sha256=hashes, seconds=st.integers(1, 604_800))
def test_a_form_lets_in_what_was_signed(size_bytes: int, media_type: str, sha256: str, seconds: int) -> None:
    expected = Expected(size_bytes=size_bytes, media_type=media_type, sha256=sha256)
    fields, expires_at = SIGNER.form(KEY, expected, seconds=seconds)
    admission = SIGNER.admit(fields)
    assert (admission.key, admission.expected) == (KEY, expected)
    assert expires_at.timestamp() == admission.expires
    assert abs(datetime.now(UTC) + timedelta(seconds=seconds) - expires_at) < timedelta(seconds=5)


@given(name=st.sampled_from(["key", "policy", "x-pulse-signature", "Content-Type"]), data=st.data())
def test_a_form_that_was_changed_in_any_byte_is_refused(name: str, data: st.DataObject) -> None:
    fields, _ = SIGNER.form(KEY, EXPECTED, seconds=60)
    try:
        value = changed(fields[name].encode(), data).decode()
    except UnicodeDecodeError:
        assume(False)
        raise
    with pytest.raises(UploadTypeWrong if name == "Content-Type" else SignatureInvalid):
        SIGNER.admit(fields | {name: value})


@pytest.mark.parametrize("name", ["key", "policy", "x-pulse-signature", "Content-Type"])
def test_a_form_with_a_field_less_or_more_is_refused(name: str) -> None:
    fields, _ = SIGNER.form(KEY, EXPECTED, seconds=60)
    with pytest.raises(SignatureInvalid):
        SIGNER.admit({field: value for field, value in fields.items() if field != name})
    for more in ("success_action_redirect", name.upper(), f"{name} "):
        with pytest.raises(SignatureInvalid):
            SIGNER.admit(fields | {more: fields[name]})


def test_a_policy_is_good_for_its_own_key_only() -> None:
    mine, _ = SIGNER.form(KEY, EXPECTED, seconds=60)
    another, _ = SIGNER.form(new_key(), EXPECTED, seconds=60)
    for stolen in ({"key": another["key"]}, {"policy": another["policy"]}):
        with pytest.raises(SignatureInvalid):
            SIGNER.admit(mine | stolen)


def test_a_policy_that_says_more_is_refused_though_its_form_is_right() -> None:
    fields, _ = SIGNER.form(KEY, EXPECTED, seconds=60)
    policy = json.loads(base64.b64decode(fields["policy"]))
    policy["expected"]["size_bytes"] = 10**12
    with pytest.raises(SignatureInvalid):
        SIGNER.admit(fields | {"policy": base64.b64encode(json.dumps(policy).encode()).decode()})


@pytest.mark.parametrize("seconds", [0, -1, -1000])
def test_a_form_and_a_link_are_over_at_their_moment(seconds: int) -> None:
    fields, _ = SIGNER.form(KEY, EXPECTED, seconds=seconds)
    with pytest.raises(FormExpired):
        SIGNER.admit(fields)
    link, _ = SIGNER.link(ASSET, filename="a", media_type="image/png", seconds=seconds)
    key, _, query = link.partition("?")
    with pytest.raises(LinkExpired):
        SIGNER.show(key, query.encode())


@given(filename=texts, media_type=texts, seconds=st.integers(1, 604_800))
def test_a_link_shows_what_was_signed(filename: str, media_type: str, seconds: int) -> None:
    link, expires_at = SIGNER.link(ASSET, filename=filename, media_type=media_type, seconds=seconds)
    assert link.isascii()
    key, _, query = link.partition("?")
    shown = SIGNER.show(key, query.encode())
    assert (shown.key, shown.filename, shown.media_type) == (ASSET, filename, media_type)
    assert shown.expires == expires_at.timestamp()


@given(filename=texts, data=st.data())
def test_a_link_that_was_changed_in_any_byte_is_refused(filename: str, data: st.DataObject) -> None:
    link, _ = SIGNER.link(ASSET, filename=filename, media_type="image/png", seconds=60)
    key, _, query = changed(link.encode(), data).partition(b"?")
    with pytest.raises(SignatureInvalid):
        SIGNER.show(key.decode(errors="replace"), query)


@given(key=texts, query=st.binary(max_size=200))
def test_nonsense_is_no_link(key: str, query: bytes) -> None:
    with pytest.raises(SignatureInvalid):
        SIGNER.show(key, query)


@given(fields=st.dictionaries(st.sampled_from(["key", "policy", "x-pulse-signature", "Content-Type"]), texts))
def test_nonsense_is_no_form(fields: dict[str, str]) -> None:
    with pytest.raises(SignatureInvalid):
        SIGNER.admit(fields)


def test_more_may_not_be_asked_of_a_link_than_was_signed() -> None:
    link, _ = SIGNER.link(ASSET, filename="a.png", media_type="image/png", seconds=60)
    query = link.partition("?")[2].encode()
    for other in (query + b"&type=text/html", b"type=text/html&" + query, query + query, query.upper()):
        with pytest.raises(SignatureInvalid):
            SIGNER.show(ASSET, other)


def test_another_installation_and_another_purpose_sign_otherwise() -> None:
    other = Signer("a secret of another installation")
    fields, _ = other.form(KEY, EXPECTED, seconds=60)
    with pytest.raises(SignatureInvalid):
        SIGNER.admit(fields)
    # What is signed as a link is no form, even where the text is the same.
    signed = SIGNER.sign("link", fields["policy"].encode()).decode()
    with pytest.raises(SignatureInvalid):
        SIGNER.admit(fields | {"x-pulse-signature": signed})


@given(filename=st.text(max_size=80))
def test_every_name_makes_a_header_of_one_line_in_plain_ascii(filename: str) -> None:
    value = attachment(filename)
    assert value.startswith('attachment; filename="')
    assert value.isascii()
    assert value.isprintable()
    assert value.count('"') == 2


@pytest.mark.parametrize(
    ("filename", "value"),
    [
        ("cat.png", "attachment; filename=\"cat.png\"; filename*=UTF-8''cat.png"),
        ("صورة.jpg", "attachment; filename=\"_.jpg\"; filename*=UTF-8''%D8%B5%D9%88%D8%B1%D8%A9.jpg"),
        ('a"b\\c.txt', "attachment; filename=\"a_b_c.txt\"; filename*=UTF-8''a_b_c.txt"),
        ("../../etc/passwd", "attachment; filename=\"_.._etc_passwd\"; filename*=UTF-8''_.._etc_passwd"),
        ("a\r\nSet-Cookie: x=1", "attachment; filename=\"aSet-Cookie_ x=1\"; filename*=UTF-8''aSet-Cookie_%20x%3D1"),
        ("photo\u202egpj.exe", "attachment; filename=\"photogpj.exe\"; filename*=UTF-8''photogpj.exe"),
        ("100%.txt", "attachment; filename=\"100_.txt\"; filename*=UTF-8''100%25.txt"),
        ("", "attachment; filename=\"file\"; filename*=UTF-8''file"),
        (" .. ", "attachment; filename=\"file\"; filename*=UTF-8''file"),
    ],
)
def test_a_name_is_served_so_that_it_leads_nowhere_and_hides_nothing(filename: str, value: str) -> None:
    assert attachment(filename) == value


def test_the_facts_of_a_refusal_are_told_in_both_languages() -> None:
    error: PulseError = UploadTypeWrong(field="Content-Type", expected="image/png")
    assert "image/png" in error.text("ar")
    assert "image/png" in error.text("en")
