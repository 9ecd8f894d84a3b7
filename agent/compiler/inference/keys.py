"""What identifies a row of each resource, and which schemas its properties have. Rules 6 and 7."""

from typing import Any

from agent.compiler.inference.model import Key, Known, Model, Pointers
from agent.compiler.inference.paths import Group
from agent.compiler.inference.resources import Draft, side_effect
from agent.compiler.ir import ColumnType, Generated
from agent.compiler.words import fold, same_noun

Json = Any
INTEGERS = (ColumnType.INTEGER, ColumnType.BIGINT, ColumnType.NUMERIC)
_SERIES = (1, 1_000_000)
_UUID = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
_TOKEN = "0123456789abcdef0123456789abcdef"


class Keys:
    """Starts the models: what is read and written of each, and its key."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._schemas = known.schemas

    def start(self, draft: Draft) -> Model:
        """The model of a draft: its schemas by property, and its key."""
        model = Model(draft, Key("id", ColumnType.BIGINT, Generated.IDENTITY, visible=False))
        for pointer in draft.reads:
            view = self._schemas.entity(pointer)
            for name, pointers in view.properties.items():
                if not self._schemas.flag(pointers, "writeOnly"):
                    model.reads[name] = tuple(dict.fromkeys((*model.reads.get(name, ()), *pointers)))
            model.needed |= {name for name in view.required if name in model.reads}
        for group in draft.groups:
            self._gather_writes(model, group)
        model.key = self._key(model)
        return model

    def _gather_writes(self, model: Model, group: Group) -> None:
        for operation in group.operations():
            if operation.method not in ("POST", "PUT", "PATCH") or not operation.body:
                continue
            request = self._known.finder.request(operation, model.draft)
            if request is None:
                continue
            model.writes.append((operation, request))
            at_collection = not self._known.routes[operation.path].ends_with_item
            if operation.method == "POST" and at_collection and side_effect(operation) is None:
                model.creates.append((operation, request))
            for name, pointers in self._schemas.entity(request.entity).properties.items():
                if not self._schemas.flag(pointers, "readOnly"):
                    model.written[name] = tuple(dict.fromkeys((*model.written.get(name, ()), *pointers)))

    def _key(self, model: Model) -> Key:
        by_id = self._id_property(model)
        by_path = next((name for name in map(self._path_of(model), self._item_parameters(model)) if name), None)
        name = by_id or by_path
        if name is None:
            return self._synthetic(model)
        pointers = model.reads.get(name) or model.written[name]
        column = self._schemas.column(self._schemas.merged(pointers))
        demanded = any(
            name in self._schemas.entity(request.entity).required and name in model.written
            for _, request in model.creates
        )
        if demanded:
            return Key(name, column, None, visible=True, pointers=pointers, client=True)
        generated = self._generation(column, pointers)
        client = name in model.written and by_id is None and column is ColumnType.STRING
        return Key(
            name, column, generated, visible=name in model.reads, pointers=pointers, client=client or generated is None
        )

    def _item_parameters(self, model: Model) -> list[str]:
        groups = [group for group in model.draft.groups if same_noun(group.noun, model.draft.noun)]
        return [name for group in groups for name in group.item_parameters]

    def _path_of(self, model: Model) -> Any:
        return lambda parameter: self._known.path_property(model, parameter)

    def _id_property(self, model: Model) -> str | None:
        nouns = self._known.nouns(model)
        wanted = ["id", *(noun + "id" for noun in nouns), "uuid", "guid", *(noun + "uuid" for noun in nouns)]
        folded = {fold(name): name for name in reversed(model.reads)}
        return next(
            (folded[one] for one in wanted if one in folded and self._known.is_scalar(model.reads[folded[one]])), None
        )

    def _synthetic(self, model: Model) -> Key:
        """No property identifies a row: a hidden key, whose type the path's parameter tells."""
        name = "id" if "id" not in model.reads and "id" not in model.written else "row_id"
        for group in model.draft.groups:
            for operation in group.at_item.values():
                step = self._known.routes[operation.path].steps[-1]
                parameter = operation.parameter(step.parameter, "path")
                if parameter is None:
                    continue
                column = self._schemas.column(self._schemas.view(parameter.schema_pointer))
                generated = self._generation(column, (parameter.schema_pointer,))
                if generated:
                    return Key(name, column, generated, visible=False)
        return Key(name, ColumnType.BIGINT, Generated.IDENTITY, visible=False)

    def _generation(self, column: ColumnType, pointers: Pointers) -> Generated | None:
        if column in INTEGERS:
            return Generated.IDENTITY
        if column is ColumnType.UUID:
            return Generated.UUID
        if column is not ColumnType.STRING:
            return None
        for value, kind in ((_UUID, Generated.UUID), (_TOKEN, Generated.TOKEN)):
            if all(self._known.validator.valid(one, value) for one in pointers):
                return kind
        return None


def made_keys(generated: Generated, *, is_text: bool) -> tuple[Json, ...]:
    """Keys that the server makes, early and late ones. `is_text`: as a path of texts says them."""
    if generated is Generated.IDENTITY:
        return tuple(str(one) if is_text else one for one in _SERIES)
    return (_UUID if generated is Generated.UUID else _TOKEN,)
