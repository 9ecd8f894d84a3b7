"""What several rules need: where an operation works, what its success shows, which parameters have no effect."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from agent.compiler.diagnostics import child
from agent.compiler.inference import vocabulary
from agent.compiler.inference.model import Model, Shaped
from agent.compiler.inference.modeller import Modeller
from agent.compiler.inference.paths import Group, GroupKey, Route, Step
from agent.compiler.inference.resources import Finder
from agent.compiler.inference.response import Kind, Responses
from agent.compiler.ir import (
    Action,
    HeaderField,
    Meta,
    PathKey,
    Plan,
    Scope,
    Wrapper,
)
from agent.compiler.rules.case import Case, Located, NotDerived, Shown, need_none
from agent.compiler.rules.lists import Lists
from agent.compiler.schemas.document import Document, RawOperation, RawParameter
from agent.compiler.schemas.views import Schemas
from agent.compiler.words import a, fold

Json = Any
_HEADERS = {
    "location": None,  # Plan.location
    "etag": None,
    "xtotalcount": Meta.TOTAL,
    "xtotal": Meta.TOTAL,
    "totalcount": Meta.TOTAL,
    "xrequestid": Meta.REQUEST_ID,
    "xcorrelationid": Meta.REQUEST_ID,
    "link": Meta.NEXT_LINK,
    "xnextcursor": Meta.NEXT_CURSOR,
}


@dataclass(frozen=True, slots=True)
class Ground:
    """All that is known of one document when the rules begin."""

    document: Document
    schemas: Schemas
    responses: Responses
    finder: Finder
    modeller: Modeller
    routes: Mapping[str, Route]
    groups: Mapping[GroupKey, Group]
    security: Callable[[RawOperation], str | None]  # what stands against serving its security, if anything


class Parts:
    """The document's parts, and the questions that rules ask about them."""

    def __init__(self, ground: Ground) -> None:
        self._document = ground.document
        self._schemas = ground.schemas
        self._responses = ground.responses
        self._finder = ground.finder
        self._modeller = ground.modeller
        self._routes = ground.routes
        self._groups = ground.groups
        self._security = ground.security
        self._lists = Lists(ground.schemas)

    def _locate(self, case: Case, step: Step | None) -> Located:
        """Ancestors and, with `step`, the key of the item. Raises NotDerived."""
        model, steps = case.thing, case.route.steps
        above = steps[:-1] if step is not None else steps
        if any(one.field for one in above):
            raise NotDerived("a parameter in the middle of the path looks something up")
        collection = step.collection if step is not None else case.route.collection
        located = self._chain(above, model, collection)
        if step is None:
            return located
        key = self._key(model, step)
        if step.field is not None:
            case.doubt(1, f"`{key.property}` is taken as unique")
        if not model.key.visible and key.property == model.key.name:
            case.doubt(1, f"no property of {model.name} shows its key; the Location header does")
        return replace(located, key=replace(key, via=located.via, scopes=located.scopes))

    def _key(self, model: Model, step: Step) -> PathKey:
        """The property that a parameter of the path names. Raises NotDerived."""
        name = self._modeller.path_property(model, step.field or step.parameter)
        if (
            name is None
            and not model.key.visible
            and (fold(step.parameter).endswith(("id", "uuid", "key", "number")) or not step.parameter.isalpha())
        ):
            name = model.key.name
        if name is None or name not in model.properties:
            raise NotDerived(f"no property of {model.name} answers to the path parameter `{step.parameter}`")
        if name != model.key.name and not model.properties[name].unique:
            raise NotDerived(f"`{name}` of {model.name} is not known to be unique")
        return PathKey(step.parameter, model.name, name)

    def _chain(self, steps: tuple[Step, ...], model: Model, collection: GroupKey = ()) -> Located:
        """The known ancestors, each tied to the one before it, and the tie of `model` to the last. Raises NotDerived."""
        ancestors: list[PathKey] = []
        pending: list[Scope] = []
        before: Model | None = None
        for step in steps:
            known = self._modeller.of(self._finder.of_group(step.collection))
            if known is None:
                pending.append(self._scope_of(step, model, collection))
                continue
            key = self._key(known, step)
            tie = known.parents.get(step.collection)
            if before is not None and (tie is None or tie.reference is None):
                raise NotDerived(f"how {a(known.name)} belongs to {a(before.name)} is not described")
            scopes = known.scopes.get(step.collection, ())
            ancestors.append(replace(key, via=tie.reference if tie and before is not None else None, scopes=scopes))
            pending, before = [], known
        tie = model.parents.get(collection)
        if before is not None and before is not model and tie is None:
            raise NotDerived(f"how {a(model.name)} belongs to {a(before.name)} is not described")
        scopes = tuple(pending)
        unknown = next((one.parameter for one in scopes if not self._is_kept(model, one)), None)
        if unknown is not None:
            raise NotDerived(f"nothing is known about the path parameter `{unknown}`")
        via = tie.reference if tie and before is not None else None
        through = tie.through if tie and before is not None else None
        return Located(tuple(ancestors), None, scopes, via, through)

    @staticmethod
    def _is_kept(model: Model, scope: Scope) -> bool:
        """Whether rows can have the value of a path: they show it, or whoever makes one says it."""
        made = not model.creates or any("{" + scope.parameter + "}" in one.path for one, _ in model.creates)
        return bool(scope.property) and (made or scope.property in model.reads)

    def _scope_of(self, step: Step, model: Model, collection: GroupKey) -> Scope:
        found = (one for one in model.scopes.get(collection, ()) if one.parameter == step.parameter)
        fallback = (one for scopes in model.scopes.values() for one in scopes if one.parameter == step.parameter)
        return next(found, None) or next(fallback, None) or Scope(step.parameter, "")

    def _shown(self, case: Case) -> Shown:
        """What a success shows of the thing: nothing, the row, or a bare envelope. Raises NotDerived where that cannot be filled."""
        model = case.thing
        pointer = case.operation.answer.schema_pointer
        if case.answer.kind is Kind.NOTHING or pointer is None or case.operation.success_code == 204:
            if case.operation.answer.json_media and pointer is None:
                case.doubt(1, "the body of its success has no schema; none is sent")
            return Shown(None, Wrapper())
        if case.answer.kind is Kind.OPEN:
            return self._shown_freely(case)
        if case.answer.kind is not Kind.ITEM or case.answer.entity is None:
            raise NotDerived("what it answers is no single thing")
        whole = self._schemas.entity(pointer)
        if self._responses.is_only_meta(whole):
            wrapper, missing = self._responses.bare(pointer)
            need_none(f"nothing supplies `{name}` of the answer" for name in missing)
            case.doubt(1, "the texts of its answer are fixed ones")
            return Shown(None, wrapper)
        self._need_envelope(case)
        other = self._modeller.of_schema(case.answer.entity)
        if other is not None and other is not model:
            raise NotDerived(f"it answers {a(other.name)}, not the {model.name}")
        shaped = self._modeller.response_shape(model, case.answer.entity)
        need_none(shaped.problems)
        if not shaped.shape.fields:
            raise NotDerived(f"what it answers shows nothing of {a(model.name)}")
        names = {one.name for one in shaped.shape.fields}
        unknown = self._schemas.entity(case.answer.entity).properties.keys() - names
        if len(unknown) > len(shaped.shape.fields):
            raise NotDerived(f"what it answers is not described as {a(model.name)}")
        return Shown(shaped.shape, case.answer.wrapper)

    def _shown_freely(self, case: Case) -> Shown:
        """The thing, or an empty object where it is gone: the document does not describe the answer. Raises NotDerived."""
        model = case.thing
        if case.operation.method == "DELETE":
            case.doubt(1, "its answer is not described; it is an empty object")
            return Shown(None, Wrapper(bare=True))
        case.doubt(1, f"its answer is not described; it shows what is known of {model.name}")
        shaped = self._modeller.response_shape(model, model.draft.entity)
        need_none(shaped.problems)
        return Shown(shaped.shape, Wrapper())

    def _plan(
        self, case: Case, action: Action, located: Located, shown: Shown, unknown: Iterable[RawParameter] = ()
    ) -> Plan:
        """The plan of an action on one thing; a rule adds what only its action has. Raises NotDerived."""
        return Plan(
            action,
            case.thing.name,
            located.ancestors,
            located.key,
            scopes=located.scopes,
            wrapper=shown.wrapper,
            shape=shown.shape,
            via=located.via,
            ignored=self._ignored(case, unknown),
        )

    def _need_envelope(self, case: Case) -> None:
        need_none(f"nothing supplies `{name}` of the envelope" for name in case.answer.missing)

    def _need_sources(self, case: Case, shaped: Shaped, located: Located) -> None:
        """Raises NotDerived where responses require what neither the body, the path nor the server gives."""
        given = (*([located.via] if located.via else []), *(one.property for one in located.scopes))
        need_none(
            f"`{name}` is required in responses and nothing supplies it"
            for name in self._modeller.missing(case.thing, shaped, given)
        )

    def _doubt_makers(self, case: Case) -> None:
        model = case.thing
        made = model.creates or any(
            one.method == "PUT" and not self._routes[one.path].ends_with_item for one, _ in model.writes
        )
        if not made and not model.draft.singleton:
            case.doubt(1, f"no operation makes {a(model.name)}: rows come from elsewhere")

    def _ignored(
        self, case: Case, unknown: Iterable[RawParameter] = (), harmless: Iterable[str] = ()
    ) -> tuple[str, ...]:
        """Parameters without effect. Raises NotDerived for a required one of unknown meaning."""
        ignored = list(harmless)
        queries = list(unknown)
        if case.operation.method not in ("GET", "DELETE") or case.answer.kind is not Kind.ITEMS:
            queries = [
                one
                for one in case.operation.parameters
                if one.place == "query" and fold(one.name) not in vocabulary.HARMLESS
            ]
        for parameter in queries:
            if parameter.required:
                raise NotDerived(f"the required parameter `{parameter.name}` has a meaning that no rule knows")
            case.doubt(1, f"the parameter `{parameter.name}` has no effect")
            ignored.append(parameter.name)
        for parameter in case.operation.parameters:
            if parameter.place not in ("header", "cookie") or fold(parameter.name) in vocabulary.HARMLESS_HEADERS:
                continue
            case.doubt(
                2 if parameter.required else 1, f"the {parameter.place} parameter `{parameter.name}` has no effect"
            )
            ignored.append(parameter.name)
        return tuple(ignored)

    def _has_link_header(self, operation: RawOperation) -> bool:
        return any(fold(name) in ("link", "xnextcursor") for name in self._success_headers(operation))

    def _headers(self, operation: RawOperation, *, many: bool) -> tuple[HeaderField, ...]:
        found = []
        for name in self._success_headers(operation):
            source = _HEADERS.get(fold(name))
            if source is not None and many:
                found.append(HeaderField(name, source))
        return tuple(found)

    def _missing_headers(self, operation: RawOperation) -> list[str]:
        headers = self._success_headers(operation)
        return [n for n, header in headers.items() if header.get("required") is True and fold(n) not in _HEADERS]

    def _success_headers(self, operation: RawOperation) -> dict[str, Mapping[str, Json]]:
        """Headers of the success by name; none where no success is declared."""
        if not operation.success:
            return {}
        pointer, response = operation.responses[operation.success]
        names = response.get("headers", {})
        return {name: self._document.follow(child(pointer, "headers", name))[1] for name in names}

    def _has_items(self, case: Case) -> bool:
        group = self._groups.get(case.route.collection)
        return group is not None and bool(group.at_item or "POST" in group.at_collection)

    def _has_item_path(self, case: Case) -> bool:
        """Whether a new row can be read below its collection by its key, and by nothing but its key."""
        group, model = self._groups.get(case.route.collection), case.thing
        if group is None or "GET" not in group.at_item:
            return False
        path = group.at_item["GET"].path
        parameter = self._routes[path].steps[-1].parameter
        picked = self._modeller.path_property(model, parameter)
        return path == f"{case.operation.path.rstrip('/')}/{{{parameter}}}" and picked in (None, model.key.name)
