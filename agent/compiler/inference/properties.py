"""What is stored of each resource: types, defaults, what the server makes, what is unique."""

from dataclasses import replace
from typing import Any

from agent.compiler.inference import vocabulary
from agent.compiler.inference.keys import INTEGERS
from agent.compiler.inference.model import Known, Model, Pointers
from agent.compiler.ir import ColumnType, Generated, Property
from agent.compiler.schemas.views import View
from agent.compiler.words import fold, same_noun

Json = Any


class Properties:
    """Fills `properties` of the models: everything that is neither a reference nor a collection."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._schemas = known.schemas

    def store(self, model: Model) -> None:
        """Decide the properties of `model`."""
        stored = {**model.written, **model.reads}
        if model.key.name not in stored:
            key = model.key
            model.properties[key.name] = Property(key.name, key.column, False, True, key.generated, unique=True)
        for name, pointers in stored.items():
            if name not in model.references and name not in model.collections:
                model.properties[name] = self._property(model, name, model.reads.get(name, pointers))
        self._mark_unique(model)

    def _property(self, model: Model, name: str, pointers: Pointers) -> Property:
        view = self._schemas.merged(pointers)
        column = self._schemas.column(view)
        is_key = name == model.key.name
        generated = model.key.generated if is_key else self._generated(model, name, column, view)
        if generated in (Generated.CREATED_AT, Generated.UPDATED_AT) and column is ColumnType.STRING:
            column = ColumnType.DATETIME
        default = self._default(model, name, pointers, view)
        secret = fold(name) in vocabulary.SECRETS or view.facets.get("format") == "password"
        return Property(
            name=name,
            type=column,
            nullable=self._schemas.nullable(pointers) and not is_key,
            required=is_key or name in model.needed or generated is not None or bool(default),
            generated=generated,
            unique=is_key,
            default=default[0] if default else None,
            has_default=bool(default),
            enum=tuple(view.facets.get("enum", ())),
            max_length=view.facets.get("maxLength") if column is ColumnType.STRING else None,
            pointer=pointers[0],
            write_only=name not in model.reads or (secret and name not in model.needed),
            secret=secret and name not in model.needed and column is ColumnType.STRING,
        )

    def _generated(self, model: Model, name: str, column: ColumnType, view: View) -> Generated | None:
        """Values that the server makes: times and the row's version. A client's value for them is not taken."""
        asked = any(
            name in self._schemas.entity(request.entity).required and name in model.written
            for _, request in model.writes
        )
        if asked or name not in model.reads or "enum" in view.facets:
            return None
        folded = fold(name)
        for noun in self._known.nouns(model):
            folded = (
                folded.removeprefix(noun)
                if folded.removeprefix(noun) in vocabulary.CREATED | vocabulary.UPDATED
                else folded
            )
        timed = column is ColumnType.DATETIME or column in (ColumnType.BIGINT, ColumnType.NUMERIC)
        timed = timed or (
            column is ColumnType.STRING
            and "format" not in view.facets
            and "pattern" not in view.facets
            and folded.endswith(("at", "time", "timestamp"))
        )
        if timed and folded in vocabulary.CREATED:
            return Generated.CREATED_AT
        if timed and folded in vocabulary.UPDATED:
            return Generated.UPDATED_AT
        is_version = folded in vocabulary.ROW_VERSION or (folded == "version" and name not in model.written)
        return Generated.VERSION if is_version and column in INTEGERS else None

    def _default(self, model: Model, name: str, pointers: Pointers, view: View) -> tuple[Json, ...]:
        """(value,) that stands in when a create does not give the property."""
        sites = [self._schemas.document.at(one) for one in (*model.written.get(name, ()), *pointers)]
        said = [node["default"] for node in sites if isinstance(node, dict) and "default" in node]
        said += [view.facets["default"]] if "default" in view.facets else []
        for value in said:
            if all(self._known.validator.valid(one, value) for one in pointers):
                return (value,)
        if name in model.needed and name not in model.written and view.constant is not None:
            return view.constant
        return ()

    def _mark_unique(self, model: Model) -> None:
        """Properties by which a path picks one row, beside the key."""
        for group in model.draft.groups:
            for operation in (*group.at_item.values(), *group.lookups):
                route = self._known.routes[operation.path]
                name = self._known.path_property(model, route.steps[-1].parameter) if route.ends_with_item else None
                single = operation.method != "GET" or self._known.finder.answer(operation).kind.value == "item"
                mine = same_noun(group.noun, model.draft.noun) and not any(step.field for step in route.steps[:-1])
                if (
                    name in model.properties
                    and name != model.key.name
                    and single
                    and mine
                    and not model.draft.home.is_nested
                ):
                    model.properties[name] = replace(model.properties[name], unique=True)
