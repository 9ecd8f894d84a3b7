"""Statuses that an operation can answer although the document does not declare them: its plan implies them."""

from collections.abc import Mapping

from agent.compiler.inference.model import Model
from agent.compiler.ir import Action
from agent.compiler.rules.case import Outcome
from agent.compiler.schemas.document import RawOperation

_WRITES = (Action.CREATE, Action.CREATE_MANY, Action.REPLACE, Action.PATCH, Action.PATCH_MANY)


def implied(raw: RawOperation, outcome: Outcome, models: Mapping[str, Model], *, is_secured: bool) -> tuple[int, ...]:
    """In ascending order: 204 where no success is declared, 400 (or 422) by validation, 401 and 403 by security, 404 by a key, 409 by uniqueness."""
    possible = set() if raw.success or outcome.plan is None else {raw.success_code}
    if is_secured:
        has_scopes = any(scopes for one in raw.node.get("security", ()) for scopes in one.values())
        possible |= {401, 403} if has_scopes else {401}
    if raw.parameters or raw.body:
        possible.add(invalid_status(raw))
    plan = outcome.plan
    if plan is not None and plan.action is not Action.PING:
        model = models[plan.resource]
        picks = plan.key is not None and plan.action is not Action.UPSERT
        if plan.ancestors or picks or model.draft.singleton or _points_outside(outcome, model):
            possible.add(404)
        if plan.version or _can_conflict(outcome, model):
            possible.add(409)
    return tuple(sorted(status for status in possible if not raw.declares(status)))


def invalid_status(raw: RawOperation) -> int:
    """What an invalid request is answered with: 422 where the document names that and not 400, else 400."""
    return 422 if "422" in raw.responses and "400" not in raw.responses else 400


def _points_outside(outcome: Outcome, model: Model) -> bool:
    return outcome.body is not None and any(name in model.written for name in (*model.references, *model.collections))


def _can_conflict(outcome: Outcome, model: Model) -> bool:
    """Whether a value that a client chooses may be taken already."""
    plan = outcome.plan
    if plan is None or outcome.body is None or plan.action not in _WRITES:
        return False
    is_new = plan.action in (Action.CREATE, Action.CREATE_MANY)
    own_key = None if is_new else model.key.name  # nobody changes a key
    return any(
        one.unique and (one.generated is None or model.key.client) and one.name in model.written and one.name != own_key
        for one in model.properties.values()
    )
