"""A last look at every derivation: does an answer, made the way the plan says, satisfy the document's schema?

The richest and the barest row that the resource allows are shown, wrapped and validated. A plan that fails here would
be a fake success, whatever the rules believed.
"""

from collections.abc import Iterator
from typing import Any

from agent.compiler.inference.model import Model
from agent.compiler.ir import Action, ColumnType, Generated, Meta, Plan, Property, Shape, ShapeField, Wrapper
from agent.compiler.schemas.document import Document, RawOperation
from agent.compiler.schemas.sample import Sampler
from agent.compiler.schemas.validation import Validator

Json = Any

_UUID = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
_TOKEN = "0123456789abcdef0123456789abcdef"
_TIME = "2025-01-15T09:30:00Z"
_META: dict[Meta, Json] = {
    **dict.fromkeys((Meta.TOTAL, Meta.PAGE, Meta.LIMIT, Meta.PAGES, Meta.COUNT), 1),
    Meta.OFFSET: 0,
    Meta.NEXT_CURSOR: "abc",
    Meta.NEXT_LINK: "/things?page=2",
    Meta.HAS_MORE: False,
    Meta.REQUEST_ID: _UUID,
    Meta.NOW: _TIME,
    Meta.MESSAGE: "OK",
}
_NONE = object()


class Checker:
    """Checks plans of one document."""

    def __init__(self, document: Document, sampler: Sampler, validator: Validator, models: dict[str, Model]) -> None:
        self._document = document
        self._sampler = sampler
        self._validator = validator
        self._models = models

    def fault(self, operation: RawOperation, plan: Plan) -> str | None:
        """Why an answer by this plan would not satisfy the document; None if it does, or if nobody can tell."""
        pointer = operation.answer.schema_pointer
        if pointer is None or operation.success_code == 204:
            return None
        for what, content in self._contents(plan):
            body = _wrapped(plan.wrapper, content, operation.success_code)
            if body is not _NONE and self._validator.shown(pointer, body) is False:
                return f"{what} that was made by the plan does not satisfy the schema of the answer"
        return None

    def _contents(self, plan: Plan) -> Iterator[tuple[str, Json]]:
        """(what it is, what stands inside the wrapper)."""
        many = plan.action in (Action.LIST, Action.CREATE_MANY, Action.PATCH_MANY)
        if plan.shape is None:
            element = _wrapped(plan.item, _NONE, 200)
            yield "an answer", ([element] if many and plan.item.bare else _NONE)
            return
        rows = [(name, self._row(plan.shape, every)) for name, every in (("a full row", True), ("a bare row", False))]
        rows = [(name, row) for name, row in rows if row is not _NONE]
        if plan.action is Action.LIST:
            yield "an empty list", []
        for name, row in rows:
            yield name, ([row] if many else row)

    def _row(self, shape: Shape, every: bool) -> Json:
        """A row as `shape` shows it: with everything, or with what every row has."""
        model = self._models[shape.resource]
        sample = self._sampler.shared_response(model.draft.entity)
        made: dict[str, Json] = {}
        for field in shape.fields:
            value = self._value(model, field, sample if isinstance(sample, dict) else {}, every)
            if value is _NONE:
                return _NONE
            if value is not None or field.null_when_absent:
                made[field.name] = value
        return made

    def _value(self, model: Model, field: ShapeField, sample: dict[str, Json], every: bool) -> Json:
        """None: left out; _NONE: no value is known."""
        if field.kind == "collection":
            inner = self._row(field.nested, every) if field.nested else _NONE
            return ([] if inner is _NONE else [inner]) if every else []
        if field.kind == "reference":
            reference = model.references[field.property]
            if not (every or reference.required):
                return None
            target = self._models[reference.target]
            return self._row(field.nested, every) if field.nested else _key(target)
        stored = model.properties[field.property]
        if not (every or stored.required):
            return None
        if stored.name == model.key.name:
            return _key(model) if stored.generated else sample.get(stored.name, _NONE)
        return self._stored(stored, sample)

    def _stored(self, stored: Property, sample: dict[str, Json]) -> Json:
        if stored.generated in (Generated.CREATED_AT, Generated.UPDATED_AT):
            return _TIME if stored.type is ColumnType.DATETIME else 1736933400000
        if stored.generated is Generated.VERSION:
            return 1
        if stored.name in sample:
            return sample[stored.name]
        value = self._sampler.shared_response(stored.pointer)
        if value is not None:
            return value
        return None if not stored.required else _NONE


def _key(model: Model) -> Json:
    if model.key.generated is Generated.UUID or model.key.column is ColumnType.UUID:
        return _UUID
    return (
        {Generated.TOKEN: _TOKEN, Generated.IDENTITY: 1}.get(model.key.generated or Generated.IDENTITY, 1)
        if model.key.generated
        else _NONE
    )


def _wrapped(wrapper: Wrapper, content: Json, status: int) -> Json:
    """The body; _NONE when nothing is sent."""
    if not wrapper.path and not wrapper.fields and not wrapper.bare:
        return content
    body: dict[str, Json] = {}
    for one in wrapper.fields:
        value = (
            one.constant
            if one.source is Meta.CONSTANT
            else status
            if one.source is Meta.STATUS
            else _META.get(one.source)
        )
        if value is not None or one.nullable or one.source is Meta.CONSTANT:
            _place(body, one.path, value)
    if content is not _NONE and wrapper.path:
        _place(body, wrapper.path, content)
    return body


def _place(body: dict[str, Json], path: tuple[str, ...], value: Json) -> None:
    for name in path[:-1]:
        body = body.setdefault(name, {})
    body[path[-1]] = value
