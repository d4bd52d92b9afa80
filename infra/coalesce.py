"""Concurrent calls become one: what is asked while a flush is under way goes out together in the next one.

There is no timer: a lone call is flushed at once, and the busier it gets the larger the flushes are.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence


class Coalescer[Item, Answer]:
    """Gathers items and hands them to `flush`, at most `most` at a time, one flush after the other.

    `flush` answers every item in order. When it raises one of `passing`, nothing is known of any item and every caller
    gets the error, to ask again. Any other error is some item's own fault: the flush is halved until the item stands
    alone, so that its neighbours are answered.
    """

    def __init__(
        self,
        flush: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]],
        *,
        most: int,
        passing: tuple[type[Exception], ...] = (),
    ) -> None:
        """Start with nothing to do."""
        self._flush = flush
        self._most = most
        self._passing = passing
        self._waiting: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._flushing: asyncio.Task[None] | None = None

    async def ask(self, item: Item) -> Answer:
        """Return the answer to `item`, from the flush that it went out with."""
        return await self.put(item)

    def put(self, item: Item) -> "asyncio.Future[Answer]":
        """Take `item` and return its answer to come; it goes out whether or not anybody waits for that."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._work())
        return future

    async def _work(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            await self._answer(batch)

    async def _answer(self, batch: list[tuple[Item, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._flush([item for item, _ in batch])
        except self._passing as error:
            self._fail(batch, error)
        except Exception as error:  # noqa: BLE001 (told to the caller whose item it is)
            if len(batch) == 1:
                self._fail(batch, error)
                return
            middle = len(batch) // 2
            await self._answer(batch[:middle])
            await self._answer(batch[middle:])
        except BaseException as error:
            self._fail(batch, error)  # the process is going down: nobody may wait for ever
            raise
        else:
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)

    @staticmethod
    def _fail(batch: list[tuple[Item, asyncio.Future[Answer]]], error: BaseException) -> None:
        for _, future in batch:
            if not future.done():
                future.set_exception(error)
