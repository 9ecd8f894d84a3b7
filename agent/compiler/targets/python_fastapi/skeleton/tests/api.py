"""How the tests call this service: an operation by method and path, with the credentials that it asks for.

What the manifest knows of an operation (security, required parameters, media type) is filled in; a test says the rest.
"""

import copy
import json
import re
from functools import partialmethod
from typing import Any

import httpx

from app import store
from app.crud.entity import draft_of
from app.crud.rows import insert_row
from app.database import Database
from app.main import ROOT, load_service
from app.model import Resource, Shape
from app.tables import metadata
from app.values import encode, to_column
from tests.harness import Client, at, decode

Json = Any
MANIFEST: Json = json.loads((ROOT / ".backwright" / "manifest.json").read_text("utf-8"))
OPERATIONS: list[Json] = MANIFEST["operations"]
BY_ROUTE: dict[tuple[str, str], Json] = {
    (operation["method"], operation["path"].removeprefix(load_service().base_path)): operation
    for operation in OPERATIONS
}
PARAMETER = re.compile(r"\{([^{}]+)\}")
# Headers of callers that nobody knows.
STRANGERS: list[Json] = [{}, {"authorization": "Bearer x"}, {"authorization": "Basic eDp4"}]


class Api:
    """This service. The fixture `api` empties its tables before a test."""

    def __init__(self, client: Client, database: Database) -> None:
        self._client, self._database = client, database
        self._is_empty = False

    async def empty(self) -> None:
        """Delete all rows, unless nothing can have made one since the last time."""
        tables = ", ".join(f'"{table.name}"' for table in metadata.sorted_tables)
        if tables and not self._is_empty:
            async with self._database.connect() as connection:
                await connection.driver.execute(f"TRUNCATE {tables}")
        self._is_empty = True

    async def send(self, method: str, path: str, *keys: Json, **more: Any) -> httpx.Response:
        """One request. `path` as in the document; `keys` fill its parameters in order, else their samples do."""
        return await self.request(BY_ROUTE[method, path], *keys, **more)

    async def request(
        self,
        operation: Json,
        *keys: Json,
        query: Json = None,
        body: Json = None,
        content: bytes | None = None,
        headers: Json = None,
        anonymous: bool = False,
    ) -> httpx.Response:
        """One request to an operation of the manifest: with its credentials unless `anonymous`, `body` as JSON."""
        carried: Json = {"headers": {}, "params": {}} if anonymous else self._credentials(operation)
        samples = {parameter["name"]: parameter["sample"] for parameter in operation["parameters"]}
        names = PARAMETER.findall(operation["path"])
        values = {name: samples.get(name) for name in names} | dict(zip(names, keys, strict=False))
        for parameter in operation["parameters"]:
            if parameter["required"] and parameter["in"] in ("query", "header"):
                place = carried["params" if parameter["in"] == "query" else "headers"]
                if parameter["name"].lower() not in map(str.lower, place):  # it may be what carries the credential
                    place[parameter["name"]] = parameter["sample"]
        sent = {**carried["headers"], **(headers or {})}
        if body is not None or content is not None:
            sent["content-type"] = (operation["sample"] or {}).get("media_type", "application/json")
        answered = await self._client.send(
            operation["method"],
            at(operation["path"], **{name: text(value) for name, value in values.items()}),
            root=True,
            headers={name: text(value) for name, value in sent.items()},
            params={name: texts(value) for name, value in {**carried["params"], **(query or {})}.items()},
            content=content if body is None else json.dumps(body).encode(),
        )
        self._is_empty = self._is_empty and (operation["method"] == "GET" or not answered.is_success)
        return answered

    async def call(self, method: str, path: str, *keys: Json, expect: int, **more: Any) -> Json:
        """One request that must be answered with a status; the body of the answer, None if there is none."""
        answered = await self.send(method, path, *keys, **more)
        assert answered.status_code == expect, answered.text
        return answered.json() if "json" in answered.headers.get("content-type", "") else None

    get = partialmethod(call, "GET")
    put = partialmethod(call, "PUT")
    post = partialmethod(call, "POST")
    patch = partialmethod(call, "PATCH")
    delete = partialmethod(call, "DELETE")

    async def pages(self, path: str, *keys: Json, query: Json = None) -> list[Json]:
        """The bodies of all pages of a list, from one `Link: rel="next"` (RFC 8288) to the next."""
        carried = self._credentials(BY_ROUTE["GET", path])
        answered = await self.send("GET", path, *keys, query=query)
        found, followed = [answered], set()
        while link := answered.headers.get("link"):
            assert link not in followed, f"{link} leads to where it stands"
            followed.add(link)
            answered = await self._client.send("GET", link[1:].partition(">")[0], root=True, headers=carried["headers"])
            found.append(answered)
        assert {page.status_code for page in found} == {200}, answered.text
        return [page.json() for page in found]

    async def insert(self, resource: Resource, shape: Shape, entity: Json) -> Json:
        """A row that no operation makes, as `shape` shows it."""
        key = next((shown.name for shown in shape.shown if shown.source == resource.key.name), resource.key.name)
        draft = draft_of(shape, entity)
        if key in entity:
            draft.values[resource.key.column.name] = to_column(resource.key.type, entity[key])
        self._is_empty = False
        async with self._database.begin() as connection:
            row = await insert_row(connection, resource, draft)
            return decode(encode((await store.show(connection, shape, [row]))[0]))

    def sample(self, method: str, path: str) -> Json:
        """A valid body for an operation; None if it takes none."""
        operation = BY_ROUTE[method, path]
        return copy.deepcopy(operation["sample"] and operation["sample"]["body"])

    def token(self, scheme: str, claims: Json, *, valid_s: int = 3600) -> str:
        """A token that the service takes for genuine, with claims of a test's own."""
        return self._client.token(scheme, claims, valid_s=valid_s)

    def _credentials(self, operation: Json) -> Json:
        """What lets a caller in, by the first way that the document names."""
        carried: Json = {"headers": {}, "params": {}}
        for name in next(iter(operation["security"]), {}):
            scheme = self._client.carried(name)
            carried["headers"] |= scheme["headers"]
            carried["params"] |= scheme["params"]
        return carried


def text(value: Json) -> str:
    """A value as it stands in a URL or a header."""
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    return ",".join(text(part) for part in value) if isinstance(value, list) else str(value)


def texts(value: Json) -> str | list[str]:
    """A value as it stands in a query: a list by repeating the parameter."""
    return [text(part) for part in value] if isinstance(value, list) else text(value)
