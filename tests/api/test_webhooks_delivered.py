"""Webhooks the whole way: made over HTTP, told by the delivering process, verified, rotated, recovered."""

from collections.abc import AsyncGenerator

import pytest
from httpx2 import AsyncClient as Client
from standardwebhooks import Webhook, WebhookVerificationError

from api.app import create_app
from infra.ground import Ground
from tests.support.hooks import delivering, hurry, loopback, until_over
from tests.support.receivers import Receiver
from tests.support.serving import PLAIN, serving
from tests.support.strangers import answer

pytestmark = pytest.mark.reused


@pytest.fixture
def near(ground: Ground) -> Ground:
    """The ground, on which what listens on loopback may be told."""
    return loopback(ground)


@pytest.fixture
async def told(near: Ground, key: str) -> AsyncGenerator[Client]:
    """A client of the API on that ground."""
    headers = {"Authorization": f"Bearer {key}"}
    app = create_app(near.settings)
    async with (
        serving(app, near.settings.port) as url,
        Client(base_url=url, headers=headers, timeout=30, verify=PLAIN) as client,
    ):
        yield client


async def test_an_endpoint_is_tested_rotated_and_sent_again_and_every_message_verifies(
    told: Client, near: Ground
) -> None:
    async with Receiver.serving() as receiver, delivering(near):
        made = (await told.post("/v1/webhooks", json={"url": receiver.url, "events": ["quota.*"]})).json()
        test = (await told.post(made["urls"]["test"])).json()
        first = (await receiver.got(1))[0]
        assert first.id == test["message"]
        said = Webhook(made["secret"]).verify(first.body, first.headers)
        assert (said["type"], said["data"]["id"]) == ("webhook.test", made["id"])
        await until_over(near, 1)
        (delivery,) = (await told.get(test["deliveries"])).json()["deliveries"]
        assert (delivery["state"], delivery["status"], delivery["tries"]) == ("delivered", 204, 1)
        shown = (await told.get(delivery["urls"]["self"])).json()
        assert shown["body"].encode() == first.body
        assert [each["status"] for each in shown["log"]] == [204]
        rotated = (await told.post(made["urls"]["rotate"])).json()
        again = (await told.post(delivery["urls"]["replay"])).json()
        second = (await receiver.got(2))[1]
        assert (second.id, second.body, again["replay_of"]) == (first.id, first.body, delivery["id"])
        for secret in (made["secret"], rotated["secret"]["secret"]):
            Webhook(secret).verify(second.body, second.headers)
        own = (await told.get("/v1/webhooks/secret")).json()["secrets"][0]["secret"]
        with pytest.raises(WebhookVerificationError):
            Webhook(own).verify(second.body, second.headers)


async def test_what_an_endpoint_refused_for_good_is_recovered_when_it_is_back(told: Client, near: Ground) -> None:
    async with Receiver.serving(answer(status="410 Gone"), answer(status="204 No Content")) as receiver:
        async with delivering(near):
            made = (await told.post("/v1/webhooks", json={"url": receiver.url})).json()
            test = (await told.post(made["urls"]["test"])).json()
            await until_over(near, 1)
        off = (await told.get(made["urls"]["self"])).json()
        assert (off["enabled"], off["disabled"]["code"]) == (False, "gone")
        await told.patch(made["urls"]["self"], json={"enabled": True})
        since = {"since": made["created_at"]}
        assert (await told.post(made["urls"]["recover"], json=since)).json() == {"recovered": 1, "more": False}
        async with delivering(near):
            await hurry(near)
            back = (await receiver.got(2))[1]
            await until_over(near, 2)
        assert back.id == test["message"]
        assert (await told.post(made["urls"]["recover"], json=since)).json() == {"recovered": 0, "more": False}
        assert (await told.get(made["urls"]["self"])).json()["failing_since"] is None
