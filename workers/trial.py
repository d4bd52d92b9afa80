"""One try of one arq job: decoded, called under its timeout, and turned into what becomes of it."""

import asyncio
from typing import Any

import structlog
from arq.constants import keep_cronjob_progress
from arq.cron import CronJob
from arq.jobs import DeserializationError, deserialize_job_raw, serialize_result
from arq.utils import ms_to_datetime, timestamp_ms
from arq.worker import Function, JobExecutionFailed, Retry, RetryJob, Worker

from infra.queue import MOST_LOSSES, Claimed, Ended

log = structlog.stdlib.get_logger()


class Failed(Exception):
    """Raised by a function that has failed and told of it in its own way: counted, and not logged again."""


class Trial:
    """A claimed job in a worker's hands."""

    def __init__(self, worker: Worker, losing: set[str], job: Claimed) -> None:
        """Prepare to run `job` for `worker`; of the jobs in `losing` nothing is to become here."""
        self._worker = worker
        self._losing = losing
        self._job = job
        self._name = "<unknown>"
        self._args: tuple[Any, ...] = ()
        self._kwargs: dict[Any, Any] = {}
        self._enqueued_ms = 0
        self._try = job.tries + 1
        self._started_ms = timestamp_ms()
        #: What the hooks are given; None until the function is known.
        self.ctx: dict[Any, Any] | None = None

    async def run(self) -> Ended | None:
        """Return what becomes of the job, or None when it belongs to another worker by now."""
        refusal = self._read()
        if refusal is None and self.is_meant(self._job.aborted_ms):
            refusal = asyncio.CancelledError()
        if refusal is not None:
            return self._failed(refusal, None)
        function = self._worker.functions[self._name]
        most = self._worker.max_tries if function.max_tries is None else function.max_tries
        if self._try > most:
            return self._failed(JobExecutionFailed(f"max {most} retries exceeded"), function)
        if self._job.losses >= MOST_LOSSES:
            return self._failed(JobExecutionFailed(f"lost its worker {self._job.losses} times"), function)
        self.ctx = {
            **self._worker.ctx,
            "job_id": self._job.id,
            "job_try": self._try,
            "enqueue_time": ms_to_datetime(self._enqueued_ms),
            "score": self._job.due_ms,
        }
        if self._worker.on_job_start:
            await self._worker.on_job_start(self.ctx)
        ended = await self._call(function)
        if ended is not None and self._worker.on_job_end:
            await self._worker.on_job_end(self.ctx)
        return ended

    def is_meant(self, aborted_ms: float) -> bool:
        """Say whether an abort of this moment was about this job, and not about an earlier one of its id."""
        return aborted_ms >= self._enqueued_ms

    def _read(self) -> Exception | None:
        if self._job.definition is None:
            return JobExecutionFailed("job expired")
        try:
            self._name, self._args, self._kwargs, enqueued_try, self._enqueued_ms = deserialize_job_raw(
                self._job.definition, deserializer=self._worker.job_deserializer
            )
        except DeserializationError as error:
            return error
        self._try = max(self._try, enqueued_try or 0)
        if self._name not in self._worker.functions:
            return JobExecutionFailed(f"function {self._name!r} not found")
        return None

    async def _call(self, function: Function | CronJob) -> Ended | None:
        worker, job_id = self._worker, self._job.id
        timeout_s = worker.job_timeout_s if function.timeout_s is None else function.timeout_s
        self._started_ms = timestamp_ms()
        task = asyncio.current_task()
        assert task is not None, "a trial is run by a task of its own"
        worker.job_tasks[job_id] = task
        try:
            async with asyncio.timeout(timeout_s):
                result = await function.coroutine(self.ctx or {}, *self._args, **self._kwargs)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 (whatever the function raises is its result)
            return self._stopped(error, function)
        finally:
            del worker.job_tasks[job_id]
        worker.jobs_complete += 1
        return self._over(result, function, success=True)

    def _stopped(self, error: BaseException, function: Function | CronJob) -> Ended | None:
        worker, job_id = self._worker, self._job.id
        if job_id in self._losing:
            return None
        if worker.retry_jobs and isinstance(error, Retry):
            worker.jobs_retried += 1
            return Ended(job_id, "again", error.defer_score or 0, tried=self._try)
        aborted = job_id in worker.aborting_tasks
        if worker.retry_jobs and isinstance(error, asyncio.CancelledError | RetryJob) and not aborted:
            worker.jobs_retried += 1
            task = asyncio.current_task()
            # One that nobody asked for is the function's own, and a try: it would come back for ever.
            stopped = isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0
            return Ended(job_id, "back" if stopped else "again", tried=self._try)
        if not aborted and not isinstance(error, Failed):
            log.error("the job failed", job=job_id, function=self._name, exc_info=error)
        return self._failed(error, function)

    def _failed(self, error: BaseException, function: Function | CronJob | None) -> Ended:
        self._worker.jobs_failed += 1
        return self._over(error, function, success=False)

    def _over(self, result: Any, function: Function | CronJob | None, *, success: bool) -> Ended:
        worker = self._worker
        for_ever, keep_s = worker.keep_result_forever, worker.keep_result_s or 0
        if function is not None:
            for_ever = for_ever if function.keep_result_forever is None else function.keep_result_forever
            keep_s = keep_s if function.keep_result_s is None else function.keep_result_s
        progress_s, ended_ms = self._progress_s(function), timestamp_ms()
        took_ms = ended_ms - self._started_ms
        if not for_ever and keep_s <= 0:
            return Ended(self._job.id, "over", keep_progress_s=progress_s, took_ms=took_ms, failed=not success)
        kept = serialize_result(
            self._name,
            self._args,
            self._kwargs,
            self._try,
            self._enqueued_ms,
            success,
            result,
            self._started_ms,
            ended_ms,
            f"{self._job.id}:{self._name}",
            worker.queue_name,
            job_id=self._job.id,
            serializer=worker.job_serializer,
        )
        ms = 0 if for_ever else int(keep_s * 1000)
        return Ended(self._job.id, "over", ms, kept or b"", progress_s, took_ms, not success)

    @staticmethod
    def _progress_s(function: Function | CronJob | None) -> int:
        """Keep a cron job's mark for a minute, so that another worker's clock does not start the same one again."""
        return keep_cronjob_progress if isinstance(function, CronJob) else 0
