"""Verdicts → operations as targets see them: parameters, bodies, samples, statuses."""

from dataclasses import dataclass

from agent.compiler.diagnostics import Told
from agent.compiler.inference.errors import Errors
from agent.compiler.inference.modeller import Modeller
from agent.compiler.inference.security import Security
from agent.compiler.ir import Action, Body, Operation, Parameter, Place, Plan, Shape
from agent.compiler.rules.case import Outcome
from agent.compiler.rules.implied import implied, invalid_status
from agent.compiler.schemas.document import RawContent, RawOperation, RawParameter
from agent.compiler.schemas.sample import Sampler
from agent.compiler.schemas.views import Schemas

_STYLES = {Place.PATH: "simple", Place.HEADER: "simple", Place.QUERY: "form", Place.COOKIE: "form"}


@dataclass(frozen=True, slots=True)
class Operations:
    """Finishes the operations of one document."""

    schemas: Schemas
    sampler: Sampler
    errors: Errors
    security: Security
    modeller: Modeller

    def finished(self, raw: RawOperation, outcome: Outcome, told: Told) -> Operation:
        """The operation with everything that a target needs; what there is to say about its errors goes into `told`."""
        body = self._body(raw, outcome)
        security = self.security.supported(raw)
        answer = raw.answer
        sample = self.sampler.request(body.schema_pointer) if body and body.schema_pointer else None
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
            errors=self.errors.shapes(raw, told),
            security=security,
            plan=outcome.plan,
            sample=sample,
            sample_media_type=body.media_types[0] if body and body.media_types and sample is not None else None,
            invalid_status=invalid_status(raw),
            implied=implied(raw, outcome, self.modeller.models, is_secured=bool(security)),
            success_pointer=self.schemas.final(answer.schema_pointer) if answer.schema_pointer else None,
        )

    def _parameter(self, raw: RawParameter) -> Parameter:
        place = Place(raw.place)
        style = str(raw.node.get("style", _STYLES[place]))
        explode = raw.node.get("explode")
        examples = self.sampler.media_examples(raw.schema_pointer)
        return Parameter(
            name=raw.name,
            place=place,
            required=raw.required,
            schema_pointer=raw.schema_pointer,
            style=style if "schema" in raw.node else "content",
            explode=explode if isinstance(explode, bool) else style == "form",
            sample=self.sampler.request(raw.schema_pointer, examples),
        )

    def _body(self, raw: RawOperation, outcome: Outcome) -> Body | None:
        content, request = raw.body, outcome.body
        if content is None or content.json_media is None:
            return None
        return Body(
            required=content.required,
            media_types=(content.json_media,) if content.json_media else (),
            schema_pointer=content.schema_pointer or "",
            unwrap=request.unwrap if request else (),
            shape=self._shape(outcome),
            many=request.many if request else False,
            other_media_types=content.others,
        )

    def _shape(self, outcome: Outcome) -> Shape | None:
        """What the body gives of its resource; None where no plan takes it apart."""
        if outcome.body is None or outcome.plan is None:
            return None
        model = self.modeller.models[_body_resource(outcome.plan)]
        return self.modeller.request_shape(model, outcome.body).shape


def _body_resource(plan: Plan) -> str:
    return plan.member.resource if plan.member and plan.action in (Action.LINK, Action.UNLINK) else plan.resource


def _media_types(content: RawContent) -> tuple[str, ...]:
    return tuple(one for one in (content.json_media, *content.others) if one)


def _sent_media(content: RawContent) -> str | None:
    if content.json_media is None:
        return None
    return "application/json" if "*" in content.json_media else content.json_media
