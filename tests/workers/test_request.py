"""What all kinds take: checked before it costs anything, kept in its own columns, and given back as it came."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from infra.errors import PulseError
from infra.ground import Ground
from infra.models import Account
from infra.settings import Settings
from tests.support.chats import Client, chat, submit
from tests.support.lives import asked, job_of, submit_all
from workers import dead, kinds, lifecycle
from workers.desk import Desk
from workers.lifecycle import End, Submitted

HOOK = "https://hooks.example.com/pulse?token=7"
HERE = Settings(env="development", fetch_allow="10.1.0.0/16")
LIVE = Settings(env="production")


def refusal(settings: Settings, webhook: str) -> PulseError | None:
    """Return the fact that refuses a webhook, if one does."""
    try:
        msgspec.convert(chat("hi") | {"webhook": webhook}, kinds.SPECS["chat"]).check(settings)
    except PulseError as error:
        return error
    return None


@pytest.mark.parametrize(
    ("webhook", "in_production", "elsewhere"),
    [
        (HOOK, None, None),
        ("https://أمثلة.example.com/خطاف", None, None),
        ("https://93.184.215.14/hook", None, None),
        ("http://hooks.example.com/", "scheme_not_allowed", None),
        ("https://hooks.example.com:8443/", "port_not_allowed", None),
        ("https://hooks.example.com:0/", "port_not_allowed", "port_not_allowed"),
        ("https://hooks.example.com:65536/", "port_not_allowed", "port_not_allowed"),
        ("http://10.1.2.3:9000/hook", "scheme_not_allowed", None),
        ("https://10.1.2.3/hook", "address_not_allowed", None),
        ("https://10.2.0.1/hook", "address_not_allowed", "address_not_allowed"),
        ("https://[::1]/hook", "address_not_allowed", "address_not_allowed"),
        ("https://169.254.169.254/latest", "address_not_allowed", "address_not_allowed"),
        ("https://localhost/hook", "host_not_allowed", "host_not_allowed"),
        ("https://0x7f000001/hook", "host_not_allowed", "host_not_allowed"),
        ("ftp://hooks.example.com/", "scheme_not_allowed", "scheme_not_allowed"),
        ("https://layla:secret@hooks.example.com/", "url_not_valid", "url_not_valid"),
        ("https://layla@hooks.example.com/", "url_not_valid", "url_not_valid"),
        ("https://hooks.example.com/#end", "fragment_not_allowed", "fragment_not_allowed"),
        ("https://hooks.example.com/a b", "url_not_valid", "url_not_valid"),
        ("hooks.example.com", "url_not_valid", "url_not_valid"),
        ("", "url_not_valid", "url_not_valid"),
    ],
)
def test_a_webhook_is_the_address_of_a_public_server(
    webhook: str, in_production: str | None, elsewhere: str | None
) -> None:
    for settings, code in ((LIVE, in_production), (HERE, elsewhere)):
        error = refusal(settings, webhook)
        assert (error and error.code) == code
        if error is not None:
            assert error.facts["field"] == "webhook"
            assert all("webhook" in error.text(language) for language in ("en", "ar"))


async def test_what_is_asked_beside_the_kind_is_kept_in_columns_of_its_own(ground: Ground, account: Account) -> None:
    batch = account.id  # any id will do
    submission = asked(account, timeout=40, webhook=HOOK)
    submission = msgspec.structs.replace(submission, batch_id=batch, cancel_after_s=90.0)
    (made, plain) = await submit_all(ground, [submission, asked(account)])
    assert isinstance(made, Submitted)
    assert isinstance(plain, Submitted)
    job = await job_of(ground, made.job.id)
    by = job.created_at + timedelta(seconds=90)
    for told in (job, made.job):
        assert (told.timeout_s, told.webhook, told.batch_id, told.cancel_by) == (40, HOOK, batch, by)
    assert set(job.spec) == {"kind", "input"}
    other = await job_of(ground, plain.job.id)
    assert (other.timeout_s, other.webhook, other.batch_id, other.cancel_by) == (None, None, None, None)


async def test_another_go_is_under_the_same_conditions(ground: Ground, account: Account) -> None:
    (made,) = await submit_all(ground, [asked(account, timeout=40, webhook=HOOK)])
    assert isinstance(made, Submitted)
    await lifecycle.claim(ground, [made.job.id])
    reason = lifecycle.failure(lifecycle.JobAbandoned())
    await lifecycle.finish(ground, [End(job_id=made.job.id, attempt=1, state="failed", error=reason)])
    again = await dead.replay(ground, Desk(ground), account, made.job.id)
    assert (again.job.timeout_s, again.job.webhook, again.job.replay_of) == (40, HOOK, made.job.id)


async def test_the_largest_metadata_in_arabic_comes_back_as_it_was_given(client: Client) -> None:
    metadata = {f"{n:02}{'ع' * 62}": ("نصٌّ 😀 " * 74)[:512] for n in range(16)}
    job = await submit(client, chat("hi") | {"metadata": metadata})
    shown: dict[str, Any] = (await client.get(job["urls"]["self"])).json()
    assert shown["metadata"] == metadata
