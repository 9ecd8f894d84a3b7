"""The reference service of the gates' tests: what the compiler makes of a small document with one of everything."""

from pathlib import Path

from agent.compiler.compile import compile_document
from agent.formatting import ruff_format
from agent.settings import CompilerSettings
from contracts.tasks import Target

DOCUMENT = """
openapi: 3.1.0
info: {title: Shelf, version: 1.0.0}
servers: [{url: /v1}]
security: [{ApiKey: []}]
paths:
  /shelves:
    get:
      operationId: listShelves
      responses:
        "200": {description: Shelves., content: {application/json: {schema: {type: array, items: {$ref: "#/components/schemas/Shelf"}}}}}
        default: {$ref: "#/components/responses/Problem"}
    post:
      operationId: addShelf
      requestBody: {required: true, content: {application/json: {schema: {$ref: "#/components/schemas/NewShelf"}}}}
      responses:
        "201": {description: The shelf., content: {application/json: {schema: {$ref: "#/components/schemas/Shelf"}}}}
        default: {$ref: "#/components/responses/Problem"}
  /shelves/{shelfId}:
    parameters: [{name: shelfId, in: path, required: true, schema: {type: string, format: uuid}}]
    get:
      operationId: getShelf
      responses:
        "200": {description: The shelf., content: {application/json: {schema: {$ref: "#/components/schemas/Shelf"}}}}
        default: {$ref: "#/components/responses/Problem"}
    delete:
      operationId: removeShelf
      responses:
        "204": {description: Gone.}
        default: {$ref: "#/components/responses/Problem"}
  /shelves/{shelfId}/dust:
    parameters: [{name: shelfId, in: path, required: true, schema: {type: string, format: uuid}}]
    post:
      operationId: dustShelf
      requestBody:
        required: true
        content: {application/json: {schema: {type: object, required: [cloth], properties: {cloth: {type: string}}}}}
      responses:
        "200": {description: How it went., content: {application/json: {schema: {type: object, properties: {grams: {type: number}}}}}}
        default: {$ref: "#/components/responses/Problem"}
components:
  securitySchemes: {ApiKey: {type: apiKey, in: header, name: X-Key}}
  responses:
    Problem: {description: What went wrong., content: {application/problem+json: {schema: {type: object}}}}
  schemas:
    NewShelf:
      type: object
      required: [label]
      properties: {label: {type: string, maxLength: 40}, boards: {type: integer, format: int32, minimum: 1}}
    Shelf:
      allOf:
        - {$ref: "#/components/schemas/NewShelf"}
        - {type: object, required: [id], properties: {id: {type: string, format: uuid, readOnly: true}}}
"""


def reference_project(folder: Path) -> None:
    """Write the project into `folder`, manifest included."""
    made = compile_document(
        DOCUMENT.encode(),
        service="shelf",
        target=Target.PYTHON_FASTAPI,
        settings=CompilerSettings(),
        format=ruff_format,
    )
    made.files.write(folder)
