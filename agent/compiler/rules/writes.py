"""The rules that create and change stored things."""

from dataclasses import replace

from agent.compiler.inference.model import Model, Shaped
from agent.compiler.inference.resources import Request
from agent.compiler.inference.response import Kind
from agent.compiler.ir import (
    Action,
    EnvelopeField,
    Meta,
    PathKey,
    Plan,
    Shape,
    VersionCheck,
    Wrapper,
)
from agent.compiler.rules.case import Case, Located, NotDerived, Outcome, hooked, need_none
from agent.compiler.rules.parts import Parts
from agent.compiler.words import a, fold


class Writes(Parts):
    """Create, replace, patch, and the same for many."""

    def _create(self, case: Case) -> Outcome:
        case.rule = "create"
        request = self._request(case, "it has no body that describes what is made")
        located = self._locate(case, None)
        shaped = self._modeller.request_shape(case.thing, request)
        need_none(shaped.problems)
        self._doubt_nulls(case, shaped)
        if not (request.many or request.unwrap or (case.operation.body and case.operation.body.required)):
            shaped = Shaped(shaped.shape)  # what may be left out as a whole supplies nothing
        self._need_sources(case, shaped, located)
        if request.many:
            return self._written_many(case, Action.CREATE_MANY, request, located)
        shown = self._shown(case)
        self._doubt_key(case)
        plan = self._plan(case, Action.CREATE, located, shown)
        has_location = case.operation.success_code == 201 and self._has_item_path(case)
        return case.derived(replace(plan, location=has_location), request)

    def _request(self, case: Case, without_body: str) -> Request:
        """How the body describes the thing. Raises NotDerived, with `without_body` where there is none."""
        request = self._finder.request(case.operation, case.thing.draft)
        if request is None:
            describes_another = f"its body does not describe {a(case.thing.name)}"
            raise NotDerived(describes_another if case.operation.body else without_body)
        self._need_nothing_beside(case, request)
        return request

    def _need_nothing_beside(self, case: Case, request: Request) -> None:
        """Raises NotDerived where a body must say something beside the thing, on the way to it."""
        pointer = case.operation.body.schema_pointer if case.operation.body else None
        for name in request.unwrap if not request.many else ():
            view = self._schemas.entity(pointer or "")
            beside = next((one for one in sorted(view.required) if one != name), None)
            if beside is not None:
                raise NotDerived(f"`{beside}`, which its body must have, has a meaning that no rule knows")
            pointer = view.properties[name][0]

    def _doubt_nulls(self, case: Case, shaped: Shaped) -> None:
        for name in shaped.ignored_nulls:
            case.doubt(1, f"`{name}` as null counts as left out, since responses must show a value")

    def _doubt_key(self, case: Case) -> None:
        model, group = case.thing, self._groups.get(case.route.collection)
        for name in group.item_parameters if group else ():
            if self._modeller.path_property(model, name) is None and model.key.visible is False:
                case.doubt(1, f"no property of {model.name} answers to `{name}` in the path of an item")

    def _written_many(self, case: Case, action: Action, request: Request, located: Located) -> Outcome:
        case.rule = "bulk"
        model = case.thing
        item, shape = self._bulk_answer(case)
        case.doubt(1, "elements are taken one by one; the document does not say whether all or none")
        many = case.operation.success_code == 207
        key = PathKey("", model.name, model.key.name) if action is Action.PATCH_MANY else None
        plan = Plan(action, model.name, located.ancestors, key, scopes=located.scopes, shape=shape, via=located.via)
        plan = replace(plan, item=item) if many else replace(plan, wrapper=item)
        return case.derived(plan, request)

    def _bulk_answer(self, case: Case) -> tuple[Wrapper, Shape | None]:
        """What a bulk write answers: all the things, or (207) one small answer for each element. Raises NotDerived."""
        pointer = case.operation.answer.schema_pointer
        if case.answer.kind is Kind.NOTHING or pointer is None:
            return Wrapper(), None
        if case.answer.kind is not Kind.ITEMS or case.answer.entity is None:
            raise NotDerived("what it answers does not show the things that it makes")
        self._need_envelope(case)
        if case.operation.success_code == 207:
            return self._element_answer(case.thing, case.answer.entity), None
        shaped = self._modeller.response_shape(case.thing, case.answer.entity)
        if shaped.problems or not shaped.shape.fields:
            raise NotDerived("what it answers does not show the things that it makes")
        return case.answer.wrapper, shaped.shape

    def _element_answer(self, model: Model, pointer: str) -> Wrapper:
        view = self._schemas.view(pointer)
        # Alternatives are successes and failures: the success is the one that shows most of the thing.
        options = view.variants or (pointer,)
        best = max(options, key=lambda one: len(self._modeller.response_shape(model, one).shape.fields))
        wrapper, missing = self._responses.bare(best)
        shaped = self._modeller.response_shape(model, best)
        shown = {one.name for one in shaped.shape.fields}
        need_none(f"nothing supplies `{name}` of an element's answer" for name in missing if name not in shown)
        if shown - {model.key.name}:
            raise NotDerived("an element's answer mixes the thing with other fields")
        fields = [one for one in wrapper.fields if one.path[0] not in shown]
        fields += [EnvelopeField((name,), Meta.KEY) for name in sorted(shown)]
        return Wrapper(fields=tuple(fields), bare=True)

    def _update_by_post(self, case: Case) -> Outcome:
        request = self._finder.request(case.operation, case.thing.draft)
        if request is None:
            return hooked("unknown", "what a POST to an existing thing does is not defined")
        case.rule = "update-by-post"
        case.doubt(1, "a POST to an existing thing could do more than change it")
        return self._changed(case, Action.PATCH, request, self._locate(case, case.route.steps[-1]))

    def _put_item(self, case: Case) -> Outcome:
        case.rule = "replace"
        return self._written(case, Action.REPLACE)

    def _patch_item(self, case: Case) -> Outcome:
        case.rule = "patch"
        return self._written(case, Action.PATCH)

    def _written(self, case: Case, action: Action) -> Outcome:
        request = self._request(case, "it has no body")
        if request.many:
            raise NotDerived("it takes several things for one")
        return self._changed(case, action, request, self._locate(case, case.route.steps[-1]))

    def _changed(self, case: Case, action: Action, request: Request, located: Located) -> Outcome:
        model = case.thing
        shaped = self._modeller.request_shape(model, request)
        need_none(shaped.problems)
        self._doubt_nulls(case, shaped)
        if action is Action.PATCH and self._has_conditions(model):
            raise NotDerived("the response's conditions tie properties together: a partial change could break them")
        if not shaped.shape.fields:
            raise NotDerived(f"its body changes nothing of {a(model.name)}")
        plan = self._plan(case, action, located, self._shown(case))
        return case.derived(replace(plan, version=self._version(model, request)), request)

    def _has_conditions(self, model: Model) -> bool:
        views = [self._schemas.entity(one) for one in model.draft.reads]
        return any(one.cross or one.variants for one in views)

    def _version(self, model: Model, request: Request) -> VersionCheck | None:
        stored = next(
            (
                one
                for one in model.properties.values()
                if one.generated is not None and one.generated.value == "version"
            ),
            None,
        )
        if stored is None:
            return None
        wanted = {fold(stored.name), "current" + fold(stored.name), "expected" + fold(stored.name)}
        given = self._schemas.entity(request.entity).properties
        name = next((one for one in given if fold(one) in wanted), None)
        return VersionCheck(name, stored.name) if name else None

    def _put_collection(self, case: Case) -> Outcome:
        """A PUT without an id in the path: a singleton, or the key stands in the body."""
        case.rule = "put-without-id"
        return self._keyed_by_body(case, Action.REPLACE if case.operation.declares(404) else Action.UPSERT)

    def _patch_collection(self, case: Case) -> Outcome:
        case.rule = "patch-without-id"
        return self._keyed_by_body(case, Action.PATCH)

    def _keyed_by_body(self, case: Case, action: Action) -> Outcome:
        model = case.thing
        request = self._request(case, f"its body does not describe {a(model.name)}")
        located = self._locate(case, None)
        if model.draft.singleton:
            return self._changed_singleton(case, action, request, located)
        given = self._schemas.entity(request.entity).properties.get(model.key.name)
        if given is None or self._schemas.flag(given, "readOnly"):
            raise NotDerived(f"neither path nor body says which {model.name} is meant")
        if request.many:
            return self._changed_many(case, action, request, located)
        case.doubt(1, f"the {model.key.name} in the body is taken as the key")
        if action is Action.UPSERT:
            self._need_sources(case, self._modeller.request_shape(model, request), located)
        return self._changed(case, action, request, replace(located, key=PathKey("", model.name, model.key.name)))

    def _changed_many(self, case: Case, action: Action, request: Request, located: Located) -> Outcome:
        case.rule = "bulk"
        if action is not Action.PATCH:
            raise NotDerived("replacing several things at once has no rule")
        need_none(self._modeller.request_shape(case.thing, request).problems)
        return self._written_many(case, Action.PATCH_MANY, request, located)

    def _changed_singleton(self, case: Case, action: Action, request: Request, located: Located) -> Outcome:
        case.rule = "singleton"
        if action is Action.PATCH:
            return self._changed(case, Action.PATCH, request, located)
        self._need_sources(case, self._modeller.request_shape(case.thing, request), located)
        return self._changed(case, Action.REPLACE, request, located)
