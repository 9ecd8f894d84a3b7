"""The origin's eight priorities: what a document says of communication, storage, authentication, events, load and more.

Rules for editors: no line without a basis, no number that was not counted, nothing that would be true of any service.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from agent.compiler.ir import Action, ColumnType, Operation, Property, Resource, SchemeKind
from agent.pipeline.sight import MAX_NAMED, WRITING, Finding, Rule, Sight, asks, counted, named, quoted
from contracts.context import Facet

# Property names that usually hold something that must not leak; a match is a remark, never a verdict.
SENSITIVE = re.compile(
    r"(?:^|_)(?:pass(?:word|wd|phrase)|secrets?|tokens?|api_?key|ssn|social_security.*|iban|card_number|cvv|birth.*)(?:_|$)"
)
HEALTHY = re.compile(r"(?:/[^/{}]+)?/(?:health|healthz|live|ready|ping|status|metrics)", re.IGNORECASE)


def _communication(sight: Sight) -> Iterator[Finding]:
    api = sight.api
    groups = Counter(operation.tags[0] if operation.tags else "untagged" for operation in api.operations)
    yield Finding(
        f"{counted(len(api.operations), 'operation')} over HTTP below {quoted(api.base_path or '/')}, in "
        f"{counted(len(groups), 'group')}: {named(groups)}",
        "/paths, first tag of each operation",
    )
    media = sorted({media for o in api.operations if o.body for media in o.body.media_types})
    if media:
        yield Finding(f"request bodies come as {named(media)}", "requestBody of the operations")
    versioned = re.search(r"/v\d+", api.base_path) or any(re.match(r"/v\d+", o.path) for o in api.operations)
    yield Finding(
        f"the API's version is {quoted(api.version)}; it {'stands' if versioned else 'does not stand'} in the paths",
        "/info/version, /servers, /paths",
    )
    remote = [d for d in sight.diagnostics if d.code == "reference.external"]
    if remote:
        yield Finding(
            f"{counted(len(remote), 'schema')} of another document cannot be seen from here", remote[0].pointer
        )
    yield from sight.facts(Facet.SERVICE_ARCHITECTURE)
    yield from sight.facts(Facet.API_GATEWAY)


def _storage(sight: Sight) -> Iterator[Finding]:
    resources = sight.api.resources
    if not resources:
        yield Finding("nothing can be stored: no resource can be inferred", "inference of resources")
    for resource in resources:
        yield Finding(_table(resource), resource.schema_pointer or "inferred from the paths")
    links = [(r, ref) for r in resources for ref in r.references]
    if links:
        text = ", ".join(f"{quoted(r.name)} → {quoted(ref.target)}" for r, ref in links[:MAX_NAMED])
        yield Finding(
            f"{counted(len(links), 'reference')} between tables: {text}", "references of the schemas and paths"
        )
    through = [(r, c) for r in resources for c in r.collections if c.through and c.inverse is None]
    if through:
        text = ", ".join(f"{quoted(r.name)}.{quoted(c.name)}" for r, c in through)
        yield Finding(
            f"{counted(len(through), 'many-to-many relation')}: {text}", "collections of the schemas and paths"
        )
    opaque = [f"{r.name}.{p.name}" for r in resources for p in r.properties if p.type is ColumnType.JSON]
    if opaque:
        yield Finding(
            f"{counted(len(opaque), 'nested structure')} stored as JSON: {named(opaque)}", "schemas without a key"
        )
    yield from sight.facts(Facet.DATA_STORES)


def _table(resource: Resource) -> str:
    key = next((p for p in resource.properties if p.name == resource.key), None)
    made = f"made by the server ({key.generated.value})" if key and key.generated else "given by the client"
    within = f", unique within its {named(resource.key_scope)}" if resource.key_scope else ""
    unique = [p.name for p in resource.properties if p.unique and p.name != resource.key]
    also = f"; unique besides: {named(unique)}" if unique else ""
    rows = "exactly one row" if resource.singleton else f"key {quoted(resource.key)} {made}{within}"
    return f"table for {quoted(resource.name)}: {counted(len(resource.properties), 'property', 'properties')}, {rows}{also}"


def _authentication(sight: Sight) -> Iterator[Finding]:
    how = {
        SchemeKind.BASIC: "HTTP basic, hashed entries from the settings",
        SchemeKind.BEARER: "a signed token (JWT) in the Authorization header, checked against a key or JWKS URL",
        SchemeKind.API_KEY: "an API key, hashed entries from the settings",
    }
    schemes = sight.api.security_schemes
    for scheme in schemes:
        where = f" in {scheme.place.value} {quoted(scheme.parameter)}" if scheme.kind is SchemeKind.API_KEY else ""
        scopes = f"; scopes {named(scheme.scopes)}" if scheme.scopes else ""
        yield Finding(
            f"{quoted(scheme.name)}: {how[scheme.kind]}{where}{scopes}",
            f"/components/securitySchemes/{scheme.name}",
        )
    if not schemes:
        yield Finding("no flow: the document declares no security scheme that an operation uses", "/security")
    closed = sum(bool(o.security) for o in sight.api.operations)
    if schemes:
        yield Finding(
            f"{closed} of {counted(len(sight.api.operations), 'operation')} ask for a credential",
            "security of the operations",
        )
    yield from sight.facts(Facet.AUTH_PROVIDERS)


def _events(sight: Sight) -> Iterator[Finding]:
    document, found = sight.api.document, False
    hooks = document.get("webhooks") or {}
    if hooks:
        found = True
        yield Finding(
            f"the service would call {counted(len(hooks), 'webhook')}: {named(map(str, hooks))}; not served",
            "/webhooks",
        )
    callbacks = [o for o in sight.api.operations if _given(document, o).get("callbacks")]
    if callbacks:
        found = True
        yield Finding(f"callbacks are declared by {named(o.id for o in callbacks)}; not called", callbacks[0].pointer)
    later = [o for o in sight.api.operations if "202" in o.responses]
    if later:
        found = True
        yield Finding(f"work that goes on after the answer (202): {named(o.id for o in later)}", later[0].pointer)
    streams = [o for o in sight.api.operations if any("event-stream" in m for ms in o.responses.values() for m in ms)]
    if streams:
        found = True
        yield Finding(f"event streams: {named(o.id for o in streams)}", streams[0].pointer)
    if not found:
        yield Finding(
            "no webhook, callback, 202 or event stream: every answer is complete when it is sent", "/paths, /webhooks"
        )
    yield from sight.facts(Facet.MESSAGE_BROKERS)


def _given(document: Mapping[str, Any], operation: Operation) -> Mapping[str, Any]:
    """The operation's object in the normalised document; empty if it is not where path and method say."""
    item = (document.get("paths") or {}).get(operation.path) or {}
    given = item.get(operation.method.lower()) if isinstance(item, Mapping) else None
    return given if isinstance(given, Mapping) else {}


def _load(sight: Sight) -> Iterator[Finding]:
    operations = sight.api.operations
    writing = [o for o in operations if o.method in WRITING]
    yield Finding(
        f"{len(operations) - len(writing)} reading and {len(writing)} writing operations; a request carries all of its "
        "state (no session), so replicas can share the load behind any balancer",
        "methods of the operations, security schemes",
    )
    hot = [r.name for r in sight.api.resources if r.singleton]
    if hot:
        yield Finding(f"one row that all writers share: {named(hot)}", "resources without a key in the path")
    bulk = [
        o.id
        for o in operations
        if o.plan and o.plan.action in {Action.CREATE_MANY, Action.PATCH_MANY, Action.DELETE_ALL}
    ]
    if bulk:
        yield Finding(
            f"operations whose cost grows with their input: {named(bulk)}", "rules create_many, patch_many, delete_all"
        )
    yield from sight.facts(Facet.DEPLOYMENT_PATTERNS)


def _monitoring(sight: Sight) -> Iterator[Finding]:
    own = [o for o in sight.api.operations if o.method == "GET" and HEALTHY.fullmatch(o.path)]
    if own:
        yield Finding(
            f"the document has operations of its own that look like probes: {named(f'{o.method} {o.path}' for o in own)}; "
            "on a collision ours move to `/_backwright/…`",
            own[0].pointer,
        )
    traced = [
        o.id
        for o in sight.api.operations
        if any(re.search(r"(correlation|request|trace)-?id", p.name, re.IGNORECASE) for p in o.parameters)
    ]
    if traced:
        yield Finding(f"callers send a correlation id to {named(traced)}", "header parameters")
    yield Finding(
        f"figures per operation are labelled with {counted(len(sight.api.operations), 'route template')}, never with a "
        "path, so the number of series is bounded",
        "/paths",
    )


def _boundaries(sight: Sight) -> Iterator[Finding]:
    open_writes = [o.id for o in sight.api.operations if o.method in WRITING and not asks(o)]
    if open_writes:
        yield Finding(
            f"anybody may write through {named(open_writes)}", "writing operations without a security requirement"
        )
    secrets = [f"{r.name}.{p.name}" for r in sight.api.resources for p in r.properties if _is_sensitive(p.name)]
    if secrets:
        hidden = {f"{r.name}.{p.name}" for r in sight.api.resources for p in r.properties if p.write_only}
        shown = [name for name in secrets if name not in hidden]
        yield Finding(f"names that suggest a secret or personal data: {named(secrets)}", "property names")
        if shown:
            yield Finding(
                f"of these, responses show {named(shown)}; mark what must not be seen as writeOnly",
                "shapes of the responses",
            )
    unbounded = [f"{r.name}.{p.name}" for r in sight.api.resources for p in r.properties if _is_unbounded(p)]
    if unbounded:
        yield Finding(
            f"{counted(len(unbounded), 'text')} without maxLength: {named(unbounded)}",
            "schemas of the stored properties",
        )
    plain = [
        s.get("url", "") for s in sight.api.document.get("servers") or () if str(s.get("url", "")).startswith("http://")
    ]
    if plain:
        yield Finding(f"servers without TLS: {named(map(str, plain))}", "/servers")
    if not (open_writes or secrets or unbounded or plain):
        yield Finding("every write asks for a credential, every stored text is bounded", "operations and schemas")


def _is_sensitive(name: str) -> bool:
    """`apiToken`, `SSN` and `user_password`, not `businessName`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[^A-Za-z0-9]+", "_", name).lower()
    return SENSITIVE.search(words) is not None


def _is_unbounded(property_: Property) -> bool:
    free = property_.type is ColumnType.STRING and property_.max_length is None
    return free and not property_.enum and property_.generated is None


def _baselines(sight: Sight) -> Iterator[Finding]:
    gates = sight.gates
    yield Finding(
        f"to be measured: p95 below {gates.load_p95_max_ms:g} ms at {gates.load_rate:g} requests/s for "
        f"{gates.load_duration_s:g} s with {gates.load_rows} rows",
        "settings of the load gate",
    )
    lists = [o for o in sight.api.operations if o.plan and o.plan.action is Action.LIST]
    uncut = [o.id for o in lists if o.plan and (o.plan.paging is None or not o.plan.paging.is_declared)]
    if lists:
        yield Finding(f"{counted(len(lists), 'list')}, {len(lists) - len(uncut)} with declared paging", "rule list")
    if uncut:
        yield Finding(
            f"the service caps what the document leaves unlimited: {named(uncut)}", "lists without paging parameters"
        )
    filtered = sorted({f"{o.plan.resource}.{f.property}" for o in lists if o.plan for f in o.plan.filters})
    if filtered:
        yield Finding(
            f"{counted(len(filtered), 'property', 'properties')} to filter by: {named(filtered)}", "query parameters"
        )


PRIORITIES: tuple[tuple[str, Rule], ...] = (
    ("Service communication patterns", _communication),
    ("Data storage strategies", _storage),
    ("Authentication flows", _authentication),
    ("Queue and event systems", _events),
    ("Load distribution methods", _load),
    ("Monitoring infrastructure", _monitoring),
    ("Security boundaries", _boundaries),
    ("Performance baselines", _baselines),
)
