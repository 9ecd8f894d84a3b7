"""The rules that read and delete stored things."""

from dataclasses import replace

from agent.compiler.inference.model import Model
from agent.compiler.inference.paths import Route, Step
from agent.compiler.inference.response import Kind
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
from agent.compiler.rules.case import Case, Located, Outcome, hooked
from agent.compiler.rules.lists import ListParts
from agent.compiler.rules.parts import Parts
from agent.compiler.words import words


class Reads(Parts):
    """Lists, items, deletions."""

    def _get_collection(self, case: Case) -> Outcome:
        assert case.model is not None
        if case.answer.kind is Kind.ITEMS:
            return self._list(case)
        if case.answer.kind is Kind.ITEM and case.model.draft.singleton:
            return self._get(case, "singleton", None)
        return hooked("unknown", "it answers neither a list nor a thing that can be written")

    def _get_item(self, case: Case) -> Outcome:
        assert case.model is not None
        if case.answer.kind is Kind.ITEMS:
            return self._list(case)
        if case.answer.kind is not Kind.ITEM:
            return hooked("unknown", "it answers nothing that is stored")
        return self._get(case, "lookup" if case.route.steps[-1].field else "get", case.route.steps[-1])

    def _get(self, case: Case, rule: str, step: Step | None) -> Outcome:
        model = case.model
        assert model is not None
        located = self._locate(case, model, step)
        if isinstance(located, str):
            return hooked(rule, located)
        shown = self._shown(case, model)
        if isinstance(shown, str):
            return hooked(rule, shown)
        if shown.shape is None:
            return hooked(rule, "it answers nothing that is stored")
        self._doubt_makers(case, model)
        ignored = self._ignored(case, ())
        if isinstance(ignored, str):
            return hooked(rule, ignored)
        plan = Plan(
            Action.GET,
            model.name,
            located.ancestors,
            located.key,
            scopes=located.scopes,
            wrapper=shown.wrapper,
            shape=shown.shape,
            via=located.via,
            ignored=ignored,
        )
        return case.derived(rule, plan)

    def _list(self, case: Case) -> Outcome:
        """Rules 3, 10, 11."""
        model = case.model
        assert model is not None
        assert case.answer.entity is not None
        rule = "list"
        if case.answer.entity not in model.draft.reads and self._modeller.of_schema(case.answer.entity) is not model:
            return hooked(rule, f"the items that it answers are not described as a {model.name}")
        if case.answer.missing:
            return hooked(rule, f"nothing supplies `{case.answer.missing[0]}` of the envelope")
        chain = self._list_chain(case, model)
        if isinstance(chain, str):
            return hooked(rule, chain)
        shaped = self._modeller.response_shape(model, case.answer.entity)
        if shaped.problems:
            return hooked(rule, shaped.problems[0])
        has_next = any(
            one.source in (Meta.NEXT_CURSOR, Meta.NEXT_LINK) for one in case.answer.wrapper.fields
        ) or self._has_link_header(case.operation)
        parts = self._lists.read(case.operation, model, has_next)
        ignored = self._ignored(case, parts.unknown, parts.ignored)
        if isinstance(ignored, str):
            return hooked(rule, ignored)
        self._doubt_makers(case, model)
        located, filters = chain
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
        return case.derived("membership" if located.through else rule, plan)

    def _list_chain(self, case: Case, model: Model) -> tuple[Located, list[Filter]] | str:
        """Ancestors of a list; what remains of the path's parameters must be filters (`/jobs/status/{status}`)."""
        steps = list(case.route.steps)
        own = [step for step in steps if self._is_ancestor(step, case.route, model)]
        filters: list[Filter] = []
        for step in steps:
            if step in own:
                continue
            found = self._path_filter(case, model, step)
            if found is None:
                return f"the path parameter `{step.parameter}` equals no property of {model.name}"
            case.doubt(1, f"`{step.parameter}` could be more than a filter by `{found.property}`")
            filters.append(found)
        located = self._chain(tuple(own), model, case.route.collection)
        return located.problem or (located, filters)

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

    def _delete_item(self, case: Case) -> Outcome:
        model = case.model
        assert model is not None
        located = self._locate(case, model, case.route.steps[-1])
        if isinstance(located, str):
            return hooked("delete", located)
        shown = self._shown(case, model)
        if isinstance(shown, str):
            return hooked("delete", shown)
        ignored = self._ignored(case, [one for one in case.operation.parameters if one.place == "query"])
        if isinstance(ignored, str):
            return hooked("delete", ignored)
        first = words(case.operation.id)[:1] or words(str(case.operation.node.get("summary", "")))[:1]
        if first and first[0] in ("cancel", "archive", "deactivate", "disable", "close", "revoke"):
            case.doubt(1, f"to {first[0]} could mean a state rather than a deletion")
        plan = Plan(
            Action.DELETE,
            model.name,
            located.ancestors,
            located.key,
            scopes=located.scopes,
            wrapper=shown.wrapper,
            shape=shown.shape,
            via=located.via,
            ignored=ignored,
        )
        return case.derived("delete", plan)

    def _delete_collection(self, case: Case) -> Outcome:
        model = case.model
        assert model is not None
        if model.draft.singleton or case.operation.body:
            return hooked("delete", "what exactly is deleted is not defined")
        located = self._locate(case, model, None)
        if isinstance(located, str):
            return hooked("delete-all", located)
        parts = self._lists.read(case.operation, model, has_next=False)
        if parts.unknown or parts.paging.style is not PagingStyle.NONE:
            return hooked("delete-all", "which of them are deleted depends on a parameter that no rule knows")
        shown = self._shown(case, model)
        if isinstance(shown, str) or (not isinstance(shown, str) and shown.shape is not None):
            return hooked("delete-all", shown if isinstance(shown, str) else "it answers one thing for many")
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
        return case.derived("delete-all", plan)


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
