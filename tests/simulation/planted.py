"""Defects to plant in the queue's scripts, and the laws that must catch them."""

from collections.abc import Generator
from contextlib import contextmanager
from unittest.mock import patch

from msgspec import Struct

from infra import queue
from tests.simulation.laws import Law


class Defect(Struct, frozen=True):
    """Text of a script that is replaced, and the laws of which the first to be broken is one.

    A `rare` one shows after dozens of runs only.
    """

    name: str
    file: str
    right: str
    wrong: str
    caught_by: tuple[Law, ...]
    rare: bool = False

    @contextmanager
    def planted(self) -> Generator[None]:
        """Give the queue its scripts with this defect, in a block. Fails when the script reads otherwise by now."""
        sound = queue.source
        shared = self.file == "common.lua"  # stands before all others
        text = sound() if shared else sound(self.file)
        assert text.count(self.right) == 1, f"{self.file} has not once: {self.right}"

        def source(*files: str) -> str:
            text = sound(*files)
            return text.replace(self.right, self.wrong) if shared or self.file in files else text

        with patch.object(queue, "source", source):
            yield


DEFECTS = [
    Defect(
        "whoever says that a job is over is believed",
        "finish.lua",
        "owned[i] ~= worker or seen[id]",
        "seen[id]",
        (Law.NO_ZOMBIE,),
    ),
    Defect(
        "a renewal extends nothing",
        "renew.lua",
        "redis.call('ZADD', base .. 'leases', now + lease, id)",
        "",
        (Law.ONE_OWNER, Law.TAKEN_AGAIN, Law.COUNTS, Law.WAIT),
    ),
    Defect(
        "a renewal takes nothing again",
        "renew.lua",
        "if other and tonumber(redis.call('ZSCORE', base .. 'leases', id) or 0) > now then",
        "if owner ~= worker then",
        (Law.TAKEN_AGAIN,),
    ),
    Defect(
        "a renewal takes what another has",
        "renew.lua",
        "if other and tonumber(redis.call('ZSCORE', base .. 'leases', id) or 0) > now then",
        "if false then",
        (Law.NO_ZOMBIE,),
    ),
    Defect(
        "a server that came back old hands out what runs",
        "claim.lua",
        "if unsettled > 0 then",
        "if false then",
        (Law.SETTLED,),
    ),
    Defect(
        "a renewal hides that its server came back old",
        "renew.lua",
        "settling(base, worker, now, lease, tonumber(ARGV[6]), tonumber(ARGV[7]))",
        "",
        (Law.SETTLED,),
    ),
    Defect(
        "what is lost is not told to the tender",
        "lost.lua",
        "lost[#lost + 1] = id",
        "",
        (Law.KNOWN,),
    ),
    Defect(
        "a job that Redis has forgotten is handed out",
        "common.lua",
        "return not said and redis.call('EXISTS', 'arq:job:' .. id) == 0",
        "return false",
        (Law.WHOLE, Law.KNOWN, Law.TAKEN_AGAIN),
    ),
    Defect(
        "a job that Redis has forgotten comes back from the dead",
        "claim.lua",
        "if is_forgotten(whose[i], id) then",
        "if false then",
        (Law.GONE, Law.SHOWN),
    ),
    Defect(
        "what is to be called is not said",
        "claim.lua",
        "definitions[i] or ''",
        "''",
        (Law.WHOLE,),
    ),
    Defect(
        "a finished job counts as running",
        "finish.lua",
        "add(changes, -1, kind, account)",
        "",
        (Law.COUNTS, Law.ALIVE, Law.CLEAN),
    ),
    Defect(
        "nobody is woken for a new job",
        "enqueue.lua",
        "wake(base)\nreturn added",
        "return added",
        (Law.WOKEN,),
    ),
    Defect(
        "nobody is woken for what a full worker leaves",
        "claim.lua",
        "> 0 then wake(base) end",
        "> 0 then end",
        (Law.WOKEN,),
    ),
    Defect(
        "accounts have no cap",
        "claim.lua",
        "if account_cap > 0 then turn =",
        "if false then turn =",
        (Law.CAPS,),
    ),
    Defect(
        "kinds have no cap",
        "claim.lua",
        "most = math.min(most, room(",
        "math.min(most, room(",
        (Law.CAPS,),
    ),
    Defect(
        "an account that was served is not served again",
        "claim.lua",
        "back[#back + 1] = account end",
        "end",
        (Law.ALIVE,),
    ),
    Defect(
        "an account that was served is served first again",
        "claim.lua",
        "redis.call('RPUSH', ring, unpack(back))",
        "redis.call('LPUSH', ring, unpack(back))",
        (Law.FAIR, Law.ALIVE),
    ),
    Defect(
        "an account stays in the ring without a job",
        "forget.lua",
        "if redis.call('EXISTS', list) == 0",
        "if false",
        (Law.FAIR, Law.CLEAN, Law.CAPS),
    ),
    Defect(
        "what is not due waits like any other",
        "enqueue.lua",
        "due > now and due or due - SHIFT",
        "due - SHIFT",
        (Law.DEFERRED, Law.WAIT, Law.ALIVE),
    ),
    Defect(
        "what is there is put there again",
        "enqueue.lua",
        "if not known[i] and not seen[id] then",
        "if not seen[id] then",
        (Law.ENQUEUED_ONCE,),
    ),
    Defect(
        "the last come is the first",
        "enqueue.lua",
        "line_up(base, 'RPUSH'",
        "line_up(base, 'LPUSH'",
        (Law.ORDER,),
    ),
    Defect(
        "a dead worker's jobs wait behind the others",
        "claim.lua",
        "line_up(base, 'LPUSH'",
        "line_up(base, 'RPUSH'",
        (Law.DEAD_FIRST,),
    ),
    Defect(
        "a dead worker keeps its jobs",
        "claim.lua",
        "if #dead > 0 then",
        "if false then",
        (Law.ALIVE, Law.SHOWN, Law.DEAD_FIRST),
    ),
    Defect(
        "a lost worker is not counted",
        "claim.lua",
        "redis.call('HINCRBY', base .. 'losses', id, 1)",
        "",
        (Law.TOLD,),
    ),
    Defect(
        "the batch lane has no minimum",
        "claim.lua",
        "if for_batch > 0 then",
        "if false then",
        (Law.LANES, Law.KINDS),
        rare=True,
    ),
    Defect(
        "the batch lane goes first",
        "claim.lua",
        "if for_batch > 0 then",
        "if true then for_batch = left end if true then",
        (Law.LANES,),
        rare=True,
    ),
    Defect(
        "the same kind of a lane goes first always",
        "claim.lua",
        "kinds[(i + turn) % #kinds + 1]",
        "kinds[i]",
        (Law.KINDS,),
        rare=True,
    ),
    Defect(
        "a paused queue goes on",
        "claim.lua",
        "if control.paused ~= '1' then",
        "if true then",
        (Law.PAUSED,),
        rare=True,
    ),
    Defect(
        "a worker sleeps while a lease runs out",
        "claim.lua",
        "sooner(tonumber(redis.call('ZRANGE', leases",
        "tonumber((redis.call('ZRANGE', leases",
        (Law.WAIT,),
    ),
    Defect(
        "a job that was taken off is still known",
        "forget.lua",
        "redis.call('ZREM', queue, id)",
        "",
        (Law.KNOWN, Law.SHOWN, Law.ENQUEUED_ONCE),
    ),
    Defect(
        "whatever stands in a list is handed out",
        "claim.lua",
        "if score < 0 and score >= -SHIFT and not taken[id] then",
        "if not taken[id] then",
        (Law.ONE_OWNER, Law.GONE),
        rare=True,
    ),
    Defect(
        "whose a job was is kept for ever",
        "finish.lua",
        "redis.call('HDEL', base .. 'who', unpack(over))",
        "",
        (Law.CLEAN,),
    ),
    Defect(
        "what runs is shown as waiting",
        "overview.lua",
        "redis.call('ZCOUNT', queue, -SHIFT, '(0')",
        "redis.call('ZCOUNT', queue, '-inf', '(0')",
        (Law.SHOWN, Law.ENQUEUED_ONCE, Law.TAKEN_AGAIN),
    ),
]
