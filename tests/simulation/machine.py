"""The simulation: any deeds in any order, at a virtual time, on the real server; after each of them the laws hold."""

import sys
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from infra.queue import Lane
from tests.simulation.deeds import DEEDS, OPERATE, WORKERS, Deed
from tests.simulation.valkey import Valkey
from tests.simulation.world import KINDS, World

_LANES: list[tuple[Lane, ...]] = [("interactive",), ("batch",), ("interactive", "batch"), ("interactive", "batch")]


class Simulation(RuleBasedStateMachine):
    """One run. The deeds are one rule, so that none of the usual ones is ever left out of a run."""

    def __init__(self, valkey: Valkey) -> None:
        """Begin with an empty server and idle workers."""
        super().__init__()
        self._world = World(valkey, WORKERS)

    @initialize(
        accounts=st.integers(1, 3),
        kinds=st.integers(1, len(KINDS)),
        lanes=st.sampled_from(_LANES),
        batch_every=st.sampled_from([2, 2, 3, 8]),
        account_cap=st.sampled_from([0, 0, 2]),
        told=st.none() | OPERATE,
        backlog=st.sampled_from([0, 1, 3, 8]),
    )
    def start(
        self,
        accounts: int,
        kinds: int,
        lanes: tuple[Lane, ...],
        batch_every: int,
        account_cap: int,
        told: Deed | None,
        backlog: int,
    ) -> None:
        """Choose whose jobs there are and of which kinds and lanes, and what the workers are started with; they sleep
        when the first jobs come.
        """
        world = self._world
        world.lines = [
            (lane, kind, UUID(int=n + 1)) for lane in lanes for kind in KINDS[:kinds] for n in range(accounts)
        ]
        world.account_cap, world.batch_every = account_cap, batch_every
        if told is not None:
            told.do(world)
        for hand in world.hands:
            world.claim(hand, 1)
        for line in range(len(world.lines) if backlog else 0):
            world.enqueue([world.submit(line) for _ in range(backlog)])

    @rule(deed=DEEDS)
    def step(self, deed: Deed) -> None:
        """Do something, then look at the whole."""
        deed.do(self._world)
        self._world.look()

    def teardown(self) -> None:
        """Let everything come to its end, unless the run was cut short."""
        try:
            if sys.exc_info()[0] is None:
                self._world.settle()
        finally:
            self._world.close()
