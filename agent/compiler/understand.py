"""The front half of the compiler: bytes → `Api`. Pure: no clock, no process, no network.

    source → normalise → document + schemas → paths → responses → resources → models → operations → Api

Which rule does what stands in README.md; every operation's verdict says which rule it was.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from agent.compiler.diagnostics import Told, diagnostic, shown
from agent.compiler.inference.check import Checker
from agent.compiler.inference.errors import Errors
from agent.compiler.inference.keys import made_keys
from agent.compiler.inference.model import Model
from agent.compiler.inference.modeller import Modeller
from agent.compiler.inference.paths import groups, routes
from agent.compiler.inference.resources import Finder
from agent.compiler.inference.response import Responses
from agent.compiler.inference.security import Security
from agent.compiler.ir import Api, Generated, Operation, Resource, Verdict
from agent.compiler.reading.normalise import Normalised, normalise
from agent.compiler.reading.source import read
from agent.compiler.rules.case import Outcome, hooked, resources_of
from agent.compiler.rules.operations import Operations
from agent.compiler.rules.parts import Ground
from agent.compiler.rules.planner import Planner
from agent.compiler.rules.remarks import about_security, about_verdicts
from agent.compiler.schemas.document import Document, RawOperation
from agent.compiler.schemas.sample import Sampler
from agent.compiler.schemas.validation import Validator
from agent.compiler.schemas.views import Schemas
from agent.errors import SpecRejected
from agent.settings import CompilerSettings
from contracts.status import Diagnostic

Json = Any

_SAFE_PATH = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/")


def understand(given: bytes, settings: CompilerSettings) -> tuple[Api, tuple[Diagnostic, ...]]:
    """What a document means, and what there is to say about it, in the order in which it was found.

    Raises SpecRejected with every fault that is known when the whole document is refused.
    """
    source = read(given, settings)
    normalised = normalise(source, settings)
    try:
        api = _Understanding(normalised).api(given, source.format)
    except RecursionError as error:
        raise SpecRejected((diagnostic("reference.chain", "", allowed=100),)) from error
    return api, normalised.told.all()


class _Understanding:
    """All parts of the inference, wired for one document."""

    def __init__(self, normalised: Normalised) -> None:
        self._normalised = normalised
        self._document = Document(normalised.document)
        self._schemas = Schemas(self._document)
        self._validator = Validator(self._document)
        self._sampler = Sampler(self._schemas, self._validator)
        self._security = Security(self._document)
        self._changes: tuple[str, ...] = ()  # what the inference makes plain in the document

    def api(self, given: bytes, form: str) -> Api:
        """The finished value; what there is to say is added to what normalisation told."""
        told = self._normalised.told
        raw = list(self._document.operations())
        ground = self._ground(raw)
        outcomes = self._outcomes(raw, ground)
        operations = self._operations(raw, outcomes, ground.modeller, told)
        told.extend((*about_security(operations), *self._security.unchecked(raw)))
        base_path, remarks = _base_path(self._normalised.document)
        told.extend(remarks)
        info = self._normalised.document["info"]
        return Api(
            title=info["title"],
            version=info["version"],
            description=info.get("description", ""),
            base_path=base_path,
            document=self._normalised.document,
            given=given,
            given_name="openapi.given.json" if form == "json" else "openapi.given.yaml",
            resources=self._resources(outcomes, ground.modeller),
            operations=operations,
            security_schemes=self._security.schemes(
                {name for one in operations for alternative in one.security for name in alternative}
            ),
            changes=(*self._normalised.changes, *self._changes),
        )

    def _ground(self, raw: Sequence[RawOperation]) -> Ground:
        """What the inference finds, stage by stage: all that the rules stand on."""
        found = routes(raw)
        grouped = groups(raw, found)
        responses = Responses(self._schemas, self._validator)
        finder = Finder(self._document, self._schemas, responses, found, grouped)
        finder.find()
        modeller = Modeller(self._schemas, self._validator, finder, found)
        modeller.build()
        self._changes = tuple(
            f"{pointer}: `minLength` 1, since a path names a row by it" for pointer in modeller.name_rows()
        )
        return Ground(
            self._document, self._schemas, responses, finder, modeller, found, grouped, self._security.problem
        )

    def _outcomes(self, raw: Iterable[RawOperation], ground: Ground) -> list[Outcome]:
        """The rules' verdicts; a plan whose answers would not satisfy the document is none."""
        planner = Planner(ground)
        checker = Checker(self._document, self._sampler, self._validator, ground.modeller.models)
        return [_checked(one, planner.plan(one), checker) for one in raw]

    def _operations(
        self, raw: Sequence[RawOperation], outcomes: Sequence[Outcome], modeller: Modeller, told: Told
    ) -> tuple[Operation, ...]:
        """Raises SpecRejected where every operation is refused."""
        errors = Errors(self._document, self._schemas, self._validator, self._sampler)
        finish = Operations(self._schemas, self._sampler, errors, self._security, modeller).finished
        operations = tuple(finish(one, outcome, told) for one, outcome in zip(raw, outcomes, strict=True))
        told.extend(about_verdicts(operations))
        if all(one.verdict is Verdict.REFUSED for one in operations):
            raise SpecRejected((diagnostic("document.all-refused", "/paths"), *told.all()))
        return operations

    def _resources(self, outcomes: Iterable[Outcome], modeller: Modeller) -> tuple[Resource, ...]:
        """Those that some derived operation needs, and what they refer to."""
        models = modeller.models
        wanted: set[str] = set()
        pending = [name for one in outcomes if one.plan for name in resources_of(one.plan)]
        while pending:
            name = pending.pop()
            if name not in wanted:
                wanted.add(name)
                pending += _neighbours(models[name])
        return tuple(
            replace(modeller.resource(model), sample=_keyed(model, self._sampler.response(model.draft.entity)))
            for name, model in models.items()
            if name in wanted
        )


def _keyed(model: Model, sample: Json) -> Json:
    """A sample of a row with a key as the server makes it, which paths let in."""
    key = model.key
    if key.generated not in (Generated.UUID, Generated.TOKEN) or not isinstance(sample, dict) or key.name not in sample:
        return sample
    return {**sample, key.name: made_keys(key.generated, is_text=True)[0]}


def _checked(raw: RawOperation, outcome: Outcome, checker: Checker) -> Outcome:
    fault = checker.fault(raw, outcome.plan) if outcome.plan else None
    return hooked(outcome.rule, fault) if fault else outcome


def _neighbours(model: Model) -> list[str]:
    return [
        *(one.target for one in model.references.values()),
        *(one.target for one in model.collections.values()),
    ]


def _base_path(document: Json) -> tuple[str, list[Diagnostic]]:
    """Path of the first server, its variables at their defaults; "" where there is none or, told, it cannot be used."""
    server = (document.get("servers") or [{}])[0]
    url = str(server.get("url", ""))
    for name, variable in server.get("variables", {}).items():
        default = variable.get("default", "") if isinstance(variable, dict) else ""
        url = url.replace("{" + name + "}", str(default))
    try:
        path = urlsplit(url).path.rstrip("/")
    except ValueError:
        path = "?"
    path = path if path.startswith("/") or not path else "/" + path
    if set(path) <= _SAFE_PATH and not any(one in (".", "..", "") for one in path.split("/")[1:]):
        return path, []
    return "", [diagnostic("server.path", "/servers/0/url", url=shown(server.get("url")), instead="`/`")]
