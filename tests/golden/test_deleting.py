"""What becomes of a row whose referred row is deleted: nothing is removed that no operation could remove."""

from pathlib import Path
from typing import Any

import pytest
import yaml

import agent.cli
from tests.golden.weaving import compiled

Json = Any
DOCUMENT = Path(agent.cli.__file__).with_name("demo.openapi.yaml")


def deleting(*statuses: str) -> Json:
    """`DELETE /customers/{customerId}` with these answers."""
    return {
        "operationId": "deleteCustomer",
        "tags": ["customers"],
        "responses": {status: {"description": "An answer."} for status in statuses},
    }


@pytest.mark.parametrize(
    ("operation", "note", "rule"),
    [
        (None, "keeps its Customer in the database, which no operation deletes", "RESTRICT"),
        (deleting("204", "409"), "keeps its Customer from being deleted (409)", "RESTRICT"),
        (deleting("204"), "deleted with its Customer", "CASCADE"),
    ],
)
def test_what_a_required_reference_does(operation: Json, note: str, rule: str) -> None:
    """The report says what the table does; where the document has no answer for a refusal, nothing refuses."""
    document = yaml.safe_load(DOCUMENT.read_text())
    if operation is not None:
        document["paths"]["/customers/{customerId}"]["delete"] = operation

    made = compiled(document)

    [key] = [
        line for line in made.files["app/tables.py"].content.decode().splitlines() if '"fk_rental_customer_id"' in line
    ]
    assert f"Rental.customerId: {note}." in made.manifest["notes"]
    assert f'ondelete="{rule}"' in key


def test_what_goes_with_its_parent_is_kept_by_nothing() -> None:
    """No operation deletes an inspection by itself; a rental that refers to one must not keep its machine either."""
    document = yaml.safe_load(DOCUMENT.read_text())
    document["components"]["schemas"]["RentalInput"]["properties"]["inspectionId"] = {
        "type": "string",
        "format": "uuid",
    }
    document["components"]["schemas"]["RentalInput"]["required"].append("inspectionId")

    notes = compiled(document).manifest["notes"]

    assert "Inspection.equipmentId: deleted with its Equipment." in notes
    assert "Rental.inspectionId: deleted with its Inspection." in notes
