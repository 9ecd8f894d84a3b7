"""From drafts to resources: keys, references, collections, properties, and the shapes of bodies. Rules 6 to 9.

A shape that cannot be filled says why, in words: whoever plans an operation turns that into the reason of a hook.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from agent.compiler import infer_vocabulary as vocabulary
from agent.compiler.infer_document import RawOperation
from agent.compiler.infer_paths import Group, Route, Step
from agent.compiler.infer_resources import Draft, Finder, Request, side_effect
from agent.compiler.infer_schema import Schemas, View
from agent.compiler.ir import (
    Collection,
    ColumnType,
    Generated,
    Property,
    Reference,
    Resource,
    Scope,
    Shape,
    ShapeField,
)
from agent.compiler.validation import Validator
from agent.compiler.words import fold, same_noun, singular, stem

Json = Any

_INTEGERS = (ColumnType.INTEGER, ColumnType.BIGINT, ColumnType.NUMERIC)
_UUID = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
_TOKEN = "0123456789abcdef0123456789abcdef"
_NESTING = 3  # levels of embedded resources in one representation
_NESTED = 40  # embedded resources in one representation; optional ones beyond are left out

Pointers = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Key:
    """What identifies a row."""

    name: str
    column: ColumnType
    generated: Generated | None
    visible: bool
    pointers: Pointers = ()
    client: bool = False  # a client may choose it


@dataclass(frozen=True, slots=True)
class Parent:
    """The tie of a nested collection to the collection above it."""

    target: Draft
    reference: str | None  # None: membership in the many-to-many collection `through`
    through: str | None = None


@dataclass(slots=True)
class Model:
    """A resource with everything that is known about it."""

    draft: Draft
    key: Key
    creates: list[tuple[RawOperation, Request]] = field(default_factory=list)
    writes: list[tuple[RawOperation, Request]] = field(default_factory=list)
    reads: dict[str, Pointers] = field(default_factory=dict)  # property → its schemas in responses
    written: dict[str, Pointers] = field(default_factory=dict)  # property → its schemas in requests
    needed: set[str] = field(default_factory=set)  # required by some response
    properties: dict[str, Property] = field(default_factory=dict)
    references: dict[str, Reference] = field(default_factory=dict)
    collections: dict[str, Collection] = field(default_factory=dict)
    parents: dict[tuple[str, ...], Parent] = field(default_factory=dict)  # nested group → tie
    scopes: dict[tuple[str, ...], tuple[Scope, ...]] = field(default_factory=dict)  # group → plain columns of its path
    used: bool = False  # some derived operation needs it

    @property
    def name(self) -> str:
        """The resource's name."""
        return self.draft.name


@dataclass(slots=True)
class Shaped:
    """A shape, and what stands against it."""

    shape: Shape
    problems: list[str] = field(default_factory=list)
    supplied: set[str] = field(default_factory=set)  # in a request: what every valid body gives


class Modeller:
    """Builds the models of one document."""

    def __init__(self, schemas: Schemas, validator: Validator, finder: Finder, routes: Mapping[str, Route]) -> None:
        self._schemas = schemas
        self._validator = validator
        self._finder = finder
        self._routes = routes
        self.models: dict[str, Model] = {}
        self._nested = 0
        self._shapes: dict[tuple[str, str], Shaped] = {}

    def build(self) -> None:
        """Fill `models`: all keys first, then the ties to parents, then everything else."""
        for draft in self._finder.drafts:
            self.models[draft.name] = self._start(draft)
        for model in self.models.values():
            self._tie(model)
        for model in self.models.values():
            self._relate(model)
        for model in self.models.values():
            self._store(model)

    def of(self, draft: Draft | None) -> Model | None:
        """The model of a draft."""
        return self.models[draft.name] if draft else None

    def of_schema(self, pointer: str) -> Model | None:
        """The model that a schema represents."""
        return self.of(self._finder.of_schema(pointer))

    def resource(self, model: Model) -> Resource:
        """The finished resource."""
        scope = self._key_scope(model)
        return Resource(
            name=model.name,
            key=model.key.name,
            properties=tuple(model.properties.values()),
            references=tuple(model.references.values()),
            collections=tuple(model.collections.values()),
            key_visible=model.key.visible,
            singleton=model.draft.singleton,
            schema_pointer=model.draft.entity,
            key_scope=scope,
        )

    # --- keys ---

    def _start(self, draft: Draft) -> Model:
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
            request = self._finder.request(operation, model.draft)
            if request is None:
                continue
            model.writes.append((operation, request))
            at_collection = not self._routes[operation.path].ends_with_item
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
        return lambda parameter: self.path_property(model, parameter)

    def _nouns(self, model: Model) -> list[str]:
        draft = model.draft
        return list(
            dict.fromkeys(fold(one) for one in (draft.name, singular(draft.noun), draft.noun, stem(draft.name)))
        )

    def _id_property(self, model: Model) -> str | None:
        nouns = self._nouns(model)
        wanted = ["id", *(noun + "id" for noun in nouns), "uuid", "guid", *(noun + "uuid" for noun in nouns)]
        folded = {fold(name): name for name in reversed(model.reads)}
        return next(
            (folded[one] for one in wanted if one in folded and self._is_scalar(model.reads[folded[one]])), None
        )

    def _is_scalar(self, pointers: Pointers) -> bool:
        return self._schemas.column(self._schemas.merged(pointers)) not in (
            ColumnType.JSON,
            ColumnType.FLOAT,
            ColumnType.BOOLEAN,
        )

    def path_property(self, model: Model, parameter: str) -> str | None:
        """The property that a path parameter names (rule 7): itself, without the noun before it, or `id`."""
        known = {**{fold(name): name for name in model.written}, **{fold(name): name for name in model.reads}}
        folded = fold(parameter)
        candidates = [folded]
        for noun in self._nouns(model):
            if folded.startswith(noun) and len(folded) > len(noun):
                candidates.append(folded[len(noun) :])
            candidates.append(noun + folded)
        if folded == "id" or any(folded in (noun, noun + "id") for noun in self._nouns(model)):
            candidates.append("id")
        found = next((known[one] for one in candidates if one in known), None)
        if found is None or not self._is_scalar(model.reads.get(found) or model.written[found]):
            return None
        return found

    def _synthetic(self, model: Model) -> Key:
        """No property identifies a row: a hidden key, whose type the path's parameter tells."""
        name = "id" if "id" not in model.reads and "id" not in model.written else "row_id"
        for group in model.draft.groups:
            for operation in group.at_item.values():
                step = self._routes[operation.path].steps[-1]
                parameter = operation.parameter(step.parameter, "path")
                if parameter is None:
                    continue
                column = self._schemas.column(self._schemas.view(parameter.schema_pointer))
                generated = self._generation(column, (parameter.schema_pointer,))
                if generated:
                    return Key(name, column, generated, visible=False)
        return Key(name, ColumnType.BIGINT, Generated.IDENTITY, visible=False)

    def _generation(self, column: ColumnType, pointers: Pointers) -> Generated | None:
        if column in _INTEGERS:
            return Generated.IDENTITY
        if column is ColumnType.UUID:
            return Generated.UUID
        if column is not ColumnType.STRING:
            return None
        for value, kind in ((_UUID, Generated.UUID), (_TOKEN, Generated.TOKEN)):
            if all(self._validator.valid(one, value) for one in pointers):
                return kind
        return None

    def _key_scope(self, model: Model) -> tuple[str, ...]:
        """A key that clients choose is unique within its parent only, if it is reached through the parent only."""
        home = model.draft.home
        if not model.key.client or not home.is_nested:
            return ()
        parent = model.parents.get(home.key)
        scopes = tuple(scope.property for scope in model.scopes.get(home.key, ()))
        return (*scopes, *((parent.reference,) if parent and parent.reference else ()))

    # --- ties to parents ---

    def _tie(self, model: Model) -> None:
        for group in model.draft.groups:
            if not group.is_nested:
                continue
            operation = next(iter(group.operations()), None)
            if operation is None:
                continue
            steps = [step for step in self._routes[operation.path].steps if len(step.collection) < len(group.key)]
            steps = [step for step in steps if step.collection != group.key]
            unknown = self._unknown_steps(steps)
            if unknown:
                model.scopes[group.key] = tuple(self._scope(model, step, operation) for step in unknown)
            if steps and steps[-1] not in unknown:
                parent = self.of(self._finder.of_group(steps[-1].collection))
                if parent is not None and parent is not model:
                    model.parents[group.key] = self._parent(model, group, parent, steps[-1])

    def _unknown_steps(self, steps: list[Step]) -> list[Step]:
        """Steps after the last known ancestor whose collection is no resource."""
        unknown: list[Step] = []
        for step in reversed(steps):
            if self._finder.of_group(step.collection) is not None:
                break
            unknown.append(step)
        return list(reversed(unknown))

    def _scope(self, model: Model, step: Step, operation: RawOperation) -> Scope:
        known = {fold(name): name for name in model.reads}
        named = step.collection[-1] if step.collection and step.collection[-1] != "{}" else ""
        noun = fold(singular(named))
        for candidate in (fold(step.parameter), *((noun, noun + "id") if noun else ())):
            if candidate in known and self._is_scalar(model.reads[known[candidate]]):
                return Scope(step.parameter, known[candidate])
        parameter = operation.parameter(step.parameter, "path")
        column = self._schemas.column(self._schemas.view(parameter.schema_pointer)) if parameter else ColumnType.STRING
        column = ColumnType.STRING if column is ColumnType.JSON else column
        model.properties.setdefault(
            step.parameter, Property(step.parameter, column, False, True, hidden=True, pointer=operation.pointer)
        )
        return Scope(step.parameter, step.parameter)

    def _parent(self, model: Model, group: Group, parent: Model, step: Step) -> Parent:
        visible = self._parent_property(model, parent, step)
        if visible is None and self._is_membership(model, group):
            return Parent(parent.draft, None, self._membership(model, group, parent))
        name = visible or step.parameter
        while visible is None and (name in model.reads or name in model.written or self._taken(model, name, parent)):
            name += "_parent"
        embedded = (
            visible is not None and self._schemas.column(self._schemas.merged(model.reads[visible])) is ColumnType.JSON
        )
        existing = model.references.get(name)
        model.references[name] = existing or Reference(
            name,
            parent.name,
            embedded=embedded,
            required=self._always_below(model, parent),
            nullable=visible is not None and self._schemas.nullable(model.reads[visible]),
            visible=visible is not None,
            parent=True,
            pointer=model.reads[visible][0] if visible else model.draft.entity,
        )
        return Parent(parent.draft, name)

    def _taken(self, model: Model, name: str, parent: Model) -> bool:
        return name in model.references and model.references[name].target != parent.name

    def _parent_property(self, model: Model, parent: Model, step: Step) -> str | None:
        """The child's property that shows its parent: `ownerId`, the parameter's own name, or the embedded parent."""
        nouns = self._nouns(parent)
        key = fold(parent.key.name)
        wanted = [fold(step.parameter), *(noun + "id" for noun in nouns), *(noun + key for noun in nouns)]
        folded = {fold(name): name for name in model.reads}
        for one in wanted:
            name = folded.get(one)
            if (
                name
                and name != model.key.name
                and self._schemas.column(self._schemas.merged(model.reads[name])) is parent.key.column
            ):
                return name
        for noun in nouns:
            name = folded.get(noun)
            if name and self.of_schema(model.reads[name][0]) is parent:
                return name
        return None

    def _is_membership(self, model: Model, group: Group) -> bool:
        """Below another thing, but with a collection of its own: members, unless they are made here and only here."""
        if model.draft.home.key == group.key:
            return False
        picks = [self.path_property(model, name) for name in group.item_parameters]
        if model.draft.home.is_nested and (not picks or any(picks)):
            return False
        makes = "POST" in group.at_collection and any(
            operation is group.at_collection["POST"] for operation, _ in model.creates
        )
        return not makes

    def _always_below(self, model: Model, parent: Model) -> bool:
        """Whether every row is made below this parent (or names it)."""
        makers = [operation for operation, _ in model.creates]
        below = [
            one
            for one in makers
            if self._routes[one.path].steps
            and self._finder.of_group(self._routes[one.path].steps[-1].collection) is parent.draft
        ]
        if not makers:
            return (
                all(group.is_nested for group in model.draft.groups)
                and len({self._parent_key(group) for group in model.draft.groups}) == 1
            )
        nouns = [noun + "id" for noun in self._nouns(parent)]
        naming = [
            operation
            for operation, request in model.creates
            if operation not in below
            and any(fold(name) in nouns for name in self._schemas.entity(request.entity).required)
        ]
        return len(below) + len(naming) == len(makers)

    @staticmethod
    def _parent_key(group: Group) -> tuple[str, ...]:
        return group.key[: len(group.key) - 1 - group.key[::-1].index("{}")] if "{}" in group.key else ()

    def _membership(self, model: Model, group: Group, parent: Model) -> str:
        """A many-to-many relation that only paths speak of: one link table, seen from both sides."""
        name = group.noun
        while name in parent.reads or name in parent.written:
            name += "_members"
        mirror = next(
            (
                one
                for one in model.collections.values()
                if one.target == parent.name and one.through and not one.visible
            ),
            None,
        )
        inverse = mirror.name if mirror and mirror.inverse is None else None
        parent.collections.setdefault(
            name, Collection(name, model.name, None, True, True, False, group.noun, visible=False, inverse=inverse)
        )
        return name

    # --- other relations ---

    def _relate(self, model: Model) -> None:
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
        target = self.of_schema(view.items)
        if target is None or target is model or target.draft.singleton:
            return
        owned = next((one for one in target.references.values() if one.parent and one.target == model.name), None)
        pointer = (model.reads.get(name) or model.written[name])[0]
        required = name in model.needed
        if owned is not None and name in model.reads:
            model.collections[name] = Collection(name, target.name, owned.name, False, False, required, pointer)
        elif owned is None and name in model.written and self._identifies(model.written[name], target, items=True):
            model.collections[name] = Collection(name, target.name, None, True, True, required, pointer)

    def _embed(self, model: Model, name: str, pointers: Pointers) -> None:
        target = self.of_schema(pointers[0])
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
        if entity is None or target.key.column is ColumnType.JSON or self._key_is_scoped(target):
            return False
        inner = self._schemas.entity(entity)
        has_key = target.key.name in inner.properties and not self._schemas.flag(
            inner.properties[target.key.name], "readOnly"
        )
        return (has_key and target.key.name in inner.required) or bool(self._match(inner, target))

    def _key_is_scoped(self, model: Model) -> bool:
        return model.draft.home.is_nested and model.key.client

    def _match(self, inner: View, target: Model) -> tuple[str, ...]:
        """Scalars by which an embedded object finds its row; () if a row could not be made from them."""
        given = {name for name, pointers in inner.properties.items() if not self._schemas.flag(pointers, "readOnly")}
        scalars = tuple(
            name
            for name in inner.properties
            if name in given
            and name in target.reads
            and name != target.key.name
            and self._is_scalar(target.reads[name])
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
            for one in self.models.values()
            if one is not model and noun in self._nouns(one) and not one.draft.singleton
        ]
        if len(targets) != 1 or targets[0].key.column is not column or self._key_is_scoped(targets[0]):
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

    # --- properties ---

    def _store(self, model: Model) -> None:
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
        for noun in self._nouns(model):
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
        return Generated.VERSION if is_version and column in _INTEGERS else None

    def _default(self, model: Model, name: str, pointers: Pointers, view: View) -> tuple[Json, ...]:
        """(value,) that stands in when a create does not give the property."""
        sites = [self._schemas.document.at(one) for one in (*model.written.get(name, ()), *pointers)]
        said = [node["default"] for node in sites if isinstance(node, dict) and "default" in node]
        said += [view.facets["default"]] if "default" in view.facets else []
        for value in said:
            if all(self._validator.valid(one, value) for one in pointers):
                return (value,)
        if name in model.needed and name not in model.written and view.constant is not None:
            return view.constant
        return ()

    def _mark_unique(self, model: Model) -> None:
        """Properties by which a path picks one row, beside the key."""
        for group in model.draft.groups:
            for operation in (*group.at_item.values(), *group.lookups):
                route = self._routes[operation.path]
                name = self.path_property(model, route.steps[-1].parameter) if route.ends_with_item else None
                single = operation.method != "GET" or self._finder.answer(operation).kind.value == "item"
                mine = same_noun(group.noun, model.draft.noun) and not any(step.field for step in route.steps[:-1])
                if (
                    name in model.properties
                    and name != model.key.name
                    and single
                    and mine
                    and not model.draft.home.is_nested
                ):
                    model.properties[name] = replace(model.properties[name], unique=True)

    # --- shapes ---

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
        inner = self._show(self.models[target_name], inner_pointer, above)
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
                if name in view.required:
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
            return ShapeField(name, name, "reference")
        return self._embedded(name, "reference", pointers[0], self.models[reference.target], shaped)

    def _taken_collection(self, model: Model, name: str, pointers: Pointers, shaped: Shaped) -> ShapeField | None:
        collection = model.collections[name]
        items = self._schemas.merged(pointers).items
        if not collection.through:
            shaped.problems.append(f"`{name}` would write rows of {collection.target} within another")
            return None
        return self._embedded(name, "collection", items, self.models[collection.target], shaped) if items else None

    def _embedded(self, name: str, kind: str, pointer: str, target: Model, shaped: Shaped) -> ShapeField | None:
        inner = self._schemas.entity(pointer)
        match = self._match(inner, target)
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
        elif (
            self._schemas.nullable(pointers) and not self._schemas.nullable(model.reads[name]) and name in model.needed
        ):
            shaped.problems.append(f"`{name}` may be written as null, which responses do not allow")

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


_ANY = Property("", ColumnType.JSON, True, False)
