"""Indexes follow from what the document lets clients ask for, and fit into PostgreSQL's pages."""

from pathlib import Path
from typing import Any

import yaml

import agent.cli
from tests.golden.weaving import compiled

Json = Any
DOCUMENT = Path(agent.cli.__file__).with_name("demo.openapi.yaml")
PAGED = 'Index("ix_equipment_name_id", "name", "id")'


def tables(document: Json) -> str:
    """The woven tables of a document."""
    return compiled(document).files["app/tables.py"].content.decode()


def demo() -> Json:
    """The demo's document: equipment is listed by name unless asked otherwise."""
    return yaml.safe_load(DOCUMENT.read_text())


def test_the_order_of_a_list_has_an_index() -> None:
    """A page of a large table must not sort all of it."""
    assert PAGED in tables(demo())


def test_a_text_that_may_be_longer_than_an_index_entry_has_none() -> None:
    """An insert of three kilobytes would fail in the index, though the document allows it."""
    document = demo()
    for schema in ("EquipmentInput", "EquipmentPatch"):
        document["components"]["schemas"][schema]["properties"]["name"]["maxLength"] = 5000

    assert PAGED not in tables(document)


def test_a_list_without_a_default_order_has_no_index_for_it() -> None:
    """Nothing is said about what clients will ask for."""
    document = demo()
    [sort] = [p for p in document["paths"]["/equipment"]["get"]["parameters"] if p.get("name") == "sort"]
    del sort["schema"]["default"]

    assert PAGED not in tables(document)
