"""Which things are stored: collections of paths and the schemas of their items make resources. Rules 4, 5, 7, 12."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from agent.compiler.inference.paths import Group, GroupKey, Route
from agent.compiler.inference.response import Answer, Kind, Responses
from agent.compiler.inference.vocabulary import ACTIONS, AUTH, SIDE_EFFECTS
from agent.compiler.schemas.document import Document, RawOperation
from agent.compiler.schemas.views import Schemas
from agent.compiler.words import fold, pascal, same_noun, singular, stem, words

Json = Any

_OVERLAP = 0.6  # share of property names at which two schemas are variants of one thing (measured: facts, rule 5)


@dataclass(frozen=True, slots=True)
class Request:
    """A request body, understood: the schema of the entity inside, where it lies, one or many."""

    entity: str
    unwrap: tuple[str, ...] = ()
    many: bool = False


@dataclass(slots=True)
class Draft:
    """A resource in the making."""

    name: str
    entity: str  # schema of the representation that describes it best
    home: Group
    groups: list[Group] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)  # schemas that responses show it by
    singleton: bool = False

    @property
    def noun(self) -> str:
        """Last static segment of its collection."""
        return self.home.noun


def side_effect(operation: RawOperation) -> str | None:
    """The verb that says that an operation does more than store; None if there is none."""
    if operation.method in ("GET", "DELETE"):
        return None
    for text in (operation.id, str(operation.node.get("summary", ""))):
        verb = first_word(operation, text)
        if verb in SIDE_EFFECTS:
            return verb
    return None


def first_word(operation: RawOperation, text: str) -> str | None:
    """The first word of a name or summary; generators put the operation's tag before it (`login-recover_password`)."""
    said = words(text)
    for tag in map(words, map(str, operation.node.get("tags", ()))):
        if tag and said[: len(tag)] == tag and len(said) > len(tag) + 1:
            said = said[len(tag) :]
            break
    return said[0] if said else None


class Finder:
    """Finds the resources of one document."""

    def __init__(
        self,
        document: Document,
        schemas: Schemas,
        responses: Responses,
        routes: dict[str, Route],
        groups: dict[GroupKey, Group],
    ) -> None:
        self._document = document
        self._schemas = schemas
        self._responses = responses
        self._routes = routes
        self._groups = groups
        self._by_group: dict[GroupKey, Draft] = {}
        self._answers: dict[str, Answer] = {}
        self.drafts: list[Draft] = []

    def find(self) -> None:
        """Fill `drafts`; shorter paths first, so that a parent is known before its children."""
        found: dict[str, list[Group]] = {}
        for group in sorted(self._groups.values(), key=lambda one: len(one.key)):
            entity = self._entity(group)
            if entity is not None:
                found.setdefault(entity, []).append(group)
        for entity, members in found.items():
            self._assign(entity, members)
        self._merge_variants()
        self._name()
        for draft in self.drafts:
            self._gather_reads(draft)

    def of_group(self, key: GroupKey) -> Draft | None:
        """The resource whose items a collection holds."""
        return self._by_group.get(key)

    def of_schema(self, pointer: str) -> Draft | None:
        """The resource that a schema represents: one of its representations, or a component named after it."""
        final = self._schemas.final(pointer)
        for draft in self.drafts:
            if final == draft.entity or final in draft.reads:
                return draft
        name = self._responses.entity_name(final)
        if not name:
            return None
        return next(
            (
                one
                for one in self.drafts
                if fold(stem(name)) == fold(stem(one.name)) and self.overlap(final, one.entity) >= _OVERLAP
            ),
            None,
        )

    def answer(self, operation: RawOperation) -> Answer:
        """The success body of an operation, understood."""
        if operation.pointer not in self._answers:
            pointer = operation.answer.schema_pointer
            noun = self._routes[operation.path].noun
            self._answers[operation.pointer] = self._responses.read(pointer, noun) if pointer else Answer(Kind.NOTHING)
        return self._answers[operation.pointer]

    def overlap(self, one: str, other: str) -> float:
        """Share of the smaller schema's properties that the other has too; the version that a change expects aside."""
        mine, theirs = self._names(one), self._names(other)
        smaller = min(len(mine), len(theirs))
        return len(mine & theirs) / smaller if smaller else 0.0

    def _names(self, pointer: str) -> set[str]:
        names = self._schemas.entity(pointer).properties.keys()
        return {
            name
            for name in names
            if not fold(name).startswith(("currententityversion", "expectedversion", "currentversion"))
        }

    def request(self, operation: RawOperation, draft: Draft) -> Request | None:
        """The entity in a request body; None if the body does not speak of `draft`."""
        pointer = operation.body.schema_pointer if operation.body else None
        if pointer is None:
            return None
        view = self._schemas.entity(pointer)
        if view.is_array and view.items:
            inner = self._inside(view.items, draft)
            return Request(inner.entity, inner.unwrap, many=True) if inner else None
        return self._inside(pointer, draft)

    def _inside(self, pointer: str, draft: Draft) -> Request | None:
        view = self._schemas.entity(pointer)
        if not view.is_object:
            return None
        direct = self.overlap(pointer, draft.entity)
        for name, pointers in view.properties.items():
            inner = self._schemas.entity(pointers[0])
            names = (
                same_noun(name, draft.noun)
                or fold(stem(name)) == fold(stem(draft.name))
                or self._is_variant(pointers[0], draft)
            )
            if inner.is_object and names and direct < _OVERLAP and self.overlap(pointers[0], draft.entity) >= _OVERLAP:
                return Request(self._schemas.final(pointers[0]), (name,))
        return Request(self._schemas.final(pointer)) if direct >= _OVERLAP else None

    def _is_variant(self, pointer: str, draft: Draft) -> bool:
        name = self._responses.entity_name(pointer)
        return self._schemas.final(pointer) == draft.entity or (
            name != "" and fold(stem(name)) == fold(stem(draft.name))
        )

    # --- the entity of a group ---

    def _entity(self, group: Group) -> str | None:
        if fold(group.noun) in AUTH and not self._has(group.at_item):
            return None
        if self._is_view(group):
            return None
        for candidate in self._candidates(group):
            if self._is_thing(candidate) and not self._is_ancestors(group, candidate):
                return candidate
        return None

    def _is_thing(self, candidate: str) -> bool:
        """An object that is neither a list in an envelope nor an envelope alone."""
        view = self._schemas.entity(candidate)
        if not view.is_object or self._responses.read(candidate, "").kind is Kind.ITEMS:
            return False
        return not self._responses.is_only_meta(view)

    def _is_view(self, group: Group) -> bool:
        """A static segment beside `/{id}` that is only read: a selection of its siblings, unless it has a schema of its own."""
        if len(group.key) < 2 or group.key[-2] == "{}" or group.at_item or group.at_collection.keys() != {"GET"}:
            return False
        beside = self._groups.get(group.key[:-1])
        answer = self.answer(group.at_collection["GET"])
        inline = answer.entity is not None and not self._responses.entity_name(answer.entity)
        return beside is not None and bool(beside.at_item) and inline

    def _has(self, operations: dict[str, RawOperation]) -> bool:
        return bool(operations.keys() & {"GET", "PUT", "PATCH", "DELETE"})

    def _candidates(self, group: Group) -> Iterator[str]:
        yield from self._of(group.at_item.get("GET"), Kind.ITEM)
        yield from self._of(group.at_collection.get("GET"), Kind.ITEMS)
        for operation in group.lookups:
            if operation.method == "GET":
                yield from self._of(operation, Kind.ITEM)
                yield from self._of(operation, Kind.ITEMS)
        if group.at_collection.keys() & {"PUT", "PATCH", "POST"}:
            yield from self._of(group.at_collection.get("GET"), Kind.ITEM)
        yield from self._written(group)

    def _of(self, operation: RawOperation | None, kind: Kind) -> Iterator[str]:
        if operation is not None and (found := self.answer(operation)).kind is kind and found.entity:
            yield found.entity

    def _written(self, group: Group) -> Iterator[str]:
        """Things that no response lists: from what is sent, or by the name of a component."""
        if fold(group.noun) in ACTIONS and not group.at_item:
            return
        sent = [
            one
            for one in (group.at_collection.get("POST"), group.at_item.get("PUT"), group.at_item.get("PATCH"))
            if one
        ]
        for operation in sent:
            answer = self.answer(operation)
            body = operation.body.schema_pointer if operation.body else None
            if answer.kind is Kind.ITEM and answer.entity and body and self._alike(body, answer.entity):
                yield answer.entity
            if answer.kind is Kind.OPEN and body and self._has(group.at_item):
                yield self._schemas.final(body)
        if group.at_item.keys() & {"PUT", "PATCH", "DELETE"}:
            yield from self._named(group.noun)

    def _alike(self, body: str, entity: str) -> bool:
        if self.overlap(body, entity) >= _OVERLAP:
            return True
        view = self._schemas.entity(body)
        return any(
            self._schemas.entity(one[0]).is_object and self.overlap(one[0], entity) >= _OVERLAP
            for one in view.properties.values()
        )

    def _named(self, noun: str) -> Iterator[str]:
        for name in self._document.tree.get("components", {}).get("schemas", {}):
            if same_noun(name, noun):
                yield self._schemas.final(f"/components/schemas/{name}")

    def _is_ancestors(self, group: Group, entity: str) -> bool:
        parents = [self._groups.get(group.key[:index]) for index, part in enumerate(group.key) if part == "{}"]
        return any(
            parent is not None
            and entity
            in (*self._of(parent.at_item.get("GET"), Kind.ITEM), *self._of(parent.at_collection.get("GET"), Kind.ITEMS))
            and not same_noun(parent.noun, group.noun)
            for parent in parents
        )

    # --- resources from groups ---

    def _assign(self, entity: str, members: list[Group]) -> None:
        classes: list[list[Group]] = []
        for group in members:
            own = next((one for one in classes if same_noun(one[0].noun, group.noun)), None)
            if own is None:
                classes.append([group])
            else:
                own.append(group)
        home = self._home(entity, classes)
        drafts = {id(home): self._draft(entity, home)}
        for one in classes:
            if one is not home and self._stands_alone(one):
                drafts[id(one)] = self._draft(entity, one)
        for one in classes:
            draft = drafts.get(id(one), drafts[id(home)])
            for group in one:
                self._by_group[group.key] = draft
                draft.groups.append(group)

    def _draft(self, entity: str, members: list[Group]) -> Draft:
        draft = Draft("", entity, min(members, key=self._distance))
        draft.singleton = self._is_singleton(draft.home)
        self.drafts.append(draft)
        return draft

    def _distance(self, group: Group) -> tuple[bool, bool, bool, int]:
        """How far from home a thing is here. Below several things, it is at home below the one that it is made in."""
        elsewhere = group.is_nested and "POST" not in group.at_collection
        return (not self._has(group.at_item), group.is_nested, elsewhere, len(group.key))

    def _is_singleton(self, home: Group) -> bool:
        get = home.at_collection.get("GET")
        written = home.at_collection.keys() & {"PUT", "PATCH"}
        return (
            get is not None
            and self.answer(get).kind is Kind.ITEM
            and bool(written)
            and not home.at_item
            and "POST" not in home.at_collection
        )

    def _home(self, entity: str, classes: list[list[Group]]) -> list[Group]:
        name = stem(self._responses.entity_name(entity))

        def rank(members: list[Group]) -> tuple[bool, bool, bool, int]:
            named = bool(name) and any(same_noun(one.noun, name) for one in members)
            items = any("GET" in one.at_item for one in members)
            makes = any("POST" in one.at_collection for one in members)
            return (not named, not items, not makes, min(len(one.key) for one in members))

        return min(classes, key=rank)

    def _stands_alone(self, members: list[Group]) -> bool:
        """Another collection of the same schema is a thing of its own if it has items of its own that are made there."""
        makes = any("POST" in one.at_collection and fold(one.noun) not in ACTIONS for one in members)
        return makes and any(self._has(one.at_item) for one in members)

    def _merge_variants(self) -> None:
        """`PetSummary` of a list and `Pet` of an item are one thing when nouns agree and properties overlap."""
        kept: list[Draft] = []
        for draft in self.drafts:
            twin = next((one for one in kept if self._are_twins(one, draft)), None)
            if twin is None:
                kept.append(draft)
                continue
            main, other = (
                (draft, twin) if "GET" in draft.home.at_item and "GET" not in twin.home.at_item else (twin, draft)
            )
            twin.entity, twin.home = main.entity, main.home
            twin.groups += draft.groups
            twin.reads += [other.entity]
            for group in draft.groups:
                self._by_group[group.key] = twin
        self.drafts = kept

    def _are_twins(self, one: Draft, other: Draft) -> bool:
        if one.singleton or other.singleton or not same_noun(one.noun, other.noun):
            return False
        if not (one.home.is_nested or other.home.is_nested) and one.home.key != other.home.key:
            return False
        names = [stem(self._responses.entity_name(draft.entity)) for draft in (one, other)]
        return names[0] == names[1] and self.overlap(one.entity, other.entity) >= _OVERLAP

    def _name(self) -> None:
        taken: set[str] = set()
        for draft in self.drafts:
            component = self._responses.entity_name(draft.entity)
            alone = sum(one.entity == draft.entity for one in self.drafts) == 1
            base = _noun_name(component) if component and alone else pascal(singular(draft.noun))
            name, number = base, 1
            while fold(name) in taken:
                number += 1
                name = f"{base}{number}"
            taken.add(fold(name))
            draft.name = name

    def _gather_reads(self, draft: Draft) -> None:
        """All schemas by which responses show the resource."""
        reads = [draft.entity, *draft.reads]
        for group in draft.groups:
            for operation in group.operations():
                answer = self.answer(operation)
                if answer.entity and answer.entity not in reads and self._shows(answer.entity, draft, group):
                    reads.append(answer.entity)
        draft.reads = list(dict.fromkeys(reads))

    def _shows(self, entity: str, draft: Draft, group: Group) -> bool:
        other = next((one for one in self.drafts if one is not draft and one.entity == entity), None)
        return (
            other is None and self._by_group.get(group.key) is draft and self.overlap(entity, draft.entity) >= _OVERLAP
        )


def _noun_name(component: str) -> str:
    """The component's name without the marks of a variant, in its own spelling."""
    wanted = stem(component)
    full = words(component)
    for start in range(len(full)):
        for end in range(len(full), start, -1):
            if "".join(full[start:end]) == wanted and (start, end) != (0, len(full)):
                return pascal(" ".join(full[start:end]))
    return pascal(component)
