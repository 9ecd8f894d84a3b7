"""From the meaning of a document to what the templates print: every name, type and default is decided here, once.

The templates see the dataclasses of project.py and nothing else. `Api` knows no Python; this file knows no layout.
"""

from collections.abc import Iterable
from dataclasses import replace

from agent.compiler import ir
from agent.compiler.targets.python_fastapi.lower_fuzz import fuzz_exceptions, implied_statuses, refused_media
from agent.compiler.targets.python_fastapi.lower_resources import Model
from agent.compiler.targets.python_fastapi.lower_shapes import Errors, Shapes
from agent.compiler.targets.python_fastapi.lower_work import Planner
from agent.compiler.targets.python_fastapi.names import Names
from agent.compiler.targets.python_fastapi.project import (
    Credential,
    Lowered,
    Operation,
    Project,
    Router,
    Unsupported,
    Work,
)

OWN_PATHS = {"live": "/health/live", "ready": "/health/ready", "metrics": "/metrics", "document": "/openapi.json"}
ROUTER_WORDS = frozenset({"crud", "routes", "shapes", "resources", "hooks", "call"})
HOOK_WORDS = frozenset({"unwritten"})


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


def notes_of(model: Model) -> Iterable[str]:
    """What deleting does, for the report."""
    for named in model.named.values():
        for part in named.resource.references:
            what = {
                "CASCADE": f"deleted with its {part.target}",
                "SET NULL": f"stays without it when its {part.target} is deleted",
                "RESTRICT": f"keeps its {part.target} from being deleted (409)"
                if part.target in model.removable
                else f"keeps its {part.target} in the database, which no operation deletes",
            }[model.on_delete(part, part.nullable or not part.required)]
            yield f"{named.resource.name}.{part.name}: {what}."
