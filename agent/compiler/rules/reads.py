"""The rules that read and delete stored things."""

from dataclasses import replace

from agent.compiler.inference import vocabulary
from agent.compiler.inference.model import Model
from agent.compiler.inference.paths import Route, Step
from agent.compiler.inference.response import Answer, Kind
from agent.compiler.ir import (
    Action,
    EnvelopeField,
    Filter,
    Meta,
    PagingStyle,
    Place,
    Plan,
    Wrapper,
)
from agent.compiler.rules.case import Case, Located, NotDerived, Outcome, hooked, need_none
from agent.compiler.rules.lists import ListParts
from agent.compiler.rules.parts import Parts
from agent.compiler.words import a, fold, words


class Reads(Parts):
    """Lists, items, deletions."""

    def _get_collection(self, case: Case) -> Outcome:
        if case.answer.kind is Kind.OPEN and self._takes_lists(case):
            case.doubt(1, f"its answer is not described; it lists what is known of {case.thing.name}")
            case.answer = Answer(Kind.ITEMS, case.thing.draft.entity)
        if case.answer.kind is Kind.ITEMS:
            return self._list(case)
        if case.answer.kind is Kind.ITEM and case.thing.draft.singleton:
            return self._get(case, "singleton", None)
        return hooked("unknown", "it answers neither a list nor a thing that can be written")

    def _takes_lists(self, case: Case) -> bool:
        """Whether an answer that is not described may be an array, of a collection that has items."""
        pointer = case.operation.answer.schema_pointer
        return pointer is not None and not self._schemas.entity(pointer).types and self._has_items(case)

    def _get_item(self, case: Case) -> Outcome:
        if case.answer.kind is Kind.ITEMS:
            return self._list(case)
        if case.answer.kind not in (Kind.ITEM, Kind.OPEN):
            return hooked("unknown", "it answers nothing that is stored")
        return self._get(case, "lookup" if case.route.steps[-1].field else "get", case.route.steps[-1])

    def _get(self, case: Case, rule: str, step: Step | None) -> Outcome:
        case.rule = rule
        located = self._locate(case, step)
        shown = self._shown(case)
        if shown.shape is None:
            raise NotDerived("it answers nothing that is stored")
        self._doubt_makers(case)
        return case.derived(self._plan(case, Action.GET, located, shown))

    def _list(self, case: Case) -> Outcome:
        """Rules 3, 10, 11."""
        case.rule = "list"
        model = case.thing
        assert case.answer.entity is not None
        if case.answer.entity not in model.draft.reads and self._modeller.of_schema(case.answer.entity) is not model:
            raise NotDerived(f"the items that it answers are not described as {a(model.name)}")
        self._need_envelope(case)
        located, filters = self._list_chain(case)
        shaped = self._modeller.response_shape(model, case.answer.entity)
        need_none(shaped.problems)
        has_next = any(
            one.source in (Meta.NEXT_CURSOR, Meta.NEXT_LINK) for one in case.answer.wrapper.fields
        ) or self._has_link_header(case.operation)
        parts = self._lists.read(case.operation, model, has_next)
        ignored = self._ignored(case, parts.unknown, parts.ignored)
        self._doubt_makers(case)
        plan = Plan(
            Action.LIST,
            model.name,
            located.ancestors,
            filters=(*filters, *parts.filters),
            sort=parts.sort,
            paging=parts.paging,
            search=parts.search,
            wrapper=_fitting(case.answer.wrapper, parts),
            shape=shaped.shape,
            via=located.via,
            through=located.through,
            scopes=located.scopes,
            ignored=ignored,
            headers=self._headers(case.operation, many=True),
        )
        case.rule = "membership" if located.through else "list"
        return case.derived(plan)

    def _list_chain(self, case: Case) -> tuple[Located, list[Filter]]:
        """Ancestors of a list; what remains of the path's parameters must be filters (`/jobs/status/{status}`)."""
        model = case.thing
        steps = list(case.route.steps)
        own = [step for step in steps if self._is_ancestor(step, case.route, model)]
        filters: list[Filter] = []
        for step in steps:
            if step in own:
                continue
            found = self._path_filter(case, model, step)
            if found is None:
                raise NotDerived(f"the path parameter `{step.parameter}` equals no property of {model.name}")
            case.doubt(1, f"`{step.parameter}` could be more than a filter by `{found.property}`")
            filters.append(found)
        return self._chain(tuple(own), model, case.route.collection), filters

    def _is_ancestor(self, step: Step, route: Route, model: Model) -> bool:
        if step.field is not None or (route.ends_with_item and step is route.steps[-1]):
            return False
        known = self._finder.of_group(step.collection)
        return (known is not None and known is not model.draft) or route.collection in model.scopes

    def _path_filter(self, case: Case, model: Model, step: Step) -> Filter | None:
        parameter = case.operation.parameter(step.parameter, "path")
        if parameter is None:
            return None
        before = "".join(step.collection[-1:]) if step.field else ""
        for name in (f"{before}{step.field or ''}", step.field or "", step.parameter):
            renamed = replace(parameter, name=name)
            found = self._lists.filter(renamed, model, Place.PATH) if name and name != "{}" else None
            if found:
                return replace(found, parameter=step.parameter)
        return None

    @staticmethod
    def _need_removal(case: Case) -> None:
        """Raises NotDerived where a row tells that it is deleted: then it is marked, and a removal would lose it."""
        mark = next((name for name in case.thing.reads if fold(name) in vocabulary.DELETED), None)
        if mark is not None:
            raise NotDerived(
                f"`{mark}` tells of a deleted {case.thing.name}: deleting marks it, and nothing says who sees it then"
            )

    def _delete_item(self, case: Case) -> Outcome:
        case.rule = "delete"
        self._need_removal(case)
        located = self._locate(case, case.route.steps[-1])
        shown = self._shown(case)
        queries = [one for one in case.operation.parameters if one.place == "query"]
        plan = self._plan(case, Action.DELETE, located, shown, queries)
        first = words(case.operation.id)[:1] or words(str(case.operation.node.get("summary", "")))[:1]
        if first and first[0] in ("cancel", "archive", "deactivate", "disable", "close", "revoke"):
            case.doubt(1, f"to {first[0]} could mean a state rather than a deletion")
        return case.derived(plan)

    def _delete_collection(self, case: Case) -> Outcome:
        model = case.thing
        if model.draft.singleton or case.operation.body:
            return hooked("delete", "what exactly is deleted is not defined")
        case.rule = "delete-all"
        self._need_removal(case)
        located = self._locate(case, None)
        parts = self._lists.read(case.operation, model, has_next=False)
        if parts.unknown or parts.paging.is_declared:
            raise NotDerived("which of them are deleted depends on a parameter that no rule knows")
        shown = self._shown(case)
        if shown.shape is not None:
            raise NotDerived("it answers one thing for many")
        case.doubt(1, "all of them are deleted; the document could mean less")
        plan = Plan(
            Action.DELETE_ALL,
            model.name,
            located.ancestors,
            filters=tuple(parts.filters),
            wrapper=shown.wrapper,
            scopes=located.scopes,
            via=located.via,
        )
        return case.derived(plan)


def _fitting(wrapper: Wrapper, parts: ListParts) -> Wrapper:
    """Without next cursor where the list has none."""
    kept = []
    for one in wrapper.fields:
        if one.source is Meta.NEXT_CURSOR and parts.paging.style is not PagingStyle.CURSOR:
            if one.nullable:
                kept.append(EnvelopeField(one.path, Meta.CONSTANT, None, nullable=True))
            continue
        kept.append(one)
    return replace(wrapper, fields=tuple(kept))
