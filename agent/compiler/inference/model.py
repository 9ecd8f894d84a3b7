"""A resource in the making, with everything that is known about it, and the questions that every stage asks."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.compiler.inference.paths import Route
from agent.compiler.inference.resources import Draft, Finder, Request
from agent.compiler.ir import Collection, ColumnType, Generated, Property, Reference, Scope, Shape
from agent.compiler.schemas.document import RawOperation
from agent.compiler.schemas.validation import Validator
from agent.compiler.schemas.views import Schemas
from agent.compiler.words import fold, singular, stem

Pointers = tuple[str, ...]
_ANY_THING = frozenset({"item", "object", "obj", "entity", "record", "resource", "element", "row"})
_ID_WORDS = frozenset({"pk", "uuid", "guid", "identifier"})


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
    ignored_nulls: list[str] = field(default_factory=list)  # in a request: may be null, which counts as left out


class Known:
    """All models of one document, and what the stages that fill them share. Nothing here changes a model."""

    def __init__(self, schemas: Schemas, validator: Validator, finder: Finder, routes: Mapping[str, Route]) -> None:
        self.schemas = schemas
        self.validator = validator
        self.finder = finder
        self.routes = routes
        self.models: dict[str, Model] = {}

    def of(self, draft: Draft | None) -> Model | None:
        """The model of a draft."""
        return self.models[draft.name] if draft else None

    def of_schema(self, pointer: str) -> Model | None:
        """The model that a schema represents."""
        return self.of(self.finder.of_schema(pointer))

    def nouns(self, model: Model) -> list[str]:
        """What a path or a property may call it: folded, without repetition."""
        draft = model.draft
        return list(
            dict.fromkeys(fold(one) for one in (draft.name, singular(draft.noun), draft.noun, stem(draft.name)))
        )

    def is_scalar(self, pointers: Pointers) -> bool:
        """Whether a property of these schemas can be compared for equality."""
        return self.schemas.column(self.schemas.merged(pointers)) not in (
            ColumnType.JSON,
            ColumnType.FLOAT,
            ColumnType.BOOLEAN,
        )

    def path_property(self, model: Model, parameter: str) -> str | None:
        """The property that a path parameter names (rule 7): itself, without the noun before it, or `id`."""
        known = {**{fold(name): name for name in model.written}, **{fold(name): name for name in model.reads}}
        folded = fold(parameter)
        candidates = [folded]
        for noun in self.nouns(model):
            if folded.startswith(noun) and len(folded) > len(noun):
                candidates.append(folded[len(noun) :])
            candidates.append(noun + folded)
        if folded == "id" or any(folded in (noun, noun + "id") for noun in self.nouns(model)):
            candidates.append("id")
        found = next((known[one] for one in candidates if one in known), None) or self._spoken_of(model, folded, known)
        if found is None or not self.is_scalar(model.reads.get(found) or model.written[found]):
            return None
        return found

    def _spoken_of(self, model: Model, parameter: str, known: Mapping[str, str]) -> str | None:
        """The property at the end of a parameter that begins with some word for the thing: `item_id`, `orgId` of an OrgUnit."""
        if parameter in _ID_WORDS and "id" in known:
            return known["id"]
        ends = sorted((one for one in known if parameter.endswith(one)), key=len, reverse=True)
        return next((known[one] for one in ends if self._means(model, parameter[: -len(one)])), None)

    def _means(self, model: Model, word: str) -> bool:
        """Whether a word stands for a thing: any thing, or this one by the beginning or the end of its name."""
        if word in _ANY_THING:
            return True
        others = (one for one in self.finder.drafts if one is not model.draft)
        return (
            word != ""
            and any(one.startswith(word) or one.endswith(word) or word.endswith(one) for one in self.nouns(model))
            and not any(word in map(fold, (one.name, singular(one.noun), one.noun, stem(one.name))) for one in others)
        )

    def key_is_scoped(self, model: Model) -> bool:
        """Whether its key picks a row only together with the row above it."""
        return model.draft.home.is_nested and model.key.client
