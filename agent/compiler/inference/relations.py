"""Relations that properties show: embedded things, lists of things, `fooId`. Rule 9."""

from agent.compiler.inference.model import Known, Model, Pointers
from agent.compiler.ir import Collection, ColumnType, Reference
from agent.compiler.schemas.views import View
from agent.compiler.words import fold


class Relations:
    """Fills `references` and `collections` of the models, beside those to parents."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._schemas = known.schemas
        self._matches: dict[tuple[str, str], tuple[str, ...]] = {}

    def relate(self, model: Model) -> None:
        """Find which properties of `model` speak of other resources."""
        for name, pointers in {**model.written, **model.reads}.items():
            if name in model.references or name == model.key.name:
                continue
            view = self._schemas.merged(pointers)
            if view.is_array and view.items:
                self._collect(model, name, view)
            elif view.is_object:
                self._embed(model, name, pointers)
            else:
                self._point(model, name, pointers, view)

    def _collect(self, model: Model, name: str, view: View) -> None:
        assert view.items is not None
        target = self._known.of_schema(view.items)
        if target is None or target is model or target.draft.singleton:
            return
        owned = next((one for one in target.references.values() if one.parent and one.target == model.name), None)
        pointer = (model.reads.get(name) or model.written[name])[0]
        required = name in model.needed
        if owned is not None and name in model.reads:
            model.collections[name] = Collection(name, target.name, owned.name, False, required, pointer)
        elif owned is None and name in model.written and self._identifies(model.written[name], target, items=True):
            model.collections[name] = Collection(name, target.name, None, True, required, pointer)

    def _embed(self, model: Model, name: str, pointers: Pointers) -> None:
        target = self._known.of_schema(pointers[0])
        if target is None or target is model or target.draft.singleton or name not in model.written:
            return
        if not self._identifies(model.written[name], target, items=False):
            return
        read = model.reads.get(name, pointers)
        model.references[name] = Reference(
            name,
            target.name,
            embedded=True,
            required=self._demanded(model, name),
            nullable=self._schemas.nullable(read),
            pointer=read[0],
        )

    def _identifies(self, pointers: Pointers, target: Model, *, items: bool) -> bool:
        """Whether what a request embeds says which row is meant: by key, or by values from which one can be made."""
        view = self._schemas.merged(pointers)
        entity = view.items if items else pointers[0]
        if entity is None or target.key.column is ColumnType.JSON or self._known.key_is_scoped(target):
            return False
        inner = self._schemas.entity(entity)
        has_key = target.key.name in inner.properties and not self._schemas.flag(
            inner.properties[target.key.name], "readOnly"
        )
        return (has_key and target.key.name in inner.required) or bool(self.match(inner, target))

    def match(self, inner: View, target: Model) -> tuple[str, ...]:
        """Scalars by which an embedded object finds its row; () if a row could not be made from them."""
        key = (inner.pointer, target.name)
        if key not in self._matches:
            self._matches[key] = self._match(inner, target)
        return self._matches[key]

    def _match(self, inner: View, target: Model) -> tuple[str, ...]:
        given = {name for name, pointers in inner.properties.items() if not self._schemas.flag(pointers, "readOnly")}
        scalars = tuple(
            name
            for name in inner.properties
            if name in given
            and name in target.reads
            and name != target.key.name
            and self._known.is_scalar(target.reads[name])
        )
        makeable = target.needed - {target.key.name} <= (given & inner.required) and not target.draft.home.is_nested
        return scalars if makeable and scalars and set(scalars) & inner.required else ()

    def _point(self, model: Model, name: str, pointers: Pointers, view: View) -> None:
        """`fooId` with a known target, where the document leaves an answer for a missing one (rule 9)."""
        folded = fold(name)
        if not folded.endswith("id") or folded == "id" or name not in model.written:
            return
        noun = folded[:-2]
        column = self._schemas.column(view)
        targets = [
            one
            for one in self._known.models.values()
            if one is not model and noun in self._known.nouns(one) and not one.draft.singleton
        ]
        if len(targets) != 1 or targets[0].key.column is not column or self._known.key_is_scoped(targets[0]):
            return
        writers = [
            operation for operation, request in model.writes if name in self._schemas.entity(request.entity).properties
        ]
        if not all(operation.declares(404) or operation.declares(409) for operation in writers):
            return
        model.references[name] = Reference(
            name,
            targets[0].name,
            embedded=False,
            required=self._demanded(model, name),
            nullable=self._schemas.nullable(pointers),
            pointer=pointers[0],
        )

    def _demanded(self, model: Model, name: str) -> bool:
        """Whether every row has it: responses require it, and every create gives it."""
        return name in model.needed and all(
            name in self._schemas.entity(request.entity).required for _, request in model.creates
        )
