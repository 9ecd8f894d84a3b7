"""The front half of the compiler: bytes → `Api`. Pure: no clock, no process, no network.

    source → normalise → document + schemas → paths → responses → resources → models → operations → Api

Which rule does what stands in README.md; every operation's verdict says which rule it was.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from agent.compiler.diagnostics import diagnostic, shown
from agent.compiler.inference.check import Checker
from agent.compiler.inference.errors import Errors
from agent.compiler.inference.model import Model
from agent.compiler.inference.modeller import Modeller
from agent.compiler.inference.paths import groups, routes
from agent.compiler.inference.resources import Finder
from agent.compiler.inference.response import Responses
from agent.compiler.inference.security import Security
from agent.compiler.ir import Action, Api, Body, Operation, Parameter, Place, Plan, Resource, Verdict
from agent.compiler.reading.normalise import Normalised, normalise
from agent.compiler.reading.source import read
from agent.compiler.rules.case import Outcome, hooked, resources_of
from agent.compiler.rules.parts import Ground
from agent.compiler.rules.planner import Planner
from agent.compiler.schemas.document import Document, RawContent, RawOperation, RawParameter
from agent.compiler.schemas.sample import Sampler
from agent.compiler.schemas.validation import Validator
from agent.compiler.schemas.views import Schemas
from agent.errors import SpecRejected
from agent.settings import CompilerSettings
from contracts.status import Diagnostic

Json = Any

_SAFE_PATH = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/")
_STYLES = {Place.PATH: "simple", Place.HEADER: "simple", Place.QUERY: "form", Place.COOKIE: "form"}


def understand(given: bytes, settings: CompilerSettings) -> tuple[Api, tuple[Diagnostic, ...]]:
    """What a document means, and what there is to say about it.

    Raises SpecRejected with every fault that is known when the whole document is refused.
    """
    source = read(given, settings)
    normalised = normalise(source, settings)
    try:
        understanding = _Understanding(normalised)
        return understanding.api(given, source.format), understanding.told()
    except RecursionError as error:
        raise SpecRejected((diagnostic("reference.chain", "", allowed=100),)) from error


class _Understanding:
    """All parts of the inference, wired for one document."""

    def __init__(self, normalised: Normalised) -> None:
        self._normalised = normalised
        self._document = Document(normalised.document)
        self._schemas = Schemas(self._document)
        self._validator = Validator(self._document)
        self._sampler = Sampler(self._schemas, self._validator)
        self._errors = Errors(self._document, self._schemas, self._validator, self._sampler)
        self._security = Security(self._document)
        self._diagnostics: list[Diagnostic] = list(normalised.diagnostics)

    def told(self) -> tuple[Diagnostic, ...]:
        """All diagnostics, in the order in which they were found."""
        return tuple(self._diagnostics)

    def api(self, given: bytes, form: str) -> Api:
        """The finished value."""
        raw = list(self._document.operations())
        self._modeller, planner = self._infer(raw)
        checker = Checker(self._document, self._sampler, self._validator, self._modeller.models)
        outcomes = [_checked(one, planner.plan(one), checker) for one in raw]
        self._note_use(outcomes)
        operations = tuple(self._operation(one, outcome) for one, outcome in zip(raw, outcomes, strict=True))
        self._tell_operations(operations)
        self._tell_security(operations)
        info = self._normalised.document["info"]
        used = {name for one in operations for alternative in one.security for name in alternative}
        return Api(
            title=info["title"],
            version=info["version"],
            description=info.get("description", ""),
            base_path=self._base_path(),
            document=self._normalised.document,
            given=given,
            given_name="openapi.given.json" if form == "json" else "openapi.given.yaml",
            resources=self._resources(),
            operations=operations,
            security_schemes=self._security.schemes(used),
            changes=self._normalised.changes,
        )

    def _infer(self, raw: list[RawOperation]) -> tuple[Modeller, Planner]:
        found = routes(raw)
        grouped = groups(raw, found)
        responses = Responses(self._schemas, self._validator)
        finder = Finder(self._document, self._schemas, responses, found, grouped)
        finder.find()
        modeller = Modeller(self._schemas, self._validator, finder, found)
        modeller.build()
        ground = Ground(
            self._document, self._schemas, responses, finder, modeller, found, grouped, self._security.problem
        )
        return modeller, Planner(ground)

    # --- resources ---

    def _note_use(self, outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            for name in resources_of(outcome.plan) if outcome.plan else ():
                self._modeller.models[name].used = True

    def _resources(self) -> tuple[Resource, ...]:
        """Those that some derived operation needs, and what they refer to."""
        models = self._modeller.models
        wanted: dict[str, None] = {}
        pending = [name for name, model in models.items() if model.used]
        while pending:
            name = pending.pop(0)
            if name not in wanted:
                wanted[name] = None
                pending += _neighbours(models[name])
        return tuple(self._resource(model) for name, model in models.items() if name in wanted)

    def _resource(self, model: Model) -> Resource:
        made = self._modeller.resource(model)
        sample = self._sampler.response(model.draft.entity)
        return replace(made, sample=sample)

    # --- operations ---

    def _operation(self, raw: RawOperation, outcome: Outcome) -> Operation:
        body = self._body(raw, outcome)
        security = self._security.supported(raw)
        answer = raw.answer
        sample = self._sampler.request(body.schema_pointer) if body and body.schema_pointer else None
        return Operation(
            id=raw.id,
            method=raw.method,
            path=raw.path,
            summary=str(raw.node.get("summary", "")),
            tags=tuple(raw.node.get("tags", ())),
            verdict=outcome.verdict,
            rule=outcome.rule,
            pointer=raw.pointer,
            confidence=outcome.confidence,
            alternative=outcome.alternative,
            reason=outcome.reason,
            parameters=tuple(self._parameter(one) for one in raw.parameters),
            body=body,
            success=raw.success_code,
            success_media_type=_sent_media(answer),
            responses={status: _media_types(raw.content(status)) for status in raw.responses},
            errors=self._errors.shapes(raw, self._diagnostics),
            security=security,
            plan=outcome.plan,
            sample=sample,
            sample_media_type=body.media_types[0] if body and body.media_types and sample is not None else None,
            invalid_status=422 if "422" in raw.responses and not raw.declares(400) else 400,
            implied=_implied(raw, outcome, bool(security), self._modeller.models),
            success_pointer=self._schemas.final(answer.schema_pointer) if answer.schema_pointer else None,
        )

    def _parameter(self, raw: RawParameter) -> Parameter:
        place = Place(raw.place)
        content = "schema" not in raw.node
        style = str(raw.node.get("style", _STYLES[place]))
        explode = raw.node.get("explode")
        examples = self._sampler.media_examples(raw.schema_pointer)
        return Parameter(
            name=raw.name,
            place=place,
            required=raw.required,
            schema_pointer=raw.schema_pointer,
            style="content" if content else style,
            explode=explode if isinstance(explode, bool) else style == "form",
            sample=self._sampler.request(raw.schema_pointer, examples),
        )

    def _body(self, raw: RawOperation, outcome: Outcome) -> Body | None:
        content = raw.body
        if content is None or content.json_media is None:
            return None
        media = tuple(one for one in (content.json_media,) if one)
        request = outcome.body
        shape = None
        if request is not None and outcome.plan is not None:
            model = self._modeller.models[self._body_resource(outcome, outcome.plan)]
            shape = self._modeller.request_shape(model, request).shape
        return Body(
            required=content.required,
            media_types=media,
            schema_pointer=content.schema_pointer or "",
            unwrap=request.unwrap if request else (),
            shape=shape,
            many=request.many if request else False,
            other_media_types=content.others,
        )

    @staticmethod
    def _body_resource(outcome: Outcome, plan: Plan) -> str:
        return plan.member.resource if plan.member and plan.action in (Action.LINK, Action.UNLINK) else plan.resource

    # --- the whole ---

    def _base_path(self) -> str:
        """Path of the first server, its variables at their defaults; "" where there is none or it cannot be used."""
        servers = self._normalised.document.get("servers") or [{}]
        url = str(servers[0].get("url", ""))
        for name, variable in servers[0].get("variables", {}).items():
            default = variable.get("default", "") if isinstance(variable, dict) else ""
            url = url.replace("{" + name + "}", str(default))
        try:
            path = urlsplit(url).path.rstrip("/")
        except ValueError:
            path = "?"
        path = path if path.startswith("/") or not path else "/" + path
        if set(path) <= _SAFE_PATH and not any(one in (".", "..", "") for one in path.split("/")[1:]):
            return path
        self._diagnostics.append(
            diagnostic("server.path", "/servers/0/url", url=shown(servers[0].get("url")), instead="`/`")
        )
        return ""

    def _tell_operations(self, operations: Iterable[Operation]) -> None:
        refused = 0
        for one in operations:
            if one.verdict is Verdict.HOOKED:
                self._diagnostics.append(
                    diagnostic("operation.hooked", one.pointer, operation=shown(one.id), reason=one.reason)
                )
            elif one.verdict is Verdict.REFUSED:
                refused += 1
                self._diagnostics.append(
                    diagnostic("operation.refused", one.pointer, operation=shown(one.id), reason=one.reason)
                )
            for name in one.plan.ignored if one.plan else ():
                self._diagnostics.append(
                    diagnostic("parameter.ignored", one.pointer, operation=shown(one.id), parameter=shown(name))
                )
        if refused == sum(1 for _ in operations):
            raise SpecRejected((diagnostic("document.all-refused", "/paths"), *self._diagnostics))

    def _tell_security(self, operations: Iterable[Operation]) -> None:
        live = [one for one in operations if one.verdict is not Verdict.REFUSED]
        free = [one for one in live if not one.security]
        if len(free) == len(live):
            self._diagnostics.append(diagnostic("security.open", ""))
        elif free:
            named = ", ".join(shown(one.id) for one in free[:20]) + (" …" if len(free) > 20 else "")
            self._diagnostics.append(diagnostic("security.partly-open", "", operations=named))
        optional = [one for one in live if any(not alternative for alternative in one.security)]
        if optional:
            named = ", ".join(shown(one.id) for one in optional[:20])
            self._diagnostics.append(diagnostic("security.optional-only", "", operations=named))


def _checked(raw: RawOperation, outcome: Outcome, checker: Checker) -> Outcome:
    fault = checker.fault(raw, outcome.plan) if outcome.plan else None
    return hooked(outcome.rule, fault) if fault else outcome


def _neighbours(model: Model) -> list[str]:
    found = [one.target for one in model.references.values()]
    return found + [one.target for one in model.collections.values()]


def _media_types(content: RawContent) -> tuple[str, ...]:
    return tuple(one for one in (content.json_media, *content.others) if one)


def _sent_media(content: RawContent) -> str | None:
    if content.json_media is None:
        return None
    return "application/json" if "*" in content.json_media else content.json_media


def _implied(raw: RawOperation, outcome: Outcome, secured: bool, models: dict[str, Model]) -> tuple[int, ...]:
    """Statuses that the operation can answer although the document does not declare them."""
    possible = set()
    if secured:
        possible |= (
            {401, 403} if any(scopes for one in raw.node.get("security", ()) for scopes in one.values()) else {401}
        )
    if raw.parameters or raw.body:
        possible.add(422 if "422" in raw.responses and not raw.declares(400) else 400)
    plan = outcome.plan
    if plan is not None and plan.action is not Action.PING:
        model = models[plan.resource]
        picks = plan.key is not None and plan.action is not Action.UPSERT
        if plan.ancestors or picks or model.draft.singleton or _points_outside(outcome, model):
            possible.add(404)
        if _can_conflict(plan, outcome, model) or plan.version:
            possible.add(409)
    return tuple(sorted(status for status in possible if not raw.declares(status)))


def _points_outside(outcome: Outcome, model: Model) -> bool:
    return outcome.body is not None and any(name in model.written for name in (*model.references, *model.collections))


def _can_conflict(plan: Plan, outcome: Outcome, model: Model) -> bool:
    """Whether a value that a client chooses may be taken already."""
    if plan.action not in (Action.CREATE, Action.REPLACE, Action.PATCH) or outcome.body is None:
        return False
    chosen = [
        one.name for one in model.properties.values() if one.unique and (one.generated is None or model.key.client)
    ]
    if plan.action is not Action.CREATE:
        chosen = [name for name in chosen if name in model.written and (plan.key is None or name != plan.key.property)]
    return any(name in model.written for name in chosen)
