"""Who takes part in `bench sse`: the jobs that speak, who views them, and how the two sides are brought together."""

from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from uuid import UUID

import msgspec
from msgspec import Struct

from bench.stage import crowd, servers
from bench.stage.child import Child
from bench.stage.emitter import Begin, Said, Speaker
from bench.stage.ledger import INPUT
from bench.stage.servers import Served, Stage
from bench.stage.viewers import Drop, Open, Opened, Recount, Recounted, Seen, Until
from infra import ground
from infra.errors import PulseError
from infra.settings import Settings
from quotas import accounts
from tests.support.process import environ
from workers import lifecycle
from workers.chat.spec import Chat, ChatInput
from workers.lifecycle import Submission

_AT_ONCE = 200
_LONGEST_S = 600.0


class Jobs(Struct, frozen=True, kw_only=True):
    """Jobs of one of the two: the nth is of the nth key, over again; `redis` is the textbook's."""

    speakers: list[Speaker]
    keys: list[str]
    redis: str = ""

    def first(self, count: int) -> "Jobs":
        """Return the first so many."""
        return msgspec.structs.replace(self, speakers=self.speakers[:count])


async def admit(settings: Settings, keys: list[str], count: int) -> Jobs:
    """Admit so many jobs of ours, of the crowd's accounts in turn. Raises what refuses one."""
    request = Chat(input=msgspec.convert(INPUT, ChatInput))
    speakers: list[Speaker] = []
    async with ground.opened(settings) as opened:
        async with opened.database.begin() as session:
            found = [await accounts.find(session, crowd.email(number)) for number in range(len(keys))]
        members = [account for account in found if account is not None]
        for start in range(0, count, _AT_ONCE):
            asked = [
                Submission(account=members[turn % len(members)], request=request)
                for turn in range(start, min(count, start + _AT_ONCE))
            ]
            for submission, answer in zip(asked, await lifecycle.admit(opened, asked), strict=True):
                if isinstance(answer, PulseError):
                    raise answer
                speakers.append(Speaker(answer.job.id, submission.account.id))
    return Jobs(speakers=speakers, keys=keys)


def of_textbook(set_up: Stage, count: int) -> Jobs:
    """Make so many jobs of the textbook."""
    made = set_up.set_textbook_up(accounts=10, jobs=count)
    nobody = UUID(int=0)
    speakers = [Speaker(UUID(job), nobody) for job in made.jobs]
    return Jobs(speakers=speakers, keys=made.keys, redis=set_up.textbook_redis)


class Play:
    """Viewers and the jobs that they view; all that is heard is counted."""

    def __init__(self, emitter: Child, viewers: Child, opened: Opened) -> None:
        """The viewers are open."""
        self.emitter = emitter
        self._viewers = viewers
        self.viewers = opened.viewers
        self.why = opened.why

    def until(self, seen: int, within_s: float = _LONGEST_S) -> Seen:
        """Wait until all viewers together have seen so many events, or for so long."""
        return self._viewers.ask(Until(seen, within_s), Seen, within_s + _LONGEST_S)

    def drop(self, count: int, within_s: float) -> None:
        """Begin to cut viewers off."""
        self._viewers.ask(Drop(count, within_s), Seen, _LONGEST_S)

    def recount(self, said: int) -> Recounted:
        """Tell how each job's `said` events were seen."""
        return self._viewers.ask(Recount(said), Recounted, _LONGEST_S)

    def order(self, order: object) -> Said:
        """Have the jobs speak, and return when they have."""
        return self.emitter.ask(order, Said, _LONGEST_S)


@contextmanager
def playing(set_up: Stage, served: Served, jobs: Jobs, viewers: int, *, all_of_them: bool) -> Generator[Play]:
    """Open so many viewers of the jobs, as many of each, for the length of a block.

    Raises `RuntimeError` where not `all_of_them` get in and that is asked for.
    """
    turns = range(viewers)
    order = Open(
        port=served.port,
        paths=[f"{served.jobs}/{_of(jobs.speakers, turn).job_id}/events" for turn in turns],
        keys=[_of(jobs.keys, turn % len(jobs.speakers)) for turn in turns],
        numbered=not jobs.redis,
    )
    with ExitStack() as stack:
        emitter = stack.enter_context(Child("bench.stage.emitter", env=environ(set_up.settings)))
        emitter.ask(Begin(jobs.speakers, jobs.redis), Said, _LONGEST_S)
        client = stack.enter_context(Child("bench.stage.viewers"))
        opened = client.ask(order, Opened, _LONGEST_S)
        servers.tell(f"  {served.name}: {opened.viewers} of {viewers} viewers of {len(jobs.speakers)} jobs are in")
        if all_of_them and opened.viewers < viewers:
            raise RuntimeError(
                f"the API of {served.name} let {opened.viewers} of {viewers} viewers in, then none for seconds"
                f"{': ' + opened.why if opened.why else ' (its server may not take more connections)'}"
            )
        yield Play(emitter, client, opened)


def _of[T](members: Sequence[T], turn: int) -> T:
    return members[turn % len(members)]
