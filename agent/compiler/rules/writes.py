"""The rules that create and change stored things."""

from dataclasses import replace

from agent.compiler.inference.model import Model
from agent.compiler.inference.paths import Step
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
from agent.compiler.rules.case import Case, Located, Outcome, hooked
from agent.compiler.rules.parts import Parts
from agent.compiler.words import fold


class Writes(Parts):
    """Create, replace, patch, and the same for many."""

    def _create(self, case: Case) -> Outcome:
        model = case.model
        assert model is not None
        request = self._finder.request(case.operation, model.draft)
        if request is None:
            return hooked(
                "create",
                f"its body does not describe a {model.name}"
                if case.operation.body
                else "it has no body that describes what is made",
            )
        located = self._locate(case, model, None)
        if isinstance(located, str):
            return hooked("create", located)
        shaped = self._modeller.request_shape(model, request)
        given = {located.via} if located.via else set()
        lacking = [*shaped.problems, *self._unsourced(model, shaped, given, located)]
        if lacking:
            return hooked("create", lacking[0])
        if request.many:
            return self._create_many(case, model, request, located)
        shown = self._shown(case, model)
        if isinstance(shown, str):
            return hooked("create", shown)
        self._doubt_key(case, model)
        ignored = self._ignored(case, ())
        if isinstance(ignored, str):
            return hooked("create", ignored)
        plan = Plan(
            Action.CREATE,
            model.name,
            located.ancestors,
            scopes=located.scopes,
            wrapper=shown.wrapper,
            shape=shown.shape,
            location=case.operation.success_code == 201 and self._has_item_path(model, case.route),
            via=located.via,
            ignored=ignored,
        )
        return case.derived("create", plan, request)

    def _doubt_key(self, case: Case, model: Model) -> None:
        for name in (
            self._groups[case.route.collection].item_parameters if case.route.collection in self._groups else ()
        ):
            if self._modeller.path_property(model, name) is None and model.key.visible is False:
                case.doubt(1, f"no property of {model.name} answers to `{name}` in the path of an item")

    def _create_many(
        self, case: Case, model: Model, request: Request, located: Located, action: Action = Action.CREATE_MANY
    ) -> Outcome:
        item, shape = self._bulk_answer(case, model)
        if isinstance(item, str):
            return hooked("bulk", item)
        case.doubt(1, "elements are taken one by one; the document does not say whether all or none")
        many = case.operation.success_code == 207
        key = PathKey("", model.name, model.key.name) if action is Action.PATCH_MANY else None
        plan = Plan(action, model.name, located.ancestors, key, scopes=located.scopes, shape=shape, via=located.via)
        plan = replace(plan, item=item) if many else replace(plan, wrapper=item)
        return case.derived("bulk", plan, request)

    def _bulk_answer(self, case: Case, model: Model) -> tuple[Wrapper | str, Shape | None]:
        """What a bulk write answers: all the things, or (207) one small answer for each element."""
        pointer = case.operation.answer.schema_pointer
        if case.answer.kind is Kind.NOTHING or pointer is None:
            return Wrapper(), None
        if case.answer.kind is not Kind.ITEMS or case.answer.entity is None:
            return "what it answers does not show the things that it makes", None
        if case.answer.missing:
            return f"nothing supplies `{case.answer.missing[0]}` of the envelope", None
        if case.operation.success_code != 207:
            shaped = self._modeller.response_shape(model, case.answer.entity)
            return (
                (case.answer.wrapper, shaped.shape)
                if not shaped.problems and shaped.shape.fields
                else ("what it answers does not show the things that it makes", None)
            )
        return self._element_answer(model, case.answer.entity)

    def _element_answer(self, model: Model, pointer: str) -> tuple[Wrapper | str, Shape | None]:
        view = self._schemas.view(pointer)
        # Alternatives are successes and failures: the success is the one that shows most of the thing.
        options = view.variants or (pointer,)
        best = max(options, key=lambda one: len(self._modeller.response_shape(model, one).shape.fields))
        wrapper, missing = self._responses.bare(best)
        shaped = self._modeller.response_shape(model, best)
        shown = {one.name for one in shaped.shape.fields}
        lacking = [one for one in missing if one not in shown]
        if lacking:
            return f"nothing supplies `{lacking[0]}` of an element's answer", None
        if shown - {model.key.name}:
            return "an element's answer mixes the thing with other fields", None
        fields = [one for one in wrapper.fields if one.path[0] not in shown]
        fields += [EnvelopeField((name,), Meta.KEY) for name in sorted(shown)]
        return Wrapper(fields=tuple(fields), bare=True), None

    def _update_by_post(self, case: Case) -> Outcome:
        model = case.model
        assert model is not None
        request = self._finder.request(case.operation, model.draft)
        if request is None:
            return hooked("unknown", "what a POST to an existing thing does is not defined")
        case.doubt(1, "a POST to an existing thing could do more than change it")
        return self._change(case, Action.PATCH, "update-by-post", request, case.route.steps)

    def _put_item(self, case: Case) -> Outcome:
        return self._written(case, Action.REPLACE, "replace")

    def _patch_item(self, case: Case) -> Outcome:
        return self._written(case, Action.PATCH, "patch")

    def _written(self, case: Case, action: Action, rule: str) -> Outcome:
        model = case.model
        assert model is not None
        request = self._finder.request(case.operation, model.draft)
        if request is None:
            return hooked(
                rule, f"its body does not describe a {model.name}" if case.operation.body else "it has no body"
            )
        if request.many:
            return hooked(rule, "it takes several things for one")
        return self._change(case, action, rule, request, case.route.steps)

    def _change(self, case: Case, action: Action, rule: str, request: Request, steps: tuple[Step, ...]) -> Outcome:
        model = case.model
        assert model is not None
        located = self._locate(case, model, steps[-1], steps)
        if isinstance(located, str):
            return hooked(rule, located)
        return self._changed(case, action, rule, request, located)

    def _changed(self, case: Case, action: Action, rule: str, request: Request, located: Located) -> Outcome:
        model = case.model
        assert model is not None
        shaped = self._modeller.request_shape(model, request)
        if shaped.problems:
            return hooked(rule, shaped.problems[0])
        if action is Action.PATCH and self._has_conditions(model):
            return hooked(rule, "the response's conditions tie properties together: a partial change could break them")
        if not shaped.shape.fields:
            return hooked(rule, f"its body changes nothing of a {model.name}")
        shown = self._shown(case, model)
        if isinstance(shown, str):
            return hooked(rule, shown)
        ignored = self._ignored(case, ())
        if isinstance(ignored, str):
            return hooked(rule, ignored)
        plan = Plan(
            action,
            model.name,
            located.ancestors,
            located.key,
            scopes=located.scopes,
            wrapper=shown.wrapper,
            shape=shown.shape,
            via=located.via,
            version=self._version(model, request),
            ignored=ignored,
        )
        return case.derived(rule, plan, request)

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
        return self._keyed_by_body(
            case, Action.REPLACE if case.operation.declares(404) else Action.UPSERT, "put-without-id"
        )

    def _patch_collection(self, case: Case) -> Outcome:
        return self._keyed_by_body(case, Action.PATCH, "patch-without-id")

    def _keyed_by_body(self, case: Case, action: Action, rule: str) -> Outcome:
        model = case.model
        assert model is not None
        request = self._finder.request(case.operation, model.draft)
        if request is None:
            return hooked(rule, f"its body does not describe a {model.name}")
        located = self._locate(case, model, None)
        if isinstance(located, str):
            return hooked(rule, located)
        if model.draft.singleton:
            action = Action.PATCH if action is Action.PATCH else Action.REPLACE
            return self._changed_singleton(case, action, request, located)
        view = self._schemas.entity(request.entity)
        keyed = model.key.name in view.properties and not self._schemas.flag(
            view.properties[model.key.name], "readOnly"
        )
        if not keyed:
            return hooked(rule, f"neither path nor body says which {model.name} is meant")
        if request.many:
            if action is not Action.PATCH:
                return hooked("bulk", "replacing several things at once has no rule")
            shaped = self._modeller.request_shape(model, request)
            return (
                hooked("bulk", shaped.problems[0])
                if shaped.problems
                else self._create_many(case, model, request, located, Action.PATCH_MANY)
            )
        case.doubt(1, f"the {model.key.name} in the body is taken as the key")
        if action is Action.UPSERT:
            shaped = self._modeller.request_shape(model, request)
            lacking = self._unsourced(model, shaped, [located.via] if located.via else [], located)
            if lacking:
                return hooked(rule, lacking[0])
        return self._changed(case, action, rule, request, replace(located, key=PathKey("", model.name, model.key.name)))

    def _changed_singleton(self, case: Case, action: Action, request: Request, located: Located) -> Outcome:
        model = case.model
        assert model is not None
        if action is Action.REPLACE:
            shaped = self._modeller.request_shape(model, request)
            lacking = self._unsourced(model, shaped, [located.via] if located.via else [], located)
            if lacking:
                return hooked("singleton", lacking[0])
        return self._changed(case, action, "singleton", request, located)
