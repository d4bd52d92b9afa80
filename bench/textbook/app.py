"""`python app.py setup ACCOUNTS JOBS | serve PORT`: jobs with a quota, as a careful engineer writes them by hand.

FastAPI, SQLAlchemy's ORM, stock arq and sse-starlette on uvicorn. Its servers are TEXTBOOK_DATABASE_URL and
TEXTBOOK_REDIS_URL. `setup` makes the tables, accounts with a key each and jobs spread over them, and prints both.
"""

# Its libraries are only in its own environment, which pyright does not see.
# pyright: basic, reportMissingImports=false, reportInvalidTypeForm=false

import asyncio
import hashlib
import json
import os
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID, uuid4

import redis.asyncio as aioredis
import uvicorn
from arq import create_pool
from arq.connections import RedisSettings
from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import BigInteger, CheckConstraint, DateTime, ForeignKey, Index, func, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sse_starlette import EventSourceResponse, ServerSentEvent

TERMINAL = {"succeeded", "failed", "canceled", "expired"}
GRANTED = 10**15


class Base(DeclarativeBase):
    """Base of the tables."""

    type_annotation_map = {datetime: DateTime(timezone=True), int: BigInteger, dict: JSONB}  # noqa: RUF012


class Account(Base):
    """Who may ask."""

    __tablename__ = "accounts"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    email: Mapped[str] = mapped_column(unique=True)
    closed_at: Mapped[datetime | None]


class ApiKey(Base):
    """A key, kept as its hash."""

    __tablename__ = "api_keys"
    hash: Mapped[bytes] = mapped_column(primary_key=True)
    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"))
    revoked_at: Mapped[datetime | None]


class Balance(Base):
    """What an account may spend."""

    __tablename__ = "balances"
    __table_args__ = (CheckConstraint("held + used <= granted"),)
    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    granted: Mapped[int]
    held: Mapped[int] = mapped_column(default=0)
    used: Mapped[int] = mapped_column(default=0)


class Job(Base):
    """What was asked."""

    __tablename__ = "jobs"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"))
    kind: Mapped[str]
    state: Mapped[str] = mapped_column(default="queued")
    spec: Mapped[dict]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (Index("ix_jobs_account_id_created_at", "account_id", "created_at"),)
    __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012


class Hold(Base):
    """What is set aside for a job."""

    __tablename__ = "holds"
    job_id: Mapped[UUID] = mapped_column(primary_key=True)
    account_id: Mapped[UUID]
    units: Mapped[int]
    state: Mapped[str] = mapped_column(default="held")


class IdempotencyKey(Base):
    """A caller's own name for a call."""

    __tablename__ = "idempotency_keys"
    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes]
    job_id: Mapped[UUID]


class Strict(BaseModel):
    """Refuses what it does not know."""

    model_config = ConfigDict(extra="forbid")


class Message(Strict):
    """One turn."""

    role: Literal["system", "user", "assistant"]
    content: Annotated[str, Field(min_length=1, max_length=200_000)]


class ChatInput(Strict):
    """A conversation."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=256)]
    model: Annotated[str, Field(max_length=128)] = "auto"
    max_output_tokens: Annotated[int, Field(ge=1, le=128_000)] = 1024
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None


class JobIn(Strict):
    """A request."""

    kind: Literal["chat"]
    input: ChatInput
    metadata: dict[str, str] = {}
    priority: Literal["interactive", "batch"] = "interactive"

    def units(self) -> int:
        """Return the most that it can cost."""
        return sum(len(message.content.encode()) + 16 for message in self.input.messages) + self.input.max_output_tokens


class JobOut(BaseModel):
    """A job as its account sees it."""

    model_config = ConfigDict(from_attributes=True)
    id: UUID
    kind: str
    state: str
    spec: dict
    created_at: datetime


class Submitted(BaseModel):
    """A job, and what remains of the quota."""

    job: JobOut
    remaining: int


def make_engine():
    """Return the engine; more connections only wait for the same locks and the same disk."""
    return create_async_engine(os.environ["TEXTBOOK_DATABASE_URL"], pool_size=10, max_overflow=0)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Connect."""
    engine = make_engine()
    app.state.sessions = async_sessionmaker(engine, expire_on_commit=False)
    app.state.arq = await create_pool(RedisSettings.from_dsn(os.environ["TEXTBOOK_REDIS_URL"]))
    app.state.redis = aioredis.Redis.from_url(os.environ["TEXTBOOK_REDIS_URL"], decode_responses=True)
    yield
    await app.state.redis.aclose()
    await app.state.arq.aclose()
    await engine.dispose()


app = FastAPI(lifespan=lifespan)
Bearer = Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]


async def find_account(session: AsyncSession, bearer: HTTPAuthorizationCredentials) -> Account:
    """Return whose key it is."""
    digest = hashlib.sha256(bearer.credentials.encode()).digest()
    account = await session.scalar(
        select(Account)
        .join(ApiKey, ApiKey.account_id == Account.id)
        .where(ApiKey.hash == digest, ApiKey.revoked_at.is_(None), Account.closed_at.is_(None))
    )
    if account is None:
        raise HTTPException(401, "this API key is not valid")
    return account


async def find_replayed(session: AsyncSession, account: Account, key: str, fingerprint: bytes) -> Submitted | None:
    """Return what the same call was answered before."""
    known = await session.get(IdempotencyKey, (account.id, key))
    if known is None:
        return None
    if known.fingerprint != fingerprint:
        raise HTTPException(422, "this idempotency key belongs to another request")
    job = await session.get_one(Job, known.job_id)
    balance = await session.get_one(Balance, account.id)
    return Submitted(job=JobOut.model_validate(job), remaining=balance.granted - balance.held - balance.used)


@app.post("/jobs", status_code=202)
async def submit(
    asked: JobIn,
    request: Request,
    bearer: Bearer,
    idempotency_key: Annotated[str | None, Header(max_length=255)] = None,
) -> Submitted:
    """Hold what the job can cost, keep it, and put it on the queue."""
    fingerprint = hashlib.sha256(asked.model_dump_json().encode()).digest()
    try:
        async with request.app.state.sessions.begin() as session:
            account = await find_account(session, bearer)
            if idempotency_key and (before := await find_replayed(session, account, idempotency_key, fingerprint)):
                return before
            balance = await session.get_one(Balance, account.id, with_for_update=True)
            units = asked.units()
            remaining = balance.granted - balance.held - balance.used
            if units > remaining:
                raise HTTPException(402, f"this needs up to {units} units and {remaining} remain")
            balance.held += units
            job = Job(id=uuid4(), account_id=account.id, kind=asked.kind, spec=asked.model_dump(mode="json"))
            session.add_all([job, Hold(job_id=job.id, account_id=account.id, units=units)])
            if idempotency_key:
                named = IdempotencyKey(
                    account_id=account.id, key=idempotency_key, fingerprint=fingerprint, job_id=job.id
                )
                session.add(named)
    except IntegrityError:  # the same call came at the same time
        async with request.app.state.sessions() as session:
            account = await find_account(session, bearer)
            before = await find_replayed(session, account, idempotency_key or "", fingerprint)
            if before is None:
                raise
            return before
    await request.app.state.arq.enqueue_job("run_job", str(job.id), _job_id=str(job.id))
    return Submitted(job=JobOut.model_validate(job), remaining=remaining - units)


@app.get("/jobs/{job_id}/events")
async def events(
    job_id: UUID, request: Request, bearer: Bearer, last_event_id: Annotated[str | None, Header()] = None
) -> EventSourceResponse:
    """Send what the job says, from the last event that the client has seen."""
    async with request.app.state.sessions() as session:  # given back before the stream begins
        account = await find_account(session, bearer)
        job = await session.get(Job, job_id)
    if job is None or job.account_id != account.id:
        raise HTTPException(404, "there is no such job")
    return EventSourceResponse(follow(request.app.state.redis, job_id, last_event_id or "0"), ping=15)


async def follow(redis: aioredis.Redis, job_id: UUID, last: str) -> AsyncIterator[ServerSentEvent]:
    """Yield a job's events until the terminal one."""
    stream = f"events:{job_id}"
    while True:
        for _, entries in await redis.xread({stream: last}, count=100, block=15_000):
            for entry_id, fields in entries:
                last = entry_id
                yield ServerSentEvent(id=entry_id, event=fields["type"], data=fields["data"])
                if fields["type"] in TERMINAL:
                    return


async def setup(accounts: int, jobs: int) -> dict[str, list[str]]:
    """Make the tables, accounts and jobs; return the keys, and the ids of jobs: the nth is of the nth account."""
    engine = make_engine()
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    keys = [f"textbook_{secrets.token_urlsafe(32)}" for _ in range(accounts)]
    async with async_sessionmaker(engine, expire_on_commit=False).begin() as session:
        made = [Account(id=uuid4(), email=f"{number}@example.com") for number in range(accounts)]
        session.add_all(made)
        await session.flush()
        for account, key in zip(made, keys, strict=True):
            session.add(ApiKey(hash=hashlib.sha256(key.encode()).digest(), account_id=account.id))
            session.add(Balance(account_id=account.id, granted=GRANTED))
        waiting = [Job(id=uuid4(), account_id=made[turn % accounts].id, kind="chat", spec={}) for turn in range(jobs)]
        session.add_all(waiting)
    await engine.dispose()
    return {"keys": keys, "jobs": [str(job.id) for job in waiting]}


def main() -> None:
    """Set up, or serve until told to stop."""
    if sys.argv[1] == "setup":
        print(json.dumps(asyncio.run(setup(int(sys.argv[2]), int(sys.argv[3])))))
        return
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[2]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
        timeout_keep_alive=75,
    )


if __name__ == "__main__":
    main()
