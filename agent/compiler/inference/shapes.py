"""How bodies show rows and give them. A shape that cannot be filled says why, in words: the reason of a hook."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from agent.compiler.inference.model import Known, Model, Pointers, Shaped
from agent.compiler.inference.relations import Relations
from agent.compiler.inference.resources import Request
from agent.compiler.ir import ColumnType, Property, Shape, ShapeField

_NESTING = 3  # levels of embedded resources in one representation
_NESTED = 40  # embedded resources in one representation; optional ones beyond are left out
_ANY = Property("", ColumnType.JSON, True, False)


class Shapes:
    """Shapes of responses and requests, on finished models."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._schemas = known.schemas
        self._relations = Relations(known)
        self._nested = 0
        self._shapes: dict[tuple[str, str], Shaped] = {}

    def response_shape(self, model: Model, pointer: str) -> Shaped:
        """How a response shows a row: everything of its schema that is stored."""
        key = (model.name, self._schemas.final(pointer))
        if key not in self._shapes:
            self._nested = 0
            self._shapes[key] = self._show(model, pointer, ())
        return self._shapes[key]

    def _show(self, model: Model, pointer: str, above: tuple[str, ...]) -> Shaped:
        view = self._schemas.entity(pointer)
        shaped = Shaped(Shape(model.name, ()))
        fields: list[ShapeField] = []
        self._nested += 1
        for name, pointers in view.properties.items():
            if self._schemas.flag(pointers, "writeOnly"):
                continue
            found = self._shown(model, name, pointers, shaped, (*above, model.name))
            nullable = name in view.required and self._schemas.nullable(pointers)
            if found is not None:
                fields.append(replace(found, null_when_absent=nullable))
        names = {one.name for one in fields}
        for name in sorted(view.required - names):
            if name not in view.properties or not self._schemas.flag(view.properties[name], "writeOnly"):
                shaped.problems.append(f"the response requires `{name}`, which is not stored")
        shaped.shape = Shape(model.name, tuple(fields))
        return shaped

    def _shown(
        self, model: Model, name: str, pointers: Pointers, shaped: Shaped, above: tuple[str, ...]
    ) -> ShapeField | None:
        if name in model.properties:
            stored = model.properties[name]
            return None if stored.write_only else ShapeField(name, name, "property")
        if name in model.references and not model.references[name].embedded:
            return ShapeField(name, name, "reference")
        target_name = (
            model.references[name].target
            if name in model.references
            else model.collections[name].target
            if name in model.collections
            else None
        )
        if target_name is None:
            return None
        if target_name in above or len(above) > _NESTING or self._nested >= _NESTED:
            return None  # a representation within itself: left out where optional, a problem where required
        inner_pointer = pointers[0] if name in model.references else self._schemas.merged(pointers).items
        assert inner_pointer is not None
        inner = self._show(self._known.models[target_name], inner_pointer, above)
        shaped.problems += [f"{one} (in `{name}`)" for one in inner.problems]
        kind = "reference" if name in model.references else "collection"
        return ShapeField(name, name, kind, inner.shape)

    def request_shape(self, model: Model, request: Request) -> Shaped:
        """What a request gives; problems where what it may write would break a response."""
        view = self._schemas.entity(request.entity)
        shaped = Shaped(Shape(model.name, ()))
        fields: list[ShapeField] = []
        for name, pointers in view.properties.items():
            if self._schemas.flag(pointers, "readOnly"):
                continue
            found = self._taken_in(model, name, pointers, shaped)
            if found is not None:
                fields.append(found)
                if name in view.required and name not in shaped.ignored_nulls:
                    shaped.supplied.add(name)
        self._check_alternatives(model, request, shaped)
        shaped.shape = Shape(model.name, tuple(fields))
        return shaped

    def _taken_in(self, model: Model, name: str, pointers: Pointers, shaped: Shaped) -> ShapeField | None:
        if name == model.key.name and not model.key.client:
            return None  # made by the server, whatever the client says
        if name in model.properties:
            stored = model.properties[name]
            if stored.generated is not None and name != model.key.name:
                return None
            self._check_fit(model, name, pointers, shaped)
            hidden = self._schemas.write_only_within(pointers) if stored.type is ColumnType.JSON else None
            if hidden is not None and not stored.write_only:
                shaped.problems.append(
                    f"`{name}` is stored as it comes, with `{hidden}`, which responses must not show"
                )
            if self._breaks_as_null(model, name, pointers):
                shaped.ignored_nulls.append(name)
            return ShapeField(name, name, "property")
        if name in model.references:
            return self._taken_reference(model, name, pointers, shaped)
        if name in model.collections:
            return self._taken_collection(model, name, pointers, shaped)
        return None

    def _taken_reference(self, model: Model, name: str, pointers: Pointers, shaped: Shaped) -> ShapeField | None:
        reference = model.references[name]
        if not reference.embedded:
            self._check_fit(model, name, pointers, shaped)
            if self._breaks_as_null(model, name, pointers):
                shaped.problems.append(f"`{name}` may be written as null, which responses do not allow")
            return ShapeField(name, name, "reference")
        return self._embedded(name, "reference", pointers[0], self._known.models[reference.target], shaped)

    def _taken_collection(self, model: Model, name: str, pointers: Pointers, shaped: Shaped) -> ShapeField | None:
        collection = model.collections[name]
        items = self._schemas.merged(pointers).items
        if not collection.through:
            shaped.problems.append(f"`{name}` would write rows of {collection.target} within another")
            return None
        return (
            self._embedded(name, "collection", items, self._known.models[collection.target], shaped) if items else None
        )

    def _embedded(self, name: str, kind: str, pointer: str, target: Model, shaped: Shaped) -> ShapeField | None:
        inner = self._schemas.entity(pointer)
        match = self._relations.match(inner, target)
        has_key = target.key.name in inner.properties and not self._schemas.flag(
            inner.properties[target.key.name], "readOnly"
        )
        if not has_key and not match:
            shaped.problems.append(f"`{name}` does not say which {target.name} is meant")
            return None
        given = [one for one in inner.properties if one in target.properties and (one != target.key.name or has_key)]
        given = [one for one in given if not self._schemas.flag(inner.properties[one], "readOnly")]
        nested = Shape(target.name, tuple(ShapeField(one, one, "property") for one in given))
        needs_match = not has_key or target.key.name not in inner.required
        return ShapeField(name, name, kind, nested, match=match if needs_match else ())

    def _check_fit(self, model: Model, name: str, pointers: Pointers, shaped: Shaped) -> None:
        if name not in model.reads or model.properties.get(name, _ANY).write_only:
            return
        if not self._schemas.all_fit(pointers, model.reads[name]):
            shaped.problems.append(f"`{name}` may be written in a form that responses do not allow")

    def _breaks_as_null(self, model: Model, name: str, pointers: Pointers) -> bool:
        """Whether a request may write null where responses must show a value."""
        if name not in model.needed or model.properties.get(name, _ANY).write_only:
            return False
        return self._schemas.nullable(pointers) and not self._schemas.nullable(model.reads[name])

    def _check_alternatives(self, model: Model, request: Request, shaped: Shaped) -> None:
        for pointer in model.draft.reads:
            read = self._schemas.entity(pointer)
            if (read.cross or read.variants) and not self._schemas.fits(request.entity, pointer):
                shaped.problems.append(
                    "the response's alternatives or conditions cannot be kept by storing single properties"
                )
                return

    def missing(self, model: Model, shaped: Shaped, given: Iterable[str]) -> Iterator[str]:
        """Required by responses, but neither in every request, nor made, nor with a default."""
        have = shaped.supplied | set(given)
        for name in sorted(model.needed):
            stored = model.properties.get(name)
            made = stored is not None and (stored.generated is not None or stored.has_default)
            if name in have or made or name in model.collections:
                continue
            yield name
