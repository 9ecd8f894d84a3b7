# Its packages are those of the delivered service, in an environment of their own: here nothing is known of their types.
# mypy: ignore-errors
"""The service that a careful engineer writes by hand for three operations of the demo's document.

It keeps the same promises as the delivered one: bearer tokens with scopes, validation, problem documents, a correlation
id, one log line and two metrics per request, graceful shutdown. It stands on the usual stack: FastAPI, pydantic models,
and for the rows either SQLAlchemy's ORM (`PEER_ROWS=orm`) or SQL on asyncpg (`PEER_ROWS=asyncpg`).

A program of its own: it runs in the environment of the delivered service's requirements.lock.
"""

import os
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Protocol

import asyncpg
import jwt
import msgspec
import structlog
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import Counter, Histogram, make_asgi_app
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel
from sqlalchemy import DateTime, ForeignKey, func, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = structlog.get_logger()
POOL = 20  # the delivered service's SERVICE_POOL_SIZE and SERVICE_POOL_OVERFLOW together


# --- What travels ---------------------------------------------------------------------------------------------------


class Status(StrEnum):
    AVAILABLE = "available"
    RENTED = "rented"
    MAINTENANCE = "maintenance"
    RETIRED = "retired"


class Model(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, from_attributes=True)


class EquipmentInput(Model):
    name: Annotated[str, StringConstraints(min_length=1, max_length=120)]
    model: Annotated[str, StringConstraints(max_length=120)] | None = None
    category_id: uuid.UUID
    status: Status
    daily_rate: Annotated[int, Field(ge=0, le=10_000_000)]
    tags: Annotated[list[Annotated[str, StringConstraints(min_length=1, max_length=40)]], Field(max_length=20)] = []
    specification: dict[str, Annotated[str, StringConstraints(max_length=200)]] | None = None


class Equipment(EquipmentInput):
    id: uuid.UUID
    created_at: datetime
    updated_at: datetime


class EquipmentPage(Model):
    items: list[Equipment]
    page: int
    limit: int
    total: int


class UnknownCategory(Exception):
    """The category does not exist."""


class Rows(Protocol):
    """Where equipment is kept."""

    async def get(self, key: uuid.UUID) -> Any | None: ...
    async def page(self, limit: int, offset: int) -> tuple[Sequence[Any], int]: ...
    async def add(self, given: EquipmentInput) -> Any: ...
    async def close(self) -> None: ...


# --- Rows by SQLAlchemy's ORM ---------------------------------------------------------------------------------------


class Base(DeclarativeBase):
    type_annotation_map: ClassVar[Mapping[Any, Any]] = {datetime: DateTime(timezone=True)}


class Category(Base):
    __tablename__ = "category"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)


class EquipmentRow(Base):
    __tablename__ = "equipment"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    name: Mapped[str]
    model: Mapped[str | None]
    category_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("category.id"))
    status: Mapped[str]
    daily_rate: Mapped[int]
    tags: Mapped[list[str]] = mapped_column(JSONB)
    specification: Mapped[dict[str, str] | None] = mapped_column(JSONB(none_as_null=True))
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class OrmRows:
    """One session per call; an INSERT relies on the foreign key."""

    def __init__(self, dsn: str) -> None:
        self._engine = create_async_engine(
            dsn.replace("postgresql://", "postgresql+asyncpg://", 1), pool_size=POOL, max_overflow=0
        )
        self._session = async_sessionmaker(self._engine, expire_on_commit=False)

    async def get(self, key: uuid.UUID) -> EquipmentRow | None:
        async with self._session() as session:
            return await session.get(EquipmentRow, key)

    async def page(self, limit: int, offset: int) -> tuple[Sequence[EquipmentRow], int]:
        ordered = select(EquipmentRow).order_by(EquipmentRow.name, EquipmentRow.id).limit(limit).offset(offset)
        async with self._session() as session:
            rows = (await session.scalars(ordered)).all()
            total = await session.scalar(select(func.count()).select_from(EquipmentRow))
        return rows, total or 0

    async def add(self, given: EquipmentInput) -> EquipmentRow:
        now = datetime.now(UTC)
        row = EquipmentRow(**given.model_dump(), id=uuid.uuid4(), created_at=now, updated_at=now)
        try:
            async with self._session.begin() as session:
                session.add(row)
        except IntegrityError as exc:
            raise UnknownCategory from exc
        return row

    async def close(self) -> None:
        await self._engine.dispose()


# --- Rows by SQL on asyncpg -----------------------------------------------------------------------------------------

COLUMNS = "id, name, model, category_id, status, daily_rate, tags, specification, created_at, updated_at"


class AsyncpgRows:
    """One statement per question, each committed by itself."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @classmethod
    async def connect(cls, dsn: str) -> "AsyncpgRows":
        async def prepare(connection: asyncpg.Connection) -> None:
            await connection.set_type_codec(
                "jsonb",
                schema="pg_catalog",
                encoder=lambda value: msgspec.json.encode(value).decode(),
                decoder=msgspec.json.decode,
            )

        return cls(await asyncpg.create_pool(dsn, min_size=1, max_size=POOL, init=prepare))

    async def get(self, key: uuid.UUID) -> Mapping[str, Any] | None:
        return await self._pool.fetchrow(f"SELECT {COLUMNS} FROM equipment WHERE id = $1", key)

    async def page(self, limit: int, offset: int) -> tuple[Sequence[Mapping[str, Any]], int]:
        async with self._pool.acquire() as connection:
            rows = await connection.fetch(
                f"SELECT {COLUMNS} FROM equipment ORDER BY name, id LIMIT $1 OFFSET $2", limit, offset
            )
            return rows, await connection.fetchval("SELECT count(*) FROM equipment")

    async def add(self, given: EquipmentInput) -> Mapping[str, Any] | None:
        try:
            return await self._pool.fetchrow(
                f"INSERT INTO equipment ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9) RETURNING {COLUMNS}",
                uuid.uuid4(),
                given.name,
                given.model,
                given.category_id,
                given.status,
                given.daily_rate,
                given.tags,
                given.specification,
                datetime.now(UTC),
            )
        except asyncpg.ForeignKeyViolationError as exc:
            raise UnknownCategory from exc

    async def close(self) -> None:
        await self._pool.close()


# --- Callers --------------------------------------------------------------------------------------------------------

bearer = HTTPBearer(auto_error=False)


def needs(scope: str) -> Callable[..., Awaitable[None]]:
    """A dependency: a valid token with this scope."""

    async def check(
        request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
    ) -> None:
        if credentials is None:
            raise HTTPException(401, "A valid credential is needed.", {"WWW-Authenticate": "Bearer"})
        try:
            claims = jwt.decode(credentials.credentials, request.app.state.key, algorithms=["ES256"])
        except jwt.PyJWTError as exc:
            raise HTTPException(401, "A valid credential is needed.", {"WWW-Authenticate": "Bearer"}) from exc
        if scope not in claims.get("scope", "").split():
            raise HTTPException(403, "The credential does not permit this operation.")

    return check


def rows_of(request: Request) -> Rows:
    """The store of the application."""
    return request.app.state.rows


StoredRows = Annotated[Rows, Depends(rows_of)]
READ, WRITE = Depends(needs("catalogue:read")), Depends(needs("catalogue:write"))


# --- Around the operations ------------------------------------------------------------------------------------------

REQUESTS = Counter("http_requests_total", "Requests answered.", ("method", "route", "status"))
DURATIONS = Histogram("http_request_duration_seconds", "Time to answer.", ("method", "route"))
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}\Z")


class Observe:
    """Correlation id, log line and metrics."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        request_id = given if REQUEST_ID.match(given) else uuid.uuid4().hex
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        started, status = time.perf_counter(), 500

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, observed)
        finally:
            duration_s = time.perf_counter() - started
            route = getattr(scope.get("route"), "path", "unmatched")
            REQUESTS.labels(scope["method"], route, str(status)).inc()
            DURATIONS.labels(scope["method"], route).observe(duration_s)
            log.info("request.answered", method=scope["method"], route=route, status=status,
                     duration_ms=round(duration_s * 1000, 2))  # fmt: skip


async def refused(request: Request, exc: Exception) -> Response:
    """RFC 9457."""
    known = isinstance(exc, StarletteHTTPException)
    status, detail = (exc.status_code, exc.detail) if known else (400, str(exc.errors()[0]["msg"]))
    body = {"type": "about:blank", "title": detail, "status": status, "detail": detail, "instance": request.url.path}
    return JSONResponse(body, status, exc.headers if known else None, "application/problem+json")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    dsn, app.state.key = os.environ["PEER_DATABASE_URL"], os.environ["PEER_PUBLIC_KEY"]
    app.state.rows = OrmRows(dsn) if os.environ["PEER_ROWS"] == "orm" else await AsyncpgRows.connect(dsn)
    yield
    await app.state.rows.close()


app = FastAPI(lifespan=lifespan)
app.add_middleware(Observe)
app.add_exception_handler(StarletteHTTPException, refused)
app.add_exception_handler(RequestValidationError, refused)
app.mount("/metrics", make_asgi_app())


@app.get("/health/ready")
async def ready() -> dict[str, str]:
    return {"status": "ready"}


@app.get("/v1/equipment/{equipment_id}", dependencies=[READ], response_model_exclude_none=True)
async def get_equipment(equipment_id: uuid.UUID, rows: StoredRows) -> Equipment:
    if (row := await rows.get(equipment_id)) is None:
        raise HTTPException(404, "There is no such Equipment.")
    return Equipment.model_validate(row if isinstance(row, EquipmentRow) else dict(row))


@app.get("/v1/equipment", dependencies=[READ], response_model_exclude_none=True)
async def list_equipment(
    rows: StoredRows,
    page: Annotated[int, Query(ge=1)] = 1,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> EquipmentPage:
    found, total = await rows.page(limit, (page - 1) * limit)
    items = [Equipment.model_validate(row if isinstance(row, EquipmentRow) else dict(row)) for row in found]
    return EquipmentPage(items=items, page=page, limit=limit, total=total)


@app.post("/v1/equipment", dependencies=[WRITE], status_code=201, response_model_exclude_none=True)
async def create_equipment(given: EquipmentInput, rows: StoredRows, request: Request, response: Response) -> Equipment:
    try:
        row = await rows.add(given)
    except UnknownCategory as exc:
        raise HTTPException(404, "There is no such Category.") from exc
    made = Equipment.model_validate(row if isinstance(row, EquipmentRow) else dict(row))
    response.headers["Location"] = f"{request.url.path}/{made.id}"
    return made


if __name__ == "__main__":
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(serializer=lambda value, **_: msgspec.json.encode(value).decode()),
        ]
    )
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(os.environ["PEER_PORT"]),
        http="httptools",
        log_config=None,
        access_log=False,
        server_header=False,
    )
