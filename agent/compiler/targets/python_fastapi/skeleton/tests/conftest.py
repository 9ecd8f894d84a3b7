"""Fixtures: throwaway databases on the server of SERVICE_TEST_DATABASE_URL, the service itself, and the sample.

A missing server is a failure, not a skip: tests that did not run prove nothing.
"""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import jwt
import pytest
from alembic import command
from alembic.config import Config
from pydantic import SecretStr
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from app.auth import new_key_pair, sign, variable
from app.contract import Contract
from app.database import Database, async_url
from app.dev import credentials
from app.main import ROOT, Service, create_app, load_service
from app.settings import Settings
from tests import sample
from tests.api import Api
from tests.harness import Client, decode

Json = Any


def server() -> str:
    """The DSN of a server on which databases may be made."""
    dsn = os.environ.get("SERVICE_TEST_DATABASE_URL")
    if not dsn:
        pytest.exit("set SERVICE_TEST_DATABASE_URL to a PostgreSQL server on which databases may be made", 3)
    return dsn


async def _execute(statement: str) -> None:
    connection = await asyncpg.connect(server())
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def make_database() -> Iterator[Any]:
    """Makes empty databases; they are dropped at the end."""
    made: list[str] = []

    def make() -> str:
        name = f"test_{secrets.token_hex(6)}"
        asyncio.run(_execute(f'CREATE DATABASE "{name}"'))
        made.append(name)
        url = make_url(server().replace("postgres://", "postgresql://", 1))
        return url.set(database=name).render_as_string(hide_password=False)

    yield make
    for name in made:
        asyncio.run(_execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))


def settings_for(dsn: str, **more: Any) -> Settings:
    """Settings as the environment would give them."""
    values: dict[str, Any] = {"database_url": SecretStr(dsn), "log_level": "error", "page_limit_max": 100, **more}
    return Settings.model_validate(values)


def alembic(dsn: str) -> Config:
    """Alembic's configuration for a database."""
    config = Config(toml_file=ROOT / "pyproject.toml")
    config.attributes["dsn"] = dsn
    return config


@pytest.fixture(scope="session")
def service_dsn(make_database: Any) -> str:
    """A database with this service's tables."""
    dsn: str = make_database()
    command.upgrade(alembic(dsn), "head")
    return dsn


@pytest.fixture(scope="session")
def sample_dsn(make_database: Any) -> str:
    """A database with the sample's tables."""
    dsn: str = make_database()

    async def create() -> None:
        engine = create_async_engine(async_url(dsn))
        async with engine.begin() as connection:
            await connection.run_sync(sample.metadata.create_all)
        await engine.dispose()

    asyncio.run(create())
    return dsn


@pytest.fixture(scope="session")
async def client(service_dsn: str) -> AsyncIterator[Client]:
    """Speaks to this service, in this process."""
    service = load_service()
    minted = credentials(Contract(decode(service.document)))
    keys = resign(minted)
    app = create_app(settings_for(service_dsn), service, minted["environment"])
    async with Client(app, service.base_path, minted["schemes"], keys) as client:
        yield client


def resign(minted: Json) -> dict[str, str]:
    """Sign the tokens with keys that the tests hold, so that they can forge others; private keys by scheme."""
    keys: dict[str, str] = {}
    for name, scheme in minted["schemes"].items():
        kind, _, token = scheme["headers"].get("Authorization", "").partition(" ")
        if kind == "Bearer":
            keys[name], minted["environment"][f"{variable(name)}_PUBLIC_KEY"] = new_key_pair()
            claims = jwt.decode(token, options={"verify_signature": False})
            scheme["headers"]["Authorization"] = f"Bearer {sign(keys[name], claims)}"
    return keys


@pytest.fixture(scope="session")
async def database(service_dsn: str) -> AsyncIterator[Database]:
    """The database of this service."""
    database = Database(settings_for(service_dsn))
    yield database
    await database.close()


@pytest.fixture(scope="session")
def service(client: Client, database: Database) -> Api:
    """This service, whatever rows it has."""
    return Api(client, database)


@pytest.fixture
async def api(service: Api) -> Api:
    """This service without a single row."""
    await service.empty()
    return service


@pytest.fixture(scope="session")
def sample_credentials() -> Json:
    """Throwaway credentials for the sample."""
    return credentials(Contract(sample.DOCUMENT))


@pytest.fixture(scope="session")
async def sample_client(sample_dsn: str, sample_credentials: Json) -> AsyncIterator[Client]:
    """Speaks to the sample."""
    service = Service("sample", "/v1", sample.BYTES, [sample.routes])
    settings = settings_for(sample_dsn, body_limit_bytes=5000, page_limit_max=5, log_format="console")
    app = create_app(settings, service, sample_credentials["environment"])
    async with Client(app, service.base_path, sample_credentials["schemes"]) as client:
        yield client


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of this project."""
    return ROOT
