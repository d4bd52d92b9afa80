"""One try of one arq job: decoded, called under its timeout, and turned into what becomes of it."""

import asyncio
from typing import Any

import structlog
from arq.constants import keep_cronjob_progress
from arq.cron import CronJob
from arq.jobs import DeserializationError, deserialize_job_raw, serialize_result
from arq.utils import ms_to_datetime, timestamp_ms
from arq.worker import Function, JobExecutionFailed, Retry, RetryJob, Worker

from infra.queue import Claimed, Ended

log = structlog.stdlib.get_logger()


class Trial:
    """A claimed job in a worker's hands."""

    def __init__(self, worker: Worker, losing: set[str], job: Claimed) -> None:
        """Prepare to run `job` for `worker`; of the jobs in `losing` nothing is to become here."""
        self._worker = worker
        self._losing = losing
        self._job = job
        self._name, self._args, self._kwargs = "<unknown>", tuple[Any, ...](), dict[Any, Any]()
        self._enqueued_ms = 0
        self._try = job.attempt
        self._started_ms = timestamp_ms()
        #: What the hooks are given; None until the function is known.
        self.ctx: dict[Any, Any] | None = None

    async def run(self) -> Ended | None:
        """Return what becomes of the job, or None when it belongs to another worker by now."""
        refusal = self._read()
        if refusal is not None:
            return self._failed(refusal, None)
        function = self._worker.functions[self._name]
        most = self._worker.max_tries if function.max_tries is None else function.max_tries
        if self._try > most:
            return self._failed(JobExecutionFailed(f"max {most} retries exceeded"), function)
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

    def aborted(self) -> Ended:
        """Return what becomes of a job that was aborted before it started."""
        self._read()
        return self._failed(asyncio.CancelledError(), None)

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
        task = asyncio.ensure_future(function.coroutine(self.ctx or {}, *self._args, **self._kwargs))
        worker.job_tasks[job_id] = task
        try:
            result = await asyncio.wait_for(task, timeout_s)
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
            return Ended(job_id, "again", error.defer_score or 0)
        aborted = job_id in worker.aborting_tasks
        worker.aborting_tasks.discard(job_id)
        if worker.retry_jobs and isinstance(error, asyncio.CancelledError | RetryJob) and not aborted:
            worker.jobs_retried += 1
            return Ended(job_id, "again")
        if not aborted:
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
        if not for_ever and keep_s <= 0:
            return Ended(self._job.id, "over", keep_progress_s=self._progress_s(function))
        kept = serialize_result(
            self._name,
            self._args,
            self._kwargs,
            self._try,
            self._enqueued_ms,
            success,
            result,
            self._started_ms,
            timestamp_ms(),
            f"{self._job.id}:{self._name}",
            worker.queue_name,
            job_id=self._job.id,
            serializer=worker.job_serializer,
        )
        ms = 0 if for_ever else int(keep_s * 1000)
        return Ended(self._job.id, "over", ms, kept or b"", keep_progress_s=self._progress_s(function))

    @staticmethod
    def _progress_s(function: Function | CronJob | None) -> int:
        """Keep a cron job's mark for a minute, so that another worker's clock does not start the same one again."""
        return keep_cronjob_progress if isinstance(function, CronJob) else 0
