"""The grammar of OpenAPI 3.1 as tables: which object has which fields, and which values a schema keyword may have.

`normalise` walks a document along these tables. A field's kind is the name of another object, `text`, `bool`, `any`, or
a list or mapping of a kind (`[kind]`, `{kind}`). Fields that begin with `x-` are allowed everywhere.
"""

from collections.abc import Callable
from typing import Any

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")

_TEXT = dict.fromkeys(("summary", "description"), "text")
_PARAMETER = {
    "description": "text",
    "required": "bool",
    "deprecated": "bool",
    "allowEmptyValue": "bool",
    "style": "text",
    "explode": "bool",
    "allowReserved": "bool",
    "schema": "schema",
    "example": "any",
    "examples": "{example}",
    "content": "{mediaType}",
}

OBJECTS: dict[str, dict[str, str]] = {
    "document": {
        "openapi": "text",
        "info": "info",
        "servers": "[server]",
        "paths": "paths",
        "webhooks": "{pathItem}",
        "components": "components",
        "security": "[requirement]",
        "tags": "[tag]",
        "externalDocs": "object",
    },
    "info": {
        **_TEXT,
        "title": "text",
        "termsOfService": "text",
        "contact": "object",
        "license": "object",
        "version": "text",
    },
    "server": {"url": "text", "description": "text", "variables": "{serverVariable}"},
    "serverVariable": {"enum": "[text]", "default": "text", "description": "text"},
    "tag": {"name": "text", "description": "text", "externalDocs": "object"},
    "pathItem": {**_TEXT, **dict.fromkeys(METHODS, "operation"), "servers": "[server]", "parameters": "[parameter]"},
    "operation": {
        **_TEXT,
        "tags": "[text]",
        "externalDocs": "object",
        "operationId": "text",
        "parameters": "[parameter]",
        "requestBody": "requestBody",
        "responses": "responses",
        "callbacks": "{callback}",
        "deprecated": "bool",
        "security": "[requirement]",
        "servers": "[server]",
    },
    "parameter": {"name": "text", "in": "text", **_PARAMETER},
    "header": _PARAMETER,
    "requestBody": {"description": "text", "content": "{mediaType}", "required": "bool"},
    "response": {"description": "text", "headers": "{header}", "content": "{mediaType}", "links": "{link}"},
    "mediaType": {"schema": "schema", "example": "any", "examples": "{example}", "encoding": "{encoding}"},
    "encoding": {
        "contentType": "text",
        "headers": "{header}",
        "style": "text",
        "explode": "bool",
        "allowReserved": "bool",
    },
    "example": {**_TEXT, "value": "any", "externalValue": "text"},
    "link": {
        "operationRef": "text",
        "operationId": "text",
        "parameters": "object",
        "requestBody": "any",
        "description": "text",
        "server": "server",
    },
    "components": {
        "schemas": "{schema}",
        "responses": "{response}",
        "parameters": "{parameter}",
        "examples": "{example}",
        "requestBodies": "{requestBody}",
        "headers": "{header}",
        "securitySchemes": "{securityScheme}",
        "links": "{link}",
        "callbacks": "{callback}",
        "pathItems": "{pathItem}",
    },
    "securityScheme": {
        "type": "text",
        "description": "text",
        "name": "text",
        "in": "text",
        "scheme": "text",
        "bearerFormat": "text",
        "flows": "object",
        "openIdConnectUrl": "text",
    },
}

# Kinds that may be given as `{"$ref": …}`.
REFERABLE = frozenset(
    {
        "schema",
        "response",
        "parameter",
        "example",
        "requestBody",
        "header",
        "securityScheme",
        "link",
        "callback",
        "pathItem",
    }
)

# --- schema keywords --------------------------------------------------------------------------------------------------

TYPES = ("null", "boolean", "object", "array", "number", "integer", "string")
# What people write in place of a type.
TYPE_ALIASES = {
    "int": "integer",
    "int32": "integer",
    "int64": "integer",
    "long": "integer",
    "float": "number",
    "double": "number",
    "decimal": "number",
    "bool": "boolean",
    "str": "string",
    "text": "string",
    "date": "string",
    "datetime": "string",
    "date-time": "string",
    "uuid": "string",
    "file": "string",
    "dict": "object",
    "map": "object",
    "hash": "object",
    "list": "array",
}

SCHEMA = {"items", "contains", "propertyNames", "not", "if", "then", "else", "contentSchema"}
SCHEMA_OR_BOOL = {"additionalProperties", "unevaluatedProperties", "unevaluatedItems"}
SCHEMA_LIST = {"allOf", "anyOf", "oneOf", "prefixItems"}
SCHEMA_MAP = {"properties", "patternProperties", "dependentSchemas", "$defs", "definitions"}
# Applied to the same value: a cycle through these alone never ends.
IN_PLACE = {"allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas"}


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _is(*types: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, types)


KEYWORDS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _number),
    **dict.fromkeys(
        (
            "minLength",
            "maxLength",
            "minItems",
            "maxItems",
            "minProperties",
            "maxProperties",
            "minContains",
            "maxContains",
        ),
        _count,
    ),
    **dict.fromkeys(("uniqueItems", "deprecated", "readOnly", "writeOnly"), _is(bool)),
    **dict.fromkeys(("title", "description", "format", "contentEncoding", "contentMediaType", "$comment"), _is(str)),
    **dict.fromkeys(("xml", "externalDocs"), _is(dict)),
    **dict.fromkeys(("default", "const", "example"), lambda value: True),
    "multipleOf": lambda value: _number(value) and value > 0,
    "required": _texts,
    "enum": lambda value: isinstance(value, list) and bool(value),
    "examples": _is(list),
    "dependentRequired": lambda value: isinstance(value, dict) and all(_texts(one) for one in value.values()),
    "discriminator": lambda value: isinstance(value, dict) and isinstance(value.get("propertyName"), str),
}

# Keywords that say something about a value and constrain none.
ANNOTATIONS = frozenset(
    {
        "title",
        "description",
        "default",
        "example",
        "examples",
        "readOnly",
        "writeOnly",
        "deprecated",
        "externalDocs",
        "xml",
    }
)
