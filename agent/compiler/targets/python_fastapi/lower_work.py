"""From the plan of an operation to a call of app/crud; what cannot be called raises Unsupported."""

from collections.abc import Iterable

from agent.compiler import ir
from agent.compiler.targets.python_fastapi.lower_resources import Model
from agent.compiler.targets.python_fastapi.lower_shapes import Shapes
from agent.compiler.targets.python_fastapi.project import (
    Answer,
    Envelope,
    Fixed,
    Intake,
    Scope,
    Step,
    Unsupported,
    Work,
)


class Planner:
    """Turns a plan into a call of app/crud."""

    def __init__(self, model: Model, shapes: Shapes) -> None:
        self._model, self._shapes = model, shapes

    def work(self, operation: ir.Operation) -> Work:
        """The call. Raises Unsupported."""
        plan = operation.plan
        if plan is None:
            raise Unsupported(operation.reason or "no rule derives it")
        answer = self._answer(operation, plan)
        if plan.action is ir.Action.PING:
            return Work("confirm", answer)
        self._check(plan)
        maker = {
            ir.Action.LIST: self._list,
            ir.Action.GET: self._get,
            ir.Action.CREATE: self._create,
            ir.Action.CREATE_MANY: self._create_many,
            ir.Action.PATCH_MANY: self._change_many,
            ir.Action.REPLACE: self._change,
            ir.Action.PATCH: self._change,
            ir.Action.UPSERT: self._upsert,
            ir.Action.DELETE: self._delete,
            ir.Action.DELETE_ALL: self._delete_all,
            ir.Action.LINK: self._link,
            ir.Action.UNLINK: self._unlink,
        }
        return maker[plan.action](operation, plan, answer)

    def _check(self, plan: ir.Plan) -> None:
        """Names of a plan must be names of the model, else the operation cannot be derived."""
        for key in (*plan.ancestors, *((plan.key,) if plan.key else ()), *((plan.member,) if plan.member else ())):
            named = self._model.named.get(key.resource)
            if named is None or key.property not in named.columns:
                raise Unsupported(f"the parameter {key.parameter!r} names no stored property")
        if plan.resource not in self._model.named:
            raise Unsupported("the resource is not stored")
        if plan.ancestors and not (plan.via or plan.through or plan.link) and plan.action is not ir.Action.PING:
            raise Unsupported("nothing ties the resource to the one above it in the path")

    def _answer(self, operation: ir.Operation, plan: ir.Plan) -> Answer:
        media_type = operation.success_media_type or "application/json"
        return Answer(
            operation.success,
            self._shapes.name(plan.shape) if plan.shape is not None and not plan.wrapper.bare else None,
            envelope_of(plan.wrapper),
            "application/json" if "*" in media_type else media_type,
            plan.headers,
        )

    def _steps(self, keys: Iterable[ir.PathKey]) -> tuple[Step, ...]:
        return tuple(
            Step(key.parameter, self._constant(key.resource), key.property, key.via, fixed=fixed_of(key))
            for key in keys
        )

    def _constant(self, resource: str) -> str:
        return self._model.named[resource].constant

    def _scope(self, plan: ir.Plan) -> Scope:
        return Scope(
            self._constant(plan.resource),
            self._steps(plan.ancestors),
            plan.via if plan.ancestors else None,
            plan.through,
            fixed_of(plan),
        )

    def _item(self, plan: ir.Plan) -> tuple[Step, ...]:
        """Steps to the item: ancestors, then the row itself."""
        assert plan.key is not None
        via = plan.via if plan.ancestors else None
        last = Step(
            plan.key.parameter, self._constant(plan.key.resource), plan.key.property, via, plan.through, fixed_of(plan)
        )
        return (*self._steps(plan.ancestors), last)

    def _intake(self, operation: ir.Operation, plan: ir.Plan) -> Intake:
        body = operation.body
        shape = body.shape if body is not None else None
        empty = ir.Shape(plan.resource, ())
        return Intake(
            self._shapes.name(shape if shape is not None else empty),
            body.unwrap if body is not None else (),
            bool(body and body.many),
        )

    def _list(self, operation: ir.Operation, plan: ir.Plan, answer: Answer) -> Work:
        if answer.shape is None:
            raise Unsupported("the list has no items that we know")
        return Work(
            "read_list",
            answer,
            scope=self._scope(plan),
            filters=plan.filters,
            sort=plan.sort,
            paging=plan.paging,
            search=plan.search,
        )

    def _get(self, operation: ir.Operation, plan: ir.Plan, answer: Answer) -> Work:
        if plan.key is None:
            return Work("read_only_row", answer, scope=self._scope(plan))
        return Work("read", answer, steps=self._item(plan))

    def _create(self, operation: ir.Operation, plan: ir.Plan, answer: Answer) -> Work:
        intake = self._intake(operation, plan)
        return Work("create", answer, scope=self._scope(plan), intake=intake, location=plan.location)

    def _create_many(self, operation: ir.Operation, plan: ir.Plan, answer: Answer) -> Work:
        return Work(
            "create_many", answer, scope=self._scope(plan), intake=self._intake(operation, plan), item=item_of(plan)
        )

    def _change_many(self, operation: ir.Operation, plan: ir.Plan, answer: Answer) -> Work:
        return Work(
            "change_many",
            answer,
            scope=self._scope(plan),
            key=self._key(plan),
            intake=self._intake(operation, plan),
            item=item_of(plan),
        )

    def _key(self, plan: ir.Plan) -> str:
        return plan.key.property if plan.key else self._model.named[plan.resource].resource.key

    def _change(self, operation: ir.Operation, plan: ir.Plan, answer: Answer) -> Work:
        intake, whole = self._intake(operation, plan), plan.action is ir.Action.REPLACE
        if plan.key is None:
            return Work("put_only_row", answer, scope=self._scope(plan), intake=intake, whole=whole)
        if not plan.key.parameter:
            return Work(
                "put_by_body",
                answer,
                scope=self._scope(plan),
                key=plan.key.property,
                intake=intake,
                whole=whole,
                create_missing=False,
            )
        version = (plan.version.body_property, plan.version.property) if plan.version else None
        return Work("change", answer, steps=self._item(plan), intake=intake, whole=whole, version=version)

    def _upsert(self, operation: ir.Operation, plan: ir.Plan, answer: Answer) -> Work:
        return Work(
            "put_by_body",
            answer,
            scope=self._scope(plan),
            key=self._key(plan),
            intake=self._intake(operation, plan),
            whole=operation.method == "PUT",
            create_missing=True,
        )

    def _delete(self, operation: ir.Operation, plan: ir.Plan, answer: Answer) -> Work:
        if plan.key is None:
            return Work("remove_only_row", answer, scope=self._scope(plan))
        if not plan.key.parameter:
            raise Unsupported("the key of the row to delete stands in the body")
        return Work("remove", answer, steps=self._item(plan))

    def _delete_all(self, operation: ir.Operation, plan: ir.Plan, answer: Answer) -> Work:
        return Work("remove_all", answer, scope=self._scope(plan), filters=plan.filters)

    def _link_parts(self, plan: ir.Plan) -> tuple[tuple[Step, ...], str, Step]:
        if plan.link is None or plan.member is None or plan.key is None:
            raise Unsupported("the two rows to tie are not both known")
        member = self._model.named[plan.member.resource]
        if member.resource.key_scope:
            raise Unsupported("the key of the other row is not unique alone")
        return self._item(plan), plan.link, Step(plan.member.parameter, member.constant, plan.member.property)

    def _link(self, operation: ir.Operation, plan: ir.Plan, answer: Answer) -> Work:
        steps, collection, target = self._link_parts(plan)
        intake = None
        if plan.member is not None and not plan.member.parameter:
            name = plan.member.property
            shape = ir.Shape(plan.member.resource, (ir.ShapeField(name, name, "property"),))
            unwrap = operation.body.unwrap if operation.body else ()
            intake = Intake(self._shapes.name(shape), unwrap, False)
        return Work("link", answer, steps=steps, collection=collection, target=target, intake=intake)

    def _unlink(self, operation: ir.Operation, plan: ir.Plan, answer: Answer) -> Work:
        steps, collection, target = self._link_parts(plan)
        if not target.parameter:
            raise Unsupported("the key of the row to untie stands in the body")
        return Work("unlink", answer, steps=steps, collection=collection, target=target)


def fixed_of(plan: ir.Plan | ir.PathKey) -> tuple[Fixed, ...]:
    """Path parameters that are plain columns."""
    return tuple(Fixed(part.parameter, part.property) for part in plan.scopes)


def envelope_of(wrapper: ir.Wrapper) -> Envelope:
    """The same, as the templates print it."""
    return Envelope(wrapper.path, wrapper.fields, wrapper.bare)


def item_of(plan: ir.Plan) -> Envelope | None:
    """The envelope of each element of a bulk operation; None if elements have no answer of their own."""
    envelope = envelope_of(plan.item)
    return None if envelope.is_plain else envelope
