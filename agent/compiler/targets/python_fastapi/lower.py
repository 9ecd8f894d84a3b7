"""From the meaning of a document to what the templates print: every name, type and default is decided here, once.

The templates see the dataclasses of project.py and nothing else. `Api` knows no Python; this file knows no layout.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from agent.compiler import ir
from agent.compiler.targets.python_fastapi.names import COLUMN_WORDS, KEYWORDS, TABLE_WORDS, Names, limited, snake
from agent.compiler.targets.python_fastapi.project import (
    Answer,
    Collection,
    Column,
    Constraint,
    Credential,
    Envelope,
    ErrorBody,
    ErrorShapes,
    Field,
    Fixed,
    ForeignKey,
    FuzzException,
    Intake,
    Lowered,
    Operation,
    Project,
    Reference,
    Resource,
    Router,
    Scope,
    Shape,
    Shown,
    Step,
    Table,
    Unsupported,
    Work,
)

Json = Any
INDEXED_TEXT_MAX = 500  # longer texts do not fit into an index entry (2.7 kB)
OWN_PATHS = {"live": "/health/live", "ready": "/health/ready", "metrics": "/metrics", "document": "/openapi.json"}

_SQL_TYPES = {
    ir.ColumnType.STRING: "Text()",
    ir.ColumnType.INTEGER: "Integer()",
    ir.ColumnType.BIGINT: "BigInteger()",
    ir.ColumnType.NUMERIC: "Numeric()",
    ir.ColumnType.FLOAT: "Double()",
    ir.ColumnType.BOOLEAN: "Boolean()",
    ir.ColumnType.DATE: "Date()",
    ir.ColumnType.DATETIME: "DateTime(timezone=True)",
    ir.ColumnType.UUID: "Uuid(as_uuid=False)",
    ir.ColumnType.JSON: "JSONB(none_as_null=True)",
}
_INTEGERS = (ir.ColumnType.INTEGER, ir.ColumnType.BIGINT)


# --- Tables and resources -------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Named:
    """Names of one resource."""

    resource: ir.Resource
    constant: str
    table: str
    identity: str = ""
    identity_type: str = ""
    columns: dict[str, str] = field(default_factory=dict)  # property → column
    references: dict[str, str] = field(default_factory=dict)  # reference → column


class Model:
    """Resources with every name and type decided."""

    def __init__(self, api: ir.Api) -> None:
        self.api = api
        constants, tables = Names(), Names(TABLE_WORDS)
        self.named = {r.name: _Named(r, constants.give(r.name).upper(), tables.give(r.name)) for r in api.resources}
        self._tables = tables
        self._links: dict[tuple[str, str], str] = {}
        self._names = {r.name: Names(words=COLUMN_WORDS | KEYWORDS) for r in api.resources}
        for named in self.named.values():
            self._name_columns(named)
        for named in self.named.values():
            for reference in named.resource.references:
                text = reference.name if snake(reference.name).endswith(("_id", "_key")) else f"{reference.name}_id"
                named.references[reference.name] = self._names[named.resource.name].give(text)
        self.notes: list[str] = []

    def _name_columns(self, named: _Named) -> None:
        names, resource = self._names[named.resource.name], named.resource
        for part in resource.properties:
            named.columns[part.name] = names.give(part.name)
        key = property_of(resource, resource.key)
        if resource.key_scope or key.type is ir.ColumnType.JSON or (key.nullable and key.generated is None):
            named.identity, named.identity_type = names.give("row_id"), "BigInteger()"
        else:
            named.identity, named.identity_type = named.columns[resource.key], _SQL_TYPES[key.type]

    def has_row_id(self, named: _Named) -> bool:
        """Whether rows have a hidden number as primary key, because their key is not unique alone."""
        return named.identity not in named.columns.values()

    def link_table(self, owner: str, collection: str) -> str:
        """The name of a many-to-many collection's table."""
        if (owner, collection) not in self._links:
            self._links[owner, collection] = self._tables.give(f"{owner} {collection}")
        return self._links[owner, collection]

    # tables

    def tables(self) -> tuple[Table, ...]:
        """All tables, links last."""
        made = [self._table(named) for named in self.named.values()]
        for named in self.named.values():
            own = (part for part in named.resource.collections if part.through and part.inverse is None)
            made.extend(self._link(named, part) for part in own)
        return tuple(made)

    def _table(self, named: _Named) -> Table:
        resource, columns = named.resource, []
        if self.has_row_id(named):
            columns.append(Column(named.identity, "BigInteger()", False, primary=True, identity=True))
        for part in resource.properties:
            name = named.columns[part.name]
            primary = name == named.identity
            identity = part.generated is ir.Generated.IDENTITY and part.type in _INTEGERS
            nullable = not primary and (part.nullable or not part.required) and not identity
            columns.append(Column(name, _SQL_TYPES[part.type], nullable, primary, identity))
        keys = []
        for reference in resource.references:
            target, name = self.named[reference.target], named.references[reference.name]
            nullable = reference.nullable or not reference.required
            columns.append(Column(name, target.identity_type, nullable))
            keys.append(
                ForeignKey(
                    limited(f"fk_{named.table}_{name}"),
                    name,
                    target.table,
                    target.identity,
                    self.on_delete(reference, nullable),
                )
            )
        uniques = self._uniques(named)
        indexes = self._indexes(named, uniques)
        return Table(named.table, tuple(columns), tuple(keys), uniques, indexes)

    def on_delete(self, part: ir.Reference, nullable: bool) -> str:
        """What happens to a row when the row that it points at is deleted."""
        if part.parent:
            return "CASCADE"
        for operation in self.api.operations:
            plan = operation.plan
            if (
                plan
                and plan.action is ir.Action.DELETE
                and plan.resource == part.target
                and "409" in operation.responses
            ):
                return "RESTRICT"
        return "SET NULL" if nullable else "CASCADE"

    def _uniques(self, named: _Named) -> tuple[Constraint, ...]:
        resource, found = named.resource, []
        if self.has_row_id(named):
            scope = [named.references.get(part) or named.columns[part] for part in resource.key_scope]
            found.append((*scope, named.columns[resource.key]))
        found.extend(
            (named.columns[part.name],)
            for part in resource.properties
            if part.unique and part.name != resource.key and part.type is not ir.ColumnType.JSON
        )
        return tuple(Constraint(limited(f"uq_{named.table}_{'_'.join(columns)}"), columns) for columns in found)

    def _indexes(self, named: _Named, uniques: Sequence[Constraint]) -> tuple[Constraint, ...]:
        resource = named.resource
        wanted = list(named.references.values())
        for operation in self.api.operations:
            if operation.plan and operation.plan.resource == resource.name:
                for filter_ in operation.plan.filters:
                    part = next((p for p in resource.properties if p.name == filter_.property), None)
                    if part and filter_.operator is ir.FilterOperator.EQUALS and is_indexable(part):
                        wanted.append(named.columns[part.name])
        served = {unique.columns[0] for unique in uniques} | {named.identity}
        return tuple(
            Constraint(limited(f"ix_{named.table}_{column}"), (column,))
            for column in dict.fromkeys(wanted)
            if column not in served
        )

    def _link(self, owner: _Named, part: ir.Collection) -> Table:
        target = self.named[part.target]
        name = self.link_table(owner.resource.name, part.name)
        here, there = self._link_columns(owner, target)
        columns = (
            Column(here, owner.identity_type, False, primary=True),
            Column(there, target.identity_type, False, primary=True),
        )
        keys = (
            ForeignKey(limited(f"fk_{name}_{here}"), here, owner.table, owner.identity, "CASCADE"),
            ForeignKey(limited(f"fk_{name}_{there}"), there, target.table, target.identity, "CASCADE"),
        )
        return Table(name, columns, keys, (), (Constraint(limited(f"ix_{name}_{there}"), (there,)),))

    def _link_columns(self, owner: _Named, target: _Named) -> tuple[str, str]:
        here = f"{owner.table}_id"
        return here, f"{target.table}_id" if target is not owner else f"other_{target.table}_id"

    # resources

    def resources(self) -> tuple[Resource, ...]:
        """All resources, as app/resources.py describes them."""
        return tuple(self._resource(named) for named in self.named.values())

    def _resource(self, named: _Named) -> Resource:
        resource = named.resource
        taken = self._given_by_clients(resource)
        fields = tuple(
            Field(
                name=part.name,
                column=named.columns[part.name],
                type=part.type.name,
                required=part.required,
                generated=part.generated.name if part.generated else None,
                has_default=part.has_default and part.generated is None,
                default=part.default,
                chosen=part.generated is not None and part.name in taken,
                secret=part.secret,
            )
            for part in resource.properties
        )
        references = tuple(
            Reference(part.name, named.references[part.name], self.named[part.target].constant, part.required)
            for part in resource.references
        )
        return Resource(
            named.constant,
            resource.name,
            named.table,
            named.identity,
            resource.key,
            fields,
            references,
            tuple(self._collection(named, part) for part in resource.collections),
        )

    def _given_by_clients(self, resource: ir.Resource) -> set[str]:
        """Generated properties that some request body takes: the client's value is used."""
        return {
            shown.property
            for operation in self.api.operations
            if operation.body and operation.body.shape and operation.body.shape.resource == resource.name
            for shown in operation.body.shape.fields
        }

    def _collection(self, named: _Named, part: ir.Collection) -> Collection:
        target = self.named[part.target]
        if not part.through:
            return Collection(part.name, target.constant, part.via or "")
        if part.inverse is None:
            here, there = self._link_columns(named, target)
            return Collection(
                part.name, target.constant, None, self.link_table(named.resource.name, part.name), here, there
            )
        there, here = self._link_columns(target, named)
        return Collection(part.name, target.constant, None, self.link_table(part.target, part.inverse), here, there)


def property_of(resource: ir.Resource, name: str) -> ir.Property:
    """A property by name."""
    return next(part for part in resource.properties if part.name == name)


def is_indexable(part: ir.Property) -> bool:
    """Whether values of a property fit into an index."""
    if part.type is ir.ColumnType.STRING:
        return bool(part.enum) or (part.max_length is not None and part.max_length <= INDEXED_TEXT_MAX)
    return part.type is not ir.ColumnType.JSON


# --- Shapes ---------------------------------------------------------------------------------------------------------


class Shapes:
    """Equal shapes are one; nested ones come first."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._names = Names()
        self._made: dict[ir.Shape, Shape] = {}

    def name(self, shape: ir.Shape) -> str:
        """The Python name of a shape, made if need be."""
        if shape not in self._made:
            shown = tuple(
                Shown(
                    part.name,
                    part.property,
                    self.name(part.nested) if part.nested is not None else None,
                    part.null_when_absent,
                    part.match,
                )
                for part in shape.fields
            )
            named = self._model.named[shape.resource]
            constant = self._names.keep(named.constant.lower()).upper()
            self._made[shape] = Shape(constant, named.constant, shown)
        return self._made[shape].constant

    @property
    def all(self) -> tuple[Shape, ...]:
        """In the order in which they must be defined."""
        return tuple(self._made.values())


class Errors:
    """Equal sets of error shapes are one."""

    def __init__(self) -> None:
        self._made: list[ErrorShapes] = []
        self._bodies: list[ErrorBody] = []

    @property
    def bodies(self) -> tuple[ErrorBody, ...]:
        """In order of their first use."""
        return tuple(self._bodies)

    def _body(self, media_type: str, template: Json) -> str:
        for made in self._bodies:
            if (made.media_type, made.template) == (media_type, template):
                return made.constant
        constant = "ERROR" if not self._bodies else f"ERROR_{len(self._bodies) + 1}"
        self._bodies.append(ErrorBody(constant, media_type, template))
        return constant

    def name(self, errors: Sequence[ir.ErrorShape]) -> str | None:
        """The Python name of a set, None for an empty one."""
        if not errors:
            return None
        shapes = tuple((part.status, self._body(part.media_type, part.template)) for part in errors)
        for made in self._made:
            if made.shapes == shapes:
                return made.constant
        constant = "ERRORS" if not self._made else f"ERRORS_{len(self._made) + 1}"
        self._made.append(ErrorShapes(constant, shapes))
        return constant

    @property
    def all(self) -> tuple[ErrorShapes, ...]:
        """In order of their first use."""
        return tuple(self._made)


# --- Operations -----------------------------------------------------------------------------------------------------


class Planner:
    """Turns a plan into a call of app/crud.py."""

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


# --- Everything -----------------------------------------------------------------------------------------------------


def lower(api: ir.Api, service: str) -> Lowered:
    """Decide everything. Total: what cannot be carried out becomes hooked, with the reason."""
    model = Model(api)
    shapes, errors = Shapes(model), Errors()
    planner = Planner(model, shapes)
    functions, hooks = Names(ROUTER_WORDS), Names(HOOK_WORDS)
    kept: list[ir.Operation] = []
    by_tag: dict[str, list[Operation]] = {}
    for given in api.operations:
        operation, work = plan_or_hook(planner, given)
        kept.append(operation)
        function = functions.give(operation.id)
        by_tag.setdefault(tag_of(operation), []).append(
            Operation(
                function,
                function.upper(),
                operation.id,
                operation.method,
                operation.path,
                operation.summary or operation.id,
                errors.name(operation.errors),
                work,
                None if work else hooks.keep(function),
                operation.reason or "No rule derives this operation.",
            )
        )
    modules = Names()
    routers = tuple(Router(modules.give(tag), tag, tuple(found)) for tag, found in by_tag.items())
    project = Project(
        service=service,
        title=api.title,
        version=api.version,
        description=api.description,
        base_path=api.base_path,
        given_name=api.given_name,
        paths=own_paths(api),
        tables=model.tables(),
        resources=model.resources(),
        shapes=shapes.all,
        error_bodies=errors.bodies,
        error_shapes=errors.all,
        routers=routers,
        credentials=credentials(api),
        exceptions=fuzz_exceptions(api, kept),
        implied=implied_statuses(api, kept),
        refused_media=refused_media(kept),
        notes=tuple(notes_of(model)),
    )
    return Lowered(project, tuple(kept))


def plan_or_hook(planner: Planner, operation: ir.Operation) -> tuple[ir.Operation, Work | None]:
    """The operation with its work; without any if it is hooked, or if this target cannot carry the plan out."""
    if operation.plan is None:
        return operation, None
    try:
        return operation, planner.work(operation)
    except Unsupported as exc:
        return replace(operation, verdict=ir.Verdict.HOOKED, reason=str(exc), plan=None), None


ROUTER_WORDS = frozenset({"crud", "routes", "shapes", "resources", "hooks", "call"})
HOOK_WORDS = frozenset({"unwritten"})


def tag_of(operation: ir.Operation) -> str:
    """The router of an operation: its first tag, else the first word of its path."""
    if operation.tags:
        return operation.tags[0]
    words = [part for part in operation.path.split("/") if part and "{" not in part]
    return words[0] if words else "default"


def own_paths(api: ir.Api) -> dict[str, str]:
    """Where health, metrics and document lie: below /_backwright where the contract has such a path itself."""
    taken = {api.base_path + operation.path for operation in api.operations}
    templates = [path.split("/") for path in taken]

    def collides(path: str) -> bool:
        parts = path.split("/")
        return any(
            len(other) == len(parts) and all(a == b or "{" in b for a, b in zip(parts, other, strict=True))
            for other in templates
        )

    return {name: f"/_backwright{path}" if collides(path) else path for name, path in OWN_PATHS.items()}


def credentials(api: ir.Api) -> tuple[Credential, ...]:
    """Declared schemes that are used, with the variables that configure them."""
    found = []
    for number, scheme in enumerate(api.security_schemes):
        prefix = variable(scheme.name)
        ending = {ir.SchemeKind.BASIC: "USERS", ir.SchemeKind.API_KEY: "KEYS", ir.SchemeKind.BEARER: "PUBLIC_KEY"}
        found.append(
            Credential(
                scheme.name,
                scheme.kind.value,
                f"{prefix}_{ending[scheme.kind]}",
                scheme.place.value,
                scheme.parameter,
                number,
            )
        )
    return tuple(found)


def variable(scheme: str) -> str:
    """As `variable` of the skeleton's app/auth.py."""
    words = "".join(c if c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789" else " " for c in scheme.upper()).split()
    return f"SERVICE_AUTH_{'_'.join(words) or 'SCHEME'}"


def implied_statuses(api: ir.Api, operations: Sequence[ir.Operation]) -> dict[str, dict[str, tuple[int, ...]]]:
    """Statuses that operations can answer although the document does not name them; for the fuzz tool only."""
    found: dict[str, dict[str, tuple[int, ...]]] = {}
    for operation in operations:
        if operation.implied:
            found.setdefault(operation.path, {})[operation.method.lower()] = tuple(operation.implied)
    return found


def refused_media(operations: Sequence[ir.Operation]) -> dict[str, dict[str, tuple[str, ...]]]:
    """Declared media types of bodies that the service does not take."""
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for operation in operations:
        if operation.plan is not None and operation.body is not None and operation.body.other_media_types:
            found.setdefault(operation.path, {})[operation.method.lower()] = operation.body.other_media_types
    return found


_IMPLIED_REASONS = {
    400: "the document restricts the request, but declares no status for one that breaks the restriction",
    401: "the document secures the operation, but does not declare 401",
    403: "the document demands scopes, but does not declare 403",
    404: "the path names a row, but the document does not declare 404",
    409: "a key is unique or a row is referenced, but the document does not declare 409",
    413: "bodies are limited, but the document does not declare 413",
    415: "the body has a media type, but the document does not declare 415",
}
FAILS_BY_DESIGN = "fails-by-design"


def fuzz_exceptions(api: ir.Api, operations: Sequence[ir.Operation]) -> tuple[FuzzException, ...]:
    """What the fuzz configuration lets pass, each by a rule that the document proves."""
    found: list[FuzzException] = []
    for operation in operations:
        here = (operation.path, operation.method)
        for status in operation.implied:
            reason = _IMPLIED_REASONS.get(status, f"the service answers {status}, which the document does not declare")
            found.append(FuzzException("implied-status", operation.id, f"{status}: {reason}", *here))
        plan = operation.plan
        if plan is None:
            continue
        if operation.body is not None and operation.body.other_media_types:
            reason = f"bodies are taken as JSON only, not as {', '.join(operation.body.other_media_types)}"
            found.append(FuzzException("media-type", operation.id, reason, *here))
        expected = []
        if plan.paging and plan.paging.style is ir.PagingStyle.CURSOR and plan.paging.position:
            reason = "a cursor is opaque: only one that the service gave is meaningful, others are refused"
            found.append(FuzzException("opaque-cursor", operation.id, reason, *here))
            expected.append(_refusal_status(operation))
        if plan.sort is not None and not plan.sort.values:
            reason = "the order names properties, which the schema of the parameter does not list"
            found.append(FuzzException("order-names-properties", operation.id, reason, *here))
            expected.append(_refusal_status(operation))
        refusal = next((s for s in ("404", "409", "422", "400") if s in operation.responses), "404")
        if _has_reference(operation) and refusal in ("422", "400"):
            reason = f"a body that names a row that does not exist is answered with {refusal}, as the document declares"
            found.append(FuzzException("unknown-reference", operation.id, reason, *here))
            expected.append(refusal)
        if expected:
            statuses = ("2xx", "401", "403", "404", "409", "429", "5xx", *dict.fromkeys(expected))
            found[-1] = replace(found[-1], check="positive_data_acceptance", statuses=statuses)
        if plan.action in (ir.Action.CREATE, ir.Action.UPSERT) and plan.ancestors and _has_reference(operation):
            reason = (
                "404 for an unknown row that the body names is read as if the parent that was just made were missing"
            )
            found.append(
                FuzzException("unknown-reference", operation.id, reason, *here, check="ensure_resource_availability")
            )
    return tuple(found)


def _refusal_status(operation: ir.Operation) -> str:
    """What the service answers to what is not valid: Kind.INVALID of the skeleton's errors.py, best declared first."""
    declared = {error.status for error in operation.errors}
    return "422" if "422" in declared and "400" not in declared else "400"


def _has_reference(operation: ir.Operation) -> bool:
    shape = operation.body.shape if operation.body else None
    return shape is not None and any(part.kind != "property" for part in shape.fields)


def notes_of(model: Model) -> Iterable[str]:
    """What deleting does, for the report."""
    for named in model.named.values():
        for part in named.resource.references:
            nullable = part.nullable or not part.required
            rule = model.on_delete(part, nullable)
            what = {
                "CASCADE": "is deleted with it",
                "RESTRICT": "keeps it from being deleted (409)",
                "SET NULL": "stays, without the reference",
            }[rule]
            yield f"A {named.resource.name} that refers to a {part.target} by `{part.name}` {what}."
