"""The origin's four syntheses: the context compared with the document, gaps, scaling needs, security posture.

Rules for editors: as in `priorities`.
"""

import json
from collections import Counter
from collections.abc import Iterator

from agent.compiler.ir import Action, FilterOperator, Generated, Operation, PagingStyle, Place, SchemeKind, Verdict
from agent.pipeline.sight import WRITING, Finding, Rule, Sight, asks, counted, named, quoted
from contracts.context import Facet

DATABASES = ("postgres", "mysql", "mariadb", "mongo", "oracle", "sql server", "sqlite", "cassandra", "dynamodb")


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
    asking = [o for o in operations if asks(o)]
    if not schemes:
        yield Finding(
            "OPEN: the document declares no security, so every operation answers everybody",
            "/security, /components/securitySchemes",
        )
    elif len(asking) == len(operations):
        yield Finding("closed: every operation asks for a credential", "security of the operations")
    else:
        left = [o.id for o in operations if not asks(o)]
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


SYNTHESES: tuple[tuple[str, Rule], ...] = (
    ("Cross-reference of context data", _cross_reference),
    ("Architectural gaps", _gaps),
    ("Scaling needs", _scaling),
    ("Security posture", _posture),
)
