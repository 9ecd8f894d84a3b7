"""The committed files are current, valid, and break nobody."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from contracts import codec, export, topics
from contracts.compatibility import incompatibilities
from contracts.envelope import MESSAGE_TYPES, TASK_STATUS, MessageType
from contracts.samples import samples

VENDOR = Path(__file__).parent / "vendor" / "asyncapi"
NAMES = [row.name for row in MESSAGE_TYPES]


def _load(path: str) -> Any:
    return json.loads((export.ROOT / path).read_text(encoding="utf-8"))


def test_committed_files_are_current() -> None:
    """A change of a model carries its regenerated files: `python -m contracts.export`."""
    assert export.check() == []


@pytest.mark.parametrize("name", NAMES)
def test_example_is_valid_and_decodes(name: str) -> None:
    """An example that we would refuse ourselves would teach the wrong thing."""
    schema, example = _load(f"schemas/{name}.json"), _load(f"examples/{name}.json")
    jsonschema.Draft202012Validator.check_schema(schema)

    jsonschema.Draft202012Validator(schema).validate(example["value"])
    headers = [(header, text.encode()) for header, text in example["headers"].items()]
    message = codec.decode(example["topic"], headers, example["key"].encode(), json.dumps(example["value"]).encode())

    assert message.message_type.name == name


@pytest.mark.parametrize("sample", samples(), ids=lambda sample: sample.message_type.name)
def test_whole_payload_is_valid_with_its_nulls(sample: Any) -> None:
    """Models are written with explicit nulls; the schema allows them where a field may be absent."""
    schema = _load(f"schemas/{sample.message_type.name}.json")

    faults = jsonschema.Draft202012Validator(schema).iter_errors(sample.payload.model_dump(mode="json"))

    assert [fault.message for fault in faults] == []


@pytest.mark.parametrize("name", NAMES)
def test_schema_is_closed(name: str) -> None:
    """A misspelt field of a sender is found by the sender, before it is sent."""
    schema, value = _load(f"schemas/{name}.json"), _load(f"examples/{name}.json")["value"]

    errors = list(jsonschema.Draft202012Validator(schema).iter_errors({**value, "colour": "blue"}))

    assert [error.validator for error in errors] == ["additionalProperties"]


def test_request_example_can_be_sent_again() -> None:
    """Under a new id it is a new request: nothing in it ties it to an earlier one or to a time."""
    assert (
        not {"ce_correlationid", "ce_idempotencykey", "ce_expirytime"}
        & _load("examples/task.requested.json")["headers"].keys()
    )


@pytest.mark.parametrize("field", sorted(TASK_STATUS.model.ALWAYS))
def test_status_schema_requires_the_origin_fields(field: str) -> None:
    """Prompt-file agents read exactly these five."""
    value = _load("examples/task.status.json")["value"]
    del value[field]

    with pytest.raises(jsonschema.ValidationError, match=field):
        jsonschema.Draft202012Validator(_load("schemas/task.status.json")).validate(value)


def test_asyncapi_document_is_valid() -> None:
    """Checked against the official schema of AsyncAPI 3, Kafka bindings included."""
    schema = json.loads((VENDOR / "3.0.0.json").read_text(encoding="utf-8"))

    faults = jsonschema.Draft7Validator(schema).iter_errors(_asyncapi())

    assert [fault.message for fault in faults] == []


def test_asyncapi_schema_finds_a_planted_fault() -> None:
    """The validation above means something."""
    schema = json.loads((VENDOR / "3.0.0.json").read_text(encoding="utf-8"))
    document = _asyncapi()
    document["channels"]["tasks"]["bindings"]["kafka"]["partitions"] = "six"

    assert not jsonschema.Draft7Validator(schema).is_valid(document)


def test_asyncapi_names_every_topic_type_and_schema() -> None:
    """The document is the whole contract, and its references lead somewhere."""
    document = _asyncapi()

    assert {channel["address"] for channel in document["channels"].values()} == {topic.name for topic in topics.ALL}
    assert [message["name"] for message in document["components"]["messages"].values()] == [
        row.wire for row in MESSAGE_TYPES
    ]
    for message in document["components"]["messages"].values():
        assert (export.ROOT / message["payload"]["schema"]["$ref"]).is_file()
    for reference in _references(document):
        if reference.startswith("#/"):
            _follow(document, reference)


def test_stale_missing_and_left_over_files_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`contracts --check` in CI stands on this."""
    monkeypatch.setattr(export, "ROOT", tmp_path)
    export.write()
    assert export.check() == []
    (tmp_path / "schemas" / "task.status.json").write_text("{}")
    (tmp_path / "asyncapi.yaml").unlink()
    (tmp_path / "examples" / "old.json").write_text("{}")

    faults = export.check()

    assert [fault.split(":")[0] for fault in faults] == [
        "schemas/task.status.json",
        "asyncapi.yaml",
        "examples/old.json",
    ]
    assert len(export.write()) == 3
    assert export.check() == []


def test_check_exits_1_when_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit code is what CI sees."""
    monkeypatch.setattr(export, "ROOT", tmp_path)

    assert export.main(["--check"]) == 1
    assert export.main([]) == 0
    assert export.main(["--check"]) == 0


def test_release_refuses_a_broken_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was released stays true; the way out is a new major version."""
    monkeypatch.setattr(export, "ROOT", tmp_path)
    export.write()
    assert export.main(["--release"]) == 0
    released = tmp_path / export.RELEASED / "task.cancel.json"
    schema = json.loads(released.read_text())
    schema["properties"]["force"] = {"type": "boolean"}
    released.write_text(json.dumps(schema))
    (released.parent / "task.paused.json").write_text(json.dumps(schema))

    assert [fault.split(":")[1].strip() for fault in export.check()] == ["/force", "the type was released and is gone"]
    assert export.main(["--release"]) == 1


Change = Callable[[dict[str, Any]], object]
BREAKING: dict[str, tuple[Change, str]] = {
    "a removed property": (lambda s: s["properties"].pop("priority"), "/priority: removed"),
    "a renamed property": (lambda s: s["properties"].update(prio=s["properties"].pop("priority")), "/priority: removed"),
    "a retyped property": (lambda s: s["properties"]["priority"].update(type="string"), "/priority: retyped"),
    "a property that became nullable": (
        lambda s: s["properties"].update(priority={"anyOf": [{"type": "integer"}, {"type": "null"}]}), "/priority: retyped"),
    "a newly required property": (lambda s: s["required"].append("service"), "/service: newly required"),
    "one that is no longer always there": (lambda s: s["required"].remove("specification"), "/specification: no longer always"),
    "an opened model": (lambda s: s.pop("additionalProperties"), "/: no longer closed"),
    "an opened nested model": (lambda s: s["$defs"]["Specification"].update(additionalProperties=True), "/specification: no longer closed"),
    "a removed nested property": (lambda s: s["$defs"]["Specification"]["properties"].pop("sha256"), "/specification/sha256: removed"),
    "a shrunken enum": (lambda s: s["$defs"]["Kind"]["enum"].remove("review"), "/kind: enum shrank: review"),
    "an enum where text was free": (lambda s: s["properties"]["service"]["anyOf"][0].update(enum=["a"]), "enum shrank: was open"),
    "another pattern": (lambda s: s["properties"]["service"]["anyOf"][0].update(pattern="^x"), "pattern changed"),
    "a tighter limit": (lambda s: s["properties"]["priority"].update(maximum=5), "/priority: maximum is tighter"),
    "a new limit": (lambda s: s["properties"]["run_after_s"].update(exclusiveMinimum=0), "exclusiveMinimum is tighter"),
    "another format": (lambda s: s["properties"]["priority"].update(format="int32"), "/priority: retyped"),
}  # fmt: skip
HARMLESS: dict[str, Change] = {
    "a new optional property": lambda s: s["properties"].update(colour={"type": "string"}),
    "another description": lambda s: s["properties"]["priority"].update(description="new words"),
    "one more enum value": lambda s: s["$defs"]["Kind"]["enum"].append("explain"),
    "a looser limit": lambda s: s["properties"]["priority"].update(maximum=99),
    "a dropped limit": lambda s: s["properties"]["priority"].pop("minimum"),
}


def _changed(change: Change) -> tuple[dict[str, Any], dict[str, Any]]:
    old = _load("schemas/task.requested.json")
    new = copy.deepcopy(old)
    change(new)
    assert old != new
    return old, new


@pytest.mark.parametrize("change", BREAKING.values(), ids=BREAKING)
def test_incompatible_change_is_found(change: tuple[Change, str]) -> None:
    """Each fault is planted; each must be named with its place."""
    old, new = _changed(change[0])

    faults = incompatibilities(old, new)

    assert len(faults) == 1
    assert change[1] in faults[0]


@pytest.mark.parametrize("change", HARMLESS.values(), ids=HARMLESS)
def test_compatible_change_is_allowed(change: Change) -> None:
    """Adding is how a contract evolves; a check that forbids it would be switched off."""
    assert incompatibilities(*_changed(change)) == []


@pytest.mark.parametrize("row", MESSAGE_TYPES, ids=NAMES)
def test_topics_and_types_agree(row: MessageType) -> None:
    """The major version is part of the type and of the topic."""
    assert row.topic in topics.ALL
    assert row.wire.rpartition(".")[2] == row.topic.name.rpartition(".")[2] == "v1"


def _asyncapi() -> Any:
    return yaml.safe_load((export.ROOT / "asyncapi.yaml").read_text(encoding="utf-8"))


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for item in node.values() for found in _references(item)]
    return [found for item in node for found in _references(item)] if isinstance(node, list) else []


def _follow(document: Any, reference: str) -> None:
    for part in reference.removeprefix("#/").split("/"):
        document = document[part]
