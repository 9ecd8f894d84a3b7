"""The system analysis: the origin's eight priorities and four syntheses, derived by rules from the document and the
context's facts. Pure. A line says what is the case and on what it rests (`basis`: a JSON pointer, a rule, a fact).

Rules for editors: no line without a basis, no number that was not counted, nothing that would be true of any service.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.compiler.ir import (
    Action,
    Api,
    ColumnType,
    FilterOperator,
    Generated,
    Operation,
    PagingStyle,
    Place,
    Resource,
    SchemeKind,
    Verdict,
)
from agent.context.client import Knowledge
from agent.settings import GateSettings
from contracts.context import Facet
from contracts.status import Diagnostic

WRITING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
# Property names that usually hold something that must not leak; a match is a remark, never a verdict.
SENSITIVE = re.compile(
    r"(?:^|_)(?:pass(?:word|wd|phrase)|secrets?|tokens?|api_?key|ssn|social_security.*|iban|card_number|cvv|birth.*)(?:_|$)"
)
HEALTHY = re.compile(r"(?:/[^/{}]+)?/(?:health|healthz|live|ready|ping|status|metrics)", re.IGNORECASE)
DATABASES = ("postgres", "mysql", "mariadb", "mongo", "oracle", "sql server", "sqlite", "cassandra", "dynamodb")
MAX_NAMED = 8  # names in one line; the rest is counted


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the analysis."""

    text: str
    basis: str


@dataclass(frozen=True, slots=True)
class Section:
    """One priority or synthesis."""

    title: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Survey:
    """The whole analysis."""

    title: str
    priorities: tuple[Section, ...]
    syntheses: tuple[Section, ...]
    assumptions: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """`.backwright/analysis.json`."""
        return {
            "title": self.title,
            "priorities": [_section_json(section) for section in self.priorities],
            "syntheses": [_section_json(section) for section in self.syntheses],
            "assumptions": list(self.assumptions),
        }

    def to_markdown(self) -> str:
        """`.backwright/analysis.md`."""
        lines = [f"# System analysis: {quoted(self.title)}", ""]
        for heading, sections in (("Priorities", self.priorities), ("Synthesis", self.syntheses)):
            lines += [f"## {heading}", ""]
            for section in sections:
                lines += [f"### {section.title}", ""]
                lines += [f"- {finding.text} ({_shown(finding.basis)})" for finding in section.findings]
                lines.append("")
        lines += ["## Assumptions", "", *(f"- {line}" for line in self.assumptions or ("none",)), ""]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Sight:
    """Everything that the rules look at."""

    api: Api
    knowledge: Knowledge
    diagnostics: tuple[Diagnostic, ...]
    gates: GateSettings

    def facts(self, facet: Facet) -> Iterator[Finding]:
        """The context's facts of one facet, as lines."""
        for fact in self.knowledge.facts:
            if fact.facet == facet:
                value = fact.value if isinstance(fact.value, str) else json.dumps(fact.value, ensure_ascii=False)
                source = f", source {quoted(fact.source)}" if fact.source else ""
                yield Finding(
                    f"known of the system: {quoted(fact.key)} = {quoted(value, 200)}", f"context manager{source}"
                )


Rule = Callable[[Sight], Iterable[Finding]]


def survey(api: Api, knowledge: Knowledge, diagnostics: Sequence[Diagnostic], gates: GateSettings) -> Survey:
    """Apply every rule to the document's meaning and the context's facts."""
    sight = Sight(api, knowledge, tuple(diagnostics), gates)
    return Survey(
        api.title,
        tuple(Section(title, tuple(rule(sight))) for title, rule in PRIORITIES),
        tuple(Section(title, tuple(rule(sight))) for title, rule in SYNTHESES),
        knowledge.assumptions,
    )


def quoted(text: str, limit: int = 80) -> str:
    """Text of a stranger as one inline code span: no markup, no line break, bounded."""
    plain = " ".join("".join(c if c.isprintable() and c != "`" else " " for c in text[: limit + 1]).split())
    return f"`{plain[:limit]}…`" if len(text) > limit else f"`{plain}`"


def _shown(basis: str) -> str:
    """A JSON pointer holds names of the document."""
    return quoted(basis, 200) if basis.startswith("/") else basis


def named(names: Iterable[str]) -> str:
    """The first few names as code spans, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - MAX_NAMED} more" if len(every) > MAX_NAMED else ""
    return ", ".join(quoted(name) for name in every[:MAX_NAMED]) + more


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """`1 table`, `2 tables`."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


# --- priorities -------------------------------------------------------------------------------------------------------


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
    open_writes = [o.id for o in sight.api.operations if o.method in WRITING and not _asks(o)]
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


def _is_unbounded(property_: Any) -> bool:
    free = property_.type is ColumnType.STRING and property_.max_length is None
    return free and not property_.enum and property_.generated is None


def _asks(operation: Operation) -> bool:
    """Whether every alternative of the operation demands something ({} among them means: optional)."""
    return bool(operation.security) and all(operation.security)


def _baselines(sight: Sight) -> Iterator[Finding]:
    gates = sight.gates
    yield Finding(
        f"to be measured: p95 below {gates.load_p95_max_ms:g} ms at {gates.load_rate:g} requests/s for "
        f"{gates.load_duration_s:g} s with {gates.load_rows} rows",
        "settings of the load gate",
    )
    lists = [o for o in sight.api.operations if o.plan and o.plan.action is Action.LIST]
    uncut = [o.id for o in lists if o.plan and (o.plan.paging is None or o.plan.paging.style is PagingStyle.NONE)]
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


# --- syntheses --------------------------------------------------------------------------------------------------------


def _cross_reference(sight: Sight) -> Iterator[Finding]:
    knowledge = sight.knowledge
    if not knowledge.facts:
        yield Finding(
            "nothing to compare: the context manager gave no fact; see the assumptions", f"answer: {knowledge.status}"
        )
        return
    compared = [finding for compare in (_compare_stores, _compare_auth, _compare_brokers) for finding in compare(sight)]
    yield from compared
    if not compared:
        yield Finding(
            f"none of {counted(len(knowledge.facts), 'fact')} is about something that the document declares",
            "stores, credentials and brokers compared",
        )
    missing = [facet.value for facet in Facet if not any(f.facet == facet for f in knowledge.facts)]
    if missing:
        yield Finding(f"nothing is known about {named(missing)}", f"answer: {knowledge.status}")


def _compare_brokers(sight: Sight) -> Iterator[Finding]:
    brokers = [f.key for f in sight.knowledge.facts if f.facet == Facet.MESSAGE_BROKERS]
    asynchronous = sight.api.document.get("webhooks") or any("202" in o.responses for o in sight.api.operations)
    if brokers and asynchronous:
        yield Finding(f"asynchronous operations could use the broker ({named(brokers)})", "message_brokers, /paths")
    elif brokers:
        yield Finding(f"the system has a broker ({named(brokers)}), the document uses none", "message_brokers, /paths")


def _compare_stores(sight: Sight) -> Iterator[Finding]:
    stores = [f for f in sight.knowledge.facts if f.facet == Facet.DATA_STORES]
    engines = {e for f in stores for e in DATABASES if e in json.dumps([f.key, f.value]).lower()}
    if "postgres" in engines:
        yield Finding("the system runs PostgreSQL, which is what the service needs", "data_stores")
    elif engines:
        yield Finding(
            f"the system runs {named(sorted(engines))}; the service needs a PostgreSQL database", "data_stores"
        )
    tables = {r.name.lower() for r in sight.api.resources}
    same = [f.key for f in stores if f.key.lower().removesuffix("s") in tables or f.key.lower() in tables]
    if same:
        yield Finding(
            f"data of these names exist elsewhere: {named(same)}; decide which side owns them", "data_stores, resources"
        )


def _compare_auth(sight: Sight) -> Iterator[Finding]:
    providers = [f for f in sight.knowledge.facts if f.facet == Facet.AUTH_PROVIDERS]
    if not providers:
        return
    kinds = {scheme.kind for scheme in sight.api.security_schemes}
    told = json.dumps([[f.key, f.value] for f in providers]).lower()
    issues_tokens = any(word in told for word in ("oidc", "oauth", "openid", "jwt", "jwks", "keycloak", "issuer"))
    if SchemeKind.BEARER in kinds and issues_tokens:
        yield Finding(
            f"tokens can come from {named(f.key for f in providers)}: set its JWKS URL in the service",
            "auth_providers, securitySchemes",
        )
    elif not kinds:
        yield Finding(
            f"the system has {named(f.key for f in providers)}, the document asks for no credential",
            "auth_providers, /security",
        )
    elif issues_tokens:
        yield Finding(
            "the system issues tokens, the document asks for keys or passwords", "auth_providers, securitySchemes"
        )


def _gaps(sight: Sight) -> Iterator[Finding]:
    operations, found = sight.api.operations, False
    for operation in operations:
        if operation.verdict in {Verdict.HOOKED, Verdict.REFUSED}:
            found = True
            why = quoted(operation.reason or operation.rule, 200)
            yield Finding(f"{quoted(operation.id)} is {operation.verdict.value}: {why}", operation.pointer)
    for resource in sight.api.resources:
        actions = {o.plan.action for o in operations if o.plan and o.plan.resource == resource.name}
        if not actions & {Action.CREATE, Action.CREATE_MANY, Action.UPSERT} and not resource.singleton:
            found = True
            yield Finding(
                f"no derived operation creates {quoted(resource.name)}: its rows come from a hook or from elsewhere",
                resource.schema_pointer or "paths",
            )
        elif Action.CREATE in actions and not actions & {Action.GET, Action.LIST}:
            found = True
            yield Finding(f"{quoted(resource.name)} can be created and never read", resource.schema_pointer or "paths")
    silent = [o.id for o in operations if not any(s[0] in "45d" for s in o.responses)]
    if silent:
        found = True
        yield Finding(
            f"no error is declared by {named(silent)}; they answer with problem documents",
            "responses of the operations",
        )
    faults = [d for d in sight.diagnostics if d.severity == "warning"]
    if faults:
        found = True
        yield Finding(
            f"{counted(len(faults), 'warning')} about the document, first: {quoted(faults[0].message, 200)}",
            faults[0].pointer,
        )
    if not found:
        yield Finding(
            "none: every operation can be derived, every resource can be written and read", "rules of inference"
        )


def _scaling(sight: Sight) -> Iterator[Finding]:
    resources, operations = sight.api.resources, sight.api.operations
    targets = Counter(ref.target for r in resources for ref in r.references)
    if targets:
        name, times = targets.most_common(1)[0]
        yield Finding(
            f"{quoted(name)} is referenced most ({counted(times, 'time')}): its key is what joins wait for",
            "references",
        )
    searching = [o.id for o in operations if o.plan and _scans(o)]
    if searching:
        yield Finding(
            f"text search reads whole tables, an index of its own pays from some 100,000 rows: {named(searching)}",
            "filters with `contains`, search parameters",
        )
    deep = [
        o.id
        for o in operations
        if o.plan and o.plan.paging and o.plan.paging.style in {PagingStyle.OFFSET, PagingStyle.PAGE}
    ]
    if deep:
        yield Finding(f"paging by offset slows down with depth: {named(deep)}", "paging parameters")
    writing = sum(o.method in WRITING for o in operations)
    yield Finding(
        f"{writing} of {counted(len(operations), 'operation')} write to one PostgreSQL: replicas of the service scale reading "
        "and validation, writes scale with the database",
        "methods of the operations",
    )


def _scans(operation: Operation) -> bool:
    plan = operation.plan
    return plan is not None and (
        plan.search is not None or any(f.operator is FilterOperator.CONTAINS for f in plan.filters)
    )


def _posture(sight: Sight) -> Iterator[Finding]:
    operations, schemes = sight.api.operations, sight.api.security_schemes
    asking = [o for o in operations if _asks(o)]
    if not schemes:
        yield Finding(
            "OPEN: the document declares no security, so every operation answers everybody",
            "/security, /components/securitySchemes",
        )
    elif len(asking) == len(operations):
        yield Finding("closed: every operation asks for a credential", "security of the operations")
    else:
        left = [o.id for o in operations if not _asks(o)]
        yield Finding(
            f"partly open: {len(left)} of {counted(len(operations), 'operation')} answer everybody: {named(left)}",
            "security of the operations",
        )
    in_query = [s.name for s in schemes if s.place is Place.QUERY]
    if in_query:
        yield Finding(f"a key in the query string ends up in logs and histories: {named(in_query)}", "securitySchemes")
    if any(s.kind is SchemeKind.BASIC for s in schemes):
        yield Finding("HTTP basic sends the password with every request: TLS is a must", "securitySchemes")
    scoped = sum(any(scopes for way in o.security for scopes in way.values()) for o in operations)
    if scoped:
        yield Finding(
            f"{counted(scoped, 'operation')} ask for a scope: roles come from the token", "security of the operations"
        )
    guessable = [
        r.name
        for r in sight.api.resources
        if not r.singleton and any(p.name == r.key and p.generated is Generated.IDENTITY for p in r.properties)
    ]
    if guessable:
        yield Finding(f"keys that can be guessed by counting: {named(guessable)}", "integer keys made by the server")
    undeclared = [
        o.id for o in asking if "401" not in o.responses and "default" not in o.responses and "4XX" not in o.responses
    ]
    if undeclared:
        yield Finding(
            f"a 401 that the document does not declare can come from {named(undeclared)}", "responses of the operations"
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
SYNTHESES: tuple[tuple[str, Rule], ...] = (
    ("Cross-reference of context data", _cross_reference),
    ("Architectural gaps", _gaps),
    ("Scaling needs", _scaling),
    ("Security posture", _posture),
)


def _section_json(section: Section) -> dict[str, Any]:
    return {"title": section.title, "findings": [{"text": f.text, "basis": f.basis} for f in section.findings]}
