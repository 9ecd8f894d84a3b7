"""The analysis: the origin's eight priorities and four syntheses, derived from what is really there."""

import json
from dataclasses import replace
from typing import Any

import pytest

from agent.compiler.ir import (
    Action,
    Api,
    ColumnType,
    Filter,
    FilterOperator,
    Generated,
    Operation,
    Paging,
    PagingStyle,
    Place,
    Plan,
    Property,
    Reference,
    Resource,
    SchemeKind,
    SecurityScheme,
    Verdict,
)
from agent.context.client import Knowledge, unanswered
from agent.pipeline.analyse import features, plan
from agent.pipeline.sight import quoted
from agent.pipeline.survey import Survey, survey
from agent.settings import GateSettings
from contracts.context import Fact
from contracts.status import Diagnostic
from tests.unit.pipeline.support import API

PRIORITIES = [
    "Service communication patterns", "Data storage strategies", "Authentication flows", "Queue and event systems",
    "Load distribution methods", "Monitoring infrastructure", "Security boundaries", "Performance baselines",
]  # fmt: skip
SYNTHESES = [
    "Cross-reference of context data", "Architectural gaps", "Scaling needs", "Security posture",
]  # fmt: skip
NOTHING = Api("Empty", "1", "", "", {}, b"", "openapi.given.json", (), ())
SECURED: tuple[dict[str, tuple[str, ...]], ...] = ({"oidc": ("write",)},)
RICH = replace(
    API,
    document={
        "servers": [{"url": "http://api.example.org/v1"}],
        "webhooks": {"orderShipped": {}},
        "paths": {"/orders": {"post": {"callbacks": {"done": {}}}}},
    },
    resources=(
        Resource(
            "Customer", "id",
            (
                Property("id", ColumnType.INTEGER, False, True, generated=Generated.IDENTITY),
                Property("email", ColumnType.STRING, False, True, unique=True, max_length=100),
                Property("password", ColumnType.STRING, False, True, max_length=100, write_only=True),
                Property("apiToken", ColumnType.STRING, False, True, max_length=100),
            ),
        ),
        Resource(
            "Order", "id",
            (
                Property("id", ColumnType.UUID, False, True, generated=Generated.UUID),
                Property("lines", ColumnType.JSON, False, True),
            ),
            references=(Reference("customerId", "Customer", embedded=False, required=True, nullable=False),),
        ),
    ),
    operations=(
        Operation(
            "listOrders", "GET", "/orders", "", ("orders",), Verdict.DERIVED, "list", "/paths/~1orders/get",
            plan=Plan(
                Action.LIST, "Order", filters=(Filter("q", "lines", FilterOperator.CONTAINS),),
                paging=Paging(PagingStyle.OFFSET, "limit", "offset"),
            ),
            responses={"200": ("application/json",)}, security=SECURED,
        ),
        Operation(
            "createOrder", "POST", "/orders", "", ("orders",), Verdict.DERIVED, "create", "/paths/~1orders/post",
            plan=Plan(Action.CREATE, "Order"), responses={"202": (), "400": ("application/json",)},
        ),
        Operation(
            "shipOrder", "POST", "/orders/{id}/ship", "", (), Verdict.HOOKED, "action", "/paths/~1orders~1{id}~1ship/post",
            reason="an action that no rule can derive", security=SECURED,
        ),
        Operation("health", "GET", "/health", "", (), Verdict.HOOKED, "no_resource", "/paths/~1health/get"),
    ),
    security_schemes=(
        SecurityScheme("oidc", SchemeKind.BEARER, scopes=("write",)),
        SecurityScheme("key", SchemeKind.API_KEY, Place.QUERY, "key"),
        SecurityScheme("basic", SchemeKind.BASIC),
    ),
)  # fmt: skip
KNOWN = Knowledge(
    "partial",
    (
        Fact(facet="data_stores", key="customers", value={"engine": "MySQL 8"}),
        Fact(facet="auth_providers", key="keycloak", value="OIDC, JWKS published", source="security team"),
        Fact(facet="message_brokers", key="kafka", value="Apache Kafka 4"),
    ),
    (),
)


def survey_of(api: Api, knowledge: Knowledge = KNOWN, diagnostics: tuple[Diagnostic, ...] = ()) -> Survey:
    """With the default thresholds."""
    return survey(api, knowledge, diagnostics, GateSettings())


def texts(report: Survey, title: str) -> str:
    """All lines of one section."""
    section = next(s for s in (*report.priorities, *report.syntheses) if s.title == title)
    return "\n".join(finding.text for finding in section.findings)


@pytest.mark.parametrize("api", [NOTHING, API, RICH], ids=["nothing", "small", "rich"])
@pytest.mark.parametrize("knowledge", [KNOWN, unanswered(5)], ids=["facts", "no facts"])
def test_every_priority_and_synthesis_says_something_with_a_basis(api: Api, knowledge: Knowledge) -> None:
    """The origin names eight and four; a heading without content would be a claim without evidence."""
    report = survey_of(api, knowledge)

    assert [section.title for section in report.priorities] == PRIORITIES
    assert [section.title for section in report.syntheses] == SYNTHESES
    for section in (*report.priorities, *report.syntheses):
        assert section.findings, section.title
        assert all(finding.text and finding.basis for finding in section.findings), section.title


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Service communication patterns", "4 operations over HTTP below `/v1`"),
        ("Data storage strategies", "1 reference between tables: `Order` → `Customer`"),
        ("Data storage strategies", "nested structure stored as JSON: `Order.lines`"),
        ("Data storage strategies", "known of the system: `customers`"),
        ("Authentication flows", "`oidc`: a signed token (JWT)"),
        ("Authentication flows", "2 of 4 operations ask for a credential"),
        ("Queue and event systems", "1 webhook: `orderShipped`; not served"),
        ("Queue and event systems", "callbacks are declared by `createOrder`; not called"),
        ("Queue and event systems", "(202): `createOrder`"),
        ("Load distribution methods", "2 reading and 2 writing operations"),
        ("Monitoring infrastructure", "`GET /health`"),
        ("Security boundaries", "anybody may write through `createOrder`"),
        ("Security boundaries", "of these, responses show `Customer.apiToken`"),
        ("Security boundaries", "servers without TLS: `http://api.example.org/v1`"),
        ("Performance baselines", "p95 below 100 ms at 50 requests/s for 10 s with 10000 rows"),
        ("Performance baselines", "1 list, 1 with declared paging"),
        ("Cross-reference of context data", "the system runs `mysql`; the service needs a PostgreSQL database"),
        ("Cross-reference of context data", "data of these names exist elsewhere: `customers`"),
        ("Cross-reference of context data", "tokens can come from `keycloak`"),
        ("Cross-reference of context data", "asynchronous operations could use the broker (`kafka`)"),
        ("Cross-reference of context data", "nothing is known about `service_architecture`"),
        ("Architectural gaps", "`shipOrder` is hooked: `an action that no rule can derive`"),
        ("Architectural gaps", "no derived operation creates `Customer`"),
        ("Scaling needs", "`Customer` is referenced most (1 time)"),
        ("Scaling needs", "paging by offset slows down with depth: `listOrders`"),
        ("Security posture", "partly open: 2 of 4 operations answer everybody"),
        ("Security posture", "a key in the query string ends up in logs and histories: `key`"),
        ("Security posture", "keys that can be guessed by counting: `Customer`"),
        ("Security posture", "a 401 that the document does not declare can come from `listOrders`, `shipOrder`"),
    ],
)
def test_a_line_says_what_the_document_and_the_facts_say(title: str, expected: str) -> None:
    """Each rule on a document that has what it looks for."""
    assert expected in texts(survey_of(RICH), title)


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Authentication flows", "no flow"),
        ("Queue and event systems", "every answer is complete when it is sent"),
        ("Security posture", "OPEN"),
        ("Data storage strategies", "nothing can be stored"),
        ("Cross-reference of context data", "document asks for no credential"),
    ],
)
def test_what_is_not_there_is_said_too(title: str, expected: str) -> None:
    """Absence is a finding."""
    assert expected in texts(survey_of(NOTHING), title)


def test_warnings_about_the_document_are_gaps() -> None:
    """The first one is named with its place."""
    fault = Diagnostic(
        pointer="/paths/~1a", code="ref.remote", severity="warning", message="not fetched", remedy="inline it"
    )

    report = survey_of(API, diagnostics=(fault,))

    assert "1 warning about the document, first: `not fetched`" in texts(report, "Architectural gaps")


def test_text_of_strangers_stays_inside_its_code_span() -> None:
    """Titles, names and facts are data; in the report they cannot become a heading, a link or HTML."""
    evil = "`x`\n# Approved\n<script>alert(1)</script> [a](http://evil)\u202e" + "y" * 500
    api = replace(
        RICH,
        title=evil,
        operations=tuple(
            replace(o, id=evil, path=evil, reason=evil, pointer=f"/paths/{evil}") for o in RICH.operations
        ),
        security_schemes=tuple(replace(s, name=evil, parameter=evil) for s in RICH.security_schemes),
        resources=tuple(replace(r, name=evil, schema_pointer=f"/{evil}") for r in RICH.resources),
    )
    facts = (Fact(facet="data_stores", key=evil, value=evil, source=evil),)

    markdown = survey_of(api, Knowledge("partial", facts, ())).to_markdown()

    headings = [line for line in markdown.splitlines() if line.startswith("#")]
    assert len(headings) == 1 + 3 + len(PRIORITIES) + len(SYNTHESES)
    for line in markdown.splitlines():
        assert line.count("`") % 2 == 0
        assert "<script>" not in "".join(line.split("`")[::2])
    assert "\u202e" not in markdown


@pytest.mark.parametrize(
    ("text", "shown"), [("a", "`a`"), ("", "``"), ("a`b\nc", "`a b c`"), ("x" * 90, f"`{'x' * 80}…`")]
)
def test_quoted_is_one_bounded_line(text: str, shown: str) -> None:
    """Whatever it holds."""
    assert quoted(text) == shown


def test_the_report_is_json_and_markdown_of_the_same_content() -> None:
    """A program reads what a person reads."""
    report = survey_of(RICH)

    data: dict[str, Any] = json.loads(json.dumps(report.to_json()))

    markdown = report.to_markdown()
    lines = [
        finding for part in ("priorities", "syntheses") for section in data[part] for finding in section["findings"]
    ]
    assert all(finding["text"] in markdown and finding["basis"] in markdown for finding in lines)


def test_the_plan_places_every_operation_and_names_features() -> None:
    """Resources, operations by verdict, and only the features that the document makes the service have."""
    made = plan(RICH, KNOWN)

    assert {verdict: [o["id"] for o in given] for verdict, given in made["operations"].items()} == {
        "derived": ["listOrders", "createOrder"], "declared": [], "hooked": ["shipOrder", "health"], "refused": [],
    }  # fmt: skip
    assert made["resources"][1]["operations"] == ["listOrders", "createOrder"]
    assert features(RICH) == [
        "PostgreSQL persistence", "JWT bearer authentication", "API key authentication", "HTTP basic authentication",
        "filtering", "paging", "relations",
    ]  # fmt: skip
    assert features(NOTHING) == []
