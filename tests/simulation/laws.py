"""The laws of the queue, by name: what holds whatever its clients, its workers and its server do."""

from enum import StrEnum


class Law(StrEnum):
    """A law and what it says. Where Redis lost something, what the tender has yet to mend is excused, and named."""

    NOTHING_LOST = "A live job waits, is deferred, runs under a lease, or is queued by the next rounds of the tender."
    KNOWN = "The queue knows the jobs that were put on it and are not over, and says of no other that it does."
    GONE = "A job that is over, or was taken off, is not handed out."
    ENQUEUED_ONCE = "A job that is on the queue is handed out once, however often it is put there."
    ONE_OWNER = "A job under a lease is given to nobody else."
    TAKEN_AGAIN = "A renewal extends each lease of its worker, and takes those again that nobody has."
    NO_ZOMBIE = "Who lost a lease is told so, and changes nothing."
    ENDED_ONCE = "A job ends once, and no attempt begins after its end."
    WHOLE = "A job is handed out with what is to be called."
    TOLD = "A job is handed out with how often it was tried, and how often it lost its worker."
    DEFERRED = "Nothing is handed out before it is due."
    ORDER = "Jobs of one account, kind and lane start in the order in which they came, apart from those given back."
    DEAD_FIRST = "What comes back from a worker, dead or stopping, goes before its account's other jobs."
    FAIR = "Of the accounts of one kind and lane whose jobs may run, none is a turn and more ahead of another."
    KINDS = "A kind whose jobs may run is not passed over for three rounds of its lane's kinds."
    LANES = "The batch lane gets its minimum of turns, and the interactive lane goes first in all others."
    CAPS = "No claim makes more jobs run than the worker asked for, or the caps of accounts and kinds say."
    PAUSED = "A paused queue hands out nothing, and workers are told the slots that operators give them."
    SETTLED = "A server that forgot what was heard, or heard nobody for half a lease, hands out nothing for a while."
    ALIVE = "A worker with room gets every job that may run."
    WOKEN = "While a job may run and a worker sleeps, a token lies there to wake it, or another one is awake."
    WAIT = "A worker is never told to sleep beyond the next moment at which there is something to do."
    COUNTS = "The counters of running jobs say what the leases say."
    SHOWN = "Operators are shown as many jobs as there are."
    CLEAN = "When all jobs are over, nothing is left but what is bounded: a token, a turn, statistics, control."

    def holds(self, condition: object, *details: object) -> None:
        """Raise `Broken` unless it does."""
        if not condition:
            raise Broken(self, details)


class Broken(AssertionError):
    """A law does not hold."""

    def __init__(self, law: Law, details: tuple[object, ...]) -> None:
        """Name the law, and what was seen."""
        super().__init__(f"{law.name}: {law.value} {' '.join(map(str, details))}")
        self.law = law
