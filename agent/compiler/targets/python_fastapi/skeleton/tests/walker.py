"""Walks through this service with the samples of its manifest: makes the rows that an operation needs, then calls it."""

import copy
import json
import re
import secrets
import uuid
from dataclasses import dataclass
from typing import Any

import httpx

from app.contract import read_only_names, resolve
from app.main import ROOT, load_service
from tests.harness import Client, at

Json = Any
MANIFEST: Json = json.loads((ROOT / ".backwright" / "manifest.json").read_text("utf-8"))
OPERATIONS: list[Json] = MANIFEST["operations"]
RESOURCES: dict[str, Json] = {resource["name"]: resource for resource in MANIFEST["resources"]}
DOCUMENT: Json = json.loads(load_service().document)
NOWHERE = {"integer": "2147483600", "uuid": "00000000-0000-4000-8000-0123456789ab"}


def name_of(operation: Json) -> str:
    """The id of a test."""
    return "none" if operation is None else re.sub(r"[^A-Za-z0-9_-]", "-", operation["id"])[:60]


def keys_of(operation: Json, role: str) -> list[Json]:
    """Parameters of the path that pick a row: an "ancestor", or the "key" of the row itself."""
    return [key for key in operation["path_keys"] if key["role"] == role]


@dataclass(frozen=True, slots=True)
class Made:
    """A row that a creator made: what was sent for it, and what the answer showed."""

    creator: Json
    path: dict[str, str]
    sent: Json
    shown: dict[str, Json]

    @property
    def plain(self) -> dict[str, Json]:
        """Properties that must come back as they were sent: scalars of the row itself, but no times of day."""
        resource = RESOURCES[self.creator["resource"]]
        names = resource["fields"].keys() - ({resource["key"]} if resource["key_generated"] else set())
        return {
            name: value
            for name, value in (self.sent.items() if isinstance(self.sent, dict) else ())
            if name in names and name in self.shown and not isinstance(value, dict | list)
            if not (isinstance(value, str) and re.match(r"[0-9-]{10}T", value))
        }

    @property
    def required(self) -> list[str]:
        """Properties without which the document takes no body."""
        item = DOCUMENT["paths"][self.creator["path"].removeprefix(load_service().base_path)]
        content = resolve(DOCUMENT, item[self.creator["method"].lower()]["requestBody"])["content"]
        schema = content[self.creator["sample"]["media_type"]].get("schema", {})
        return sorted(required_names(schema) & set(self.sent)) if isinstance(self.sent, dict) else []

    @property
    def reader(self) -> Json | None:
        """The operation that shows the row at its own address."""
        for operation in OPERATIONS:
            same = operation["action"] == "get" and operation["resource"] == self.creator["resource"]
            keys = keys_of(operation, "key")
            above = {key["parameter"] for key in keys_of(operation, "ancestor")}
            if same and keys and above <= set(self.path) and all(key["property"] in self.shown for key in keys):
                return operation
        return None


def required_names(schema: Json) -> set[str]:
    """What a request must hold by a schema and the parts of its `allOf`, without what is read only."""
    schema = resolve(DOCUMENT, schema)
    parts = (required_names(part) for part in schema.get("allOf", ()))
    return {*schema.get("required", ()), *(name for part in parts for name in part)} - read_only_names(schema, DOCUMENT)


def is_reachable(operation: Json, *, with_key: bool = False) -> bool:
    """Whether the samples lead to an operation: every row above it, and with `with_key` its own, can be made."""
    above: set[str] = set()
    for key in operation["path_keys"]:
        if key["role"] == "key" and not with_key:
            continue
        if not any(
            maker["action"] == "create"
            and maker["resource"] == key["resource"]
            and maker["sample"] is not None
            and {ancestor["parameter"] for ancestor in maker["path_keys"]} <= above
            for maker in OPERATIONS
        ):
            return False
        above.add(key["parameter"])
    return True


def creator_of(operation: Json) -> Json | None:
    """What makes rows of an operation's resource at the same place, if the samples lead there."""
    above = [key["parameter"] for key in keys_of(operation, "ancestor")]
    for maker in OPERATIONS:
        same = maker["action"] == "create" and maker["resource"] == operation["resource"]
        same = same and above == [key["parameter"] for key in maker["path_keys"]]
        if same and isinstance(maker["sample"] and maker["sample"]["body"], dict) and is_reachable(maker):
            return maker
    return None


def unique_names(operation: Json) -> set[str]:
    """Properties of an operation's sample that no two rows may share, as far as new values can be made for them."""
    resource, body = RESOURCES[operation["resource"]], operation["sample"]["body"]
    names = {name for name, column in resource["fields"].items() if column in resource["unique_columns"]}
    names -= {resource["key"]} if resource["key_generated"] else set()
    return {name for name in names if isinstance(body, dict) and name in body and fresh_value(body[name]) != body[name]}


def unknown_path(operation: Json) -> dict[str, str] | None:
    """A path to a row that nobody made; None if some key has a form that we cannot invent."""
    values = {
        p["name"]: text(p["sample"]) for p in operation["parameters"] if p["in"] == "path" and p["sample"] is not None
    }
    for key in operation["path_keys"]:
        found = values.get(key["parameter"], "")
        if re.fullmatch(r"-?[0-9]+", found):
            values[key["parameter"]] = "9" if found == "9" else NOWHERE["integer"]
        elif re.fullmatch(r"[0-9a-fA-F-]{36}", found):
            values[key["parameter"]] = NOWHERE["uuid"]
        else:
            return None
    return values


class Walker:
    """Calls operations; remembers the keys of the rows that it made."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._base = load_service().base_path

    async def can(self, operation: Json, *, with_key: bool = False) -> bool:
        """Make what the path needs. False: the samples do not lead there (the manifest has no sample)."""
        values = await self._path(operation, with_key=with_key)
        if values is None:
            return False
        operation["_path"] = values
        resource = RESOURCES.get(operation["resource"] or "")
        if with_key and resource and resource["singleton"] and operation["action"] in ("get", "delete", "patch"):
            return await self._set(operation, values)
        needs_body = operation["action"] in ("create", "replace", "patch", "upsert")
        return not needs_body or operation["sample"] is not None

    async def made(self, creator: Json) -> Made:
        """A new row by a creator that `is_reachable`."""
        path = await self._path(creator, with_key=False)
        assert path is not None
        sent = await self.tied(creator, self.fresh(creator), path)
        answered = await self.send(creator, path=path, body=sent)
        assert answered.status_code == creator["success"], answered.text
        resource = RESOURCES[creator["resource"]]
        shown = found_in(answered.json(), resource["key"]) if answered.content else None
        return Made(creator, path, sent, shown or {})

    async def read(self, made: Made) -> Json:
        """The row again, at its own address."""
        reader = made.reader
        assert reader is not None
        path = made.path | {k["parameter"]: text(made.shown[k["property"]]) for k in keys_of(reader, "key")}
        answered = await self.send(reader, path=path)
        assert answered.status_code == reader["success"], answered.text
        return found_in(answered.json(), RESOURCES[reader["resource"]]["key"])

    async def _path(self, operation: Json, *, with_key: bool) -> dict[str, str] | None:
        values = {
            p["name"]: text(p["sample"])
            for p in operation["parameters"]
            if p["in"] == "path" and p["sample"] is not None
        }
        above: dict[str, str] = {}
        for key in operation["path_keys"]:
            if key["role"] == "key" and not with_key:
                continue
            made = await self._make(key["resource"], above)
            if made is None or made.get(key["property"]) is None:
                return None
            values[key["parameter"]] = above[key["parameter"]] = text(made[key["property"]])
        return values

    async def _set(self, operation: Json, path: dict[str, str]) -> bool:
        """Write the single row that an operation reads; False if nothing writes it."""
        for writer in OPERATIONS:
            same = writer["resource"] == operation["resource"] and writer["path"] == operation["path"]
            if same and writer["action"] == "replace" and writer["sample"] is not None:
                answered = await self.send(writer, path=path, body=self.sample(writer))
                return bool(answered.status_code == writer["success"])
        return False

    async def _make(self, resource: str, above: dict[str, str]) -> Json | None:
        """A new row of a resource below the rows that `above` names; None if no operation makes one and shows it."""
        for creator in OPERATIONS:
            if creator["action"] != "create" or creator["resource"] != resource or creator["sample"] is None:
                continue
            needed = [key["parameter"] for key in creator["path_keys"]]
            if not set(needed) <= set(above):
                continue
            body = await self.tied(creator, self.fresh(creator), above)
            answered = await self.send(creator, path=above, body=body)
            if answered.status_code == creator["success"] and answered.content:
                return found_in(answered.json(), RESOURCES[resource]["key"])
        return None

    def sample(self, operation: Json) -> Json:
        """The sample of an operation, as it stands."""
        return None if operation["sample"] is None else copy.deepcopy(operation["sample"]["body"])

    def fresh(self, operation: Json) -> Json:
        """The sample with new values where they must be unique."""
        body = self.sample(operation)
        resource = RESOURCES.get(operation["resource"] or "")
        if resource is None:
            return body
        unique = {name for name, column in resource["fields"].items() if column in resource["unique_columns"]}
        return renew(body, unique)

    async def tied(self, operation: Json, body: Json, above: dict[str, str] | None = None) -> Json:
        """A body whose references name rows that exist, made for it; what cannot be made stays as it is."""
        resource = RESOURCES.get(operation["resource"] or "")
        if resource is None or not isinstance(body, dict):
            return body
        if operation["action"] in ("replace", "patch") and not resource["singleton"]:
            await self._keyed(operation, resource, body)
        inner = next(
            (part for part in (body, *body.values()) if isinstance(part, dict) and refers(part, resource)), body
        )
        for reference in resource["references"]:
            target = next(r for r in MANIFEST["resources"] if r["table"] == reference["table"])
            if reference["property"] not in inner or target["name"] == resource["name"]:
                continue
            made = await self._make(target["name"], above or {})
            if made is not None:
                value = inner[reference["property"]]
                key = made[target["key"]]
                inner[reference["property"]] = {**value, target["key"]: key} if isinstance(value, dict) else key
        return body

    async def _keyed(self, operation: Json, resource: Json, body: Json) -> None:
        """Where no path names the row, its key stands in the body."""
        if not any(key["role"] == "key" for key in operation["path_keys"]):
            made = await self._make(resource["name"], {})
            if made is not None:
                body[resource["key"]] = made[resource["key"]]

    def credential(self, operation: Json) -> Json:
        """What lets a caller in, as httpx takes it."""
        carried: Json = {"headers": {}, "params": {}}
        for name in next(iter(operation["security"]), {}):
            scheme = self.client.carried(name)
            carried["headers"] |= scheme["headers"]
            carried["params"] |= scheme["params"]
        return carried

    async def send(
        self,
        operation: Json,
        *,
        path: dict[str, str] | None = None,
        body: Json = None,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
        anonymous: bool = False,
    ) -> httpx.Response:
        """One call with required parameters from the samples."""
        carried: Json = {"headers": {}, "params": {}} if anonymous else self.credential(operation)
        values = {**{p["name"]: text(p["sample"]) for p in operation["parameters"] if p["in"] == "path"}}
        values |= path if path is not None else operation.get("_path", {})
        for parameter in operation["parameters"]:
            if parameter["required"] and parameter["in"] in ("query", "header"):
                carried["params" if parameter["in"] == "query" else "headers"][parameter["name"]] = text(
                    parameter["sample"]
                )
        sent = {**carried["headers"], **(headers or {})}
        if body is not None:
            content = json.dumps(body).encode()
            sent["content-type"] = (operation["sample"] or {}).get("media_type", "application/json")
        target = at(operation["path"], **values)
        return await self.client.send(
            operation["method"], target, root=True, headers=sent, params=carried["params"], content=content
        )


def refers(body: Json, resource: Json) -> bool:
    """Whether an object holds a reference of the resource."""
    return any(reference["property"] in body for reference in resource["references"])


def text(value: Json) -> str:
    """A value as it stands in a URL."""
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    return ",".join(text(part) for part in value) if isinstance(value, list) else str(value)


def renew(body: Json, names: set[str]) -> Json:
    """New values for texts and UUIDs of these names, wherever they stand first."""
    if isinstance(body, list):
        return [renew(part, names) for part in body]
    if not isinstance(body, dict):
        return body
    if not names & body.keys():  # the entity stands inside
        return {name: renew(value, names) if isinstance(value, dict) else value for name, value in body.items()}
    return {name: fresh_value(value) if name in names else value for name, value in body.items()}


def fresh_value(value: Json) -> Json:
    """Another value of the same form, as far as one can tell."""
    if isinstance(value, str) and re.fullmatch(r"[0-9a-f-]{36}", value):
        return str(uuid.uuid4())
    if isinstance(value, str) and "@" in value:
        return f"{secrets.token_hex(5)}@example.com"
    if isinstance(value, str) and value.isalnum() and len(value) >= 12:
        return secrets.token_hex(16)[: len(value)]
    if isinstance(value, str) and re.fullmatch(r"[\w -]+", value):
        return f"{value[:8]}{secrets.token_hex(4)}"
    return value


def found_in(body: Json, key: str) -> Json | None:
    """The object that carries the key: the body, or something one level below."""
    for candidate in (body, *(body.values() if isinstance(body, dict) else ())):
        if isinstance(candidate, dict) and key in candidate:
            return candidate
    return None
