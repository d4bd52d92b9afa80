"""The way to Redis: pipelines of scripts."""

from uuid import uuid4

from infra import overview
from infra import redis as road
from infra.ground import Ground


async def test_a_server_that_has_forgotten_the_scripts_of_a_pipeline_learns_them(ground: Ground) -> None:
    for _ in range(2):
        await ground.redis.script_flush()
        told = await road.execute(
            ground.redis, lambda pipe: ground.overseer.add_places(pipe, "chat", [str(uuid4())] * 2)
        )
        assert overview.read(told[0]) == [None, None]
