"""The files of deploy/ agree with the code and with each other, as far as can be seen without an engine."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from prometheus_client import CollectorRegistry

from agent.cli.common import known_variables
from agent.gates.suite import GATES
from agent.journal.port import Acceptance, Ending, State
from agent.telemetry import zeros
from agent.telemetry.metrics import Metrics
from contracts import topics
from tests.dashboard import ALERTS, ROOT, RUNBOOK, dashboard, labels, names, panels, queries

SCHEMA = Path(__file__).parents[2] / "acceptance" / "vendor" / "grafana-dashboard.schema.json"
PROMETHEUS = ROOT / "deploy" / "prometheus"
SKELETON = ROOT / "agent" / "compiler" / "targets" / "python_fastapi" / "skeleton"
# Labels that Prometheus or the histogram adds.
GIVEN_LABELS = {"instance", "job", "le", "alertstate", "alertname"}


def _alerts() -> list[dict[str, Any]]:
    document = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def _series() -> dict[str, set[str]]:
    """Labels by name of every series that an agent shows before its first task."""
    metrics = Metrics(CollectorRegistry())
    zeros.start_at_zero(metrics, gates=[gate.name for gate in GATES], steps=[("analyse", "read")])
    found: dict[str, set[str]] = {}
    for family in metrics.registry.collect():
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def _compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    return found


def test_dashboard_has_the_types_that_grafana_defines() -> None:
    """Grafana loads wrong types silently; its own type definitions do not."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))

    faults = jsonschema.Draft7Validator(schema).iter_errors(dashboard())

    assert [fault.message for fault in faults] == []


def test_dashboard_schema_finds_a_planted_fault() -> None:
    """The validation above means something."""
    found = dashboard()
    found["panels"][1]["gridPos"]["x"] = "0"

    assert not jsonschema.Draft7Validator(json.loads(SCHEMA.read_text(encoding="utf-8"))).is_valid(found)


def test_panels_do_not_overlap_and_have_ids_of_their_own() -> None:
    """Grafana would push overlapping panels around."""
    found = dashboard()["panels"]
    cells = [
        (column, line)
        for place in (panel["gridPos"] for panel in found)
        for column in range(place["x"], place["x"] + place["w"])
        for line in range(place["y"], place["y"] + place["h"])
    ]

    assert len(cells) == len(set(cells))
    assert max(column for column, _ in cells) < 24
    assert len({panel["id"] for panel in found}) == len(found)


def test_every_panel_says_what_it_shows_and_asks_something() -> None:
    """A panel without a unit or a query is a riddle at night."""
    for panel in panels(dashboard()):
        assert panel["targets"], panel["title"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}, panel["title"]
        if panel["type"] in {"stat", "timeseries"}:
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]


@pytest.mark.parametrize("expr", sorted({query.expr for query in queries()} | {rule["expr"] for rule in _alerts()}))
def test_query_names_series_and_labels_that_exist(expr: str) -> None:
    """A renamed metric must not leave an empty panel or an alert that never fires."""
    series = _series()

    unknown = names(expr) - series.keys()
    known_labels = {label for name in names(expr) & series.keys() for label in series[name]} | GIVEN_LABELS

    assert not unknown
    assert labels(expr) <= known_labels


def test_every_metric_of_ours_is_on_the_dashboard() -> None:
    """What is worth counting is worth seeing."""
    shown = {name for query in queries() for name in names(query.expr)}
    ours = {name for name in _series() if name.startswith("backwright_")}

    hidden = {name for name in ours if re.sub(r"_(bucket|sum|count|created)$", "", name) not in
              {re.sub(r"_(bucket|sum|count)$", "", known) for known in shown}}  # fmt: skip
    assert not {name for name in hidden if not name.endswith("_created")}


def test_series_at_zero_use_the_words_of_the_code() -> None:
    """zeros.py stands right of the journal and cannot import its words; here they are compared."""
    assert set(zeros.STATES) == {state.value for state in State}
    assert set(zeros.OUTCOMES) == {outcome.value for outcome in Acceptance}
    assert set(zeros.ENDINGS) == {ending.value for ending in Ending} - {"retry", "interrupted"}


def test_every_alert_has_a_page_in_the_runbook() -> None:
    """And the runbook has no page for an alert that is gone."""
    pages = re.findall(r"^## (\w+)$", RUNBOOK.read_text(encoding="utf-8"), re.MULTILINE)

    assert pages == [rule["alert"] for rule in _alerts()]
    for rule in _alerts():
        assert rule["annotations"]["runbook"] == f"deploy/runbook.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in {"warning", "critical"}


@pytest.mark.parametrize(
    "arguments", [["check", "config", "prometheus.yaml"], ["test", "rules", "alerts.test.yaml"]], ids=" ".join
)
def test_promtool_agrees(arguments: list[str]) -> None:
    """Prometheus' own tool reads configuration and rules, and runs the rules on made-up series."""
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("promtool is not installed (Debian: apt install prometheus)")

    done = subprocess.run([tool, *arguments], cwd=PROMETHEUS, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stdout + done.stderr


def test_settings_named_in_deploy_exist() -> None:
    """An unknown variable would stop the agent at its start."""
    text = "".join(
        path.read_text(encoding="utf-8")
        for path in [ROOT / "docker-compose.yml", *sorted((ROOT / "deploy").rglob("*"))]
        if path.is_file() and path.suffix in {".yml", ".yaml", ".md", ""}
    )

    named = set(re.findall(r"\bBACKWRIGHT_[A-Z]+(?:_[A-Z]+)*(?:__[A-Z]+(?:_[A-Z]+)*)?(?![A-Z_*])", text))

    assert named
    assert named <= set(known_variables())


def test_image_installs_what_the_project_pins() -> None:
    """The image's lock is a part of the project's: same versions, same hashes, nothing of tests in it."""
    whole, runtime = (_pins(ROOT / path) for path in ("requirements.lock", "deploy/docker/requirements.lock"))

    assert runtime.keys() < whole.keys()
    assert {name: whole[name] for name in runtime} == runtime
    assert not {"pytest", "mypy", "confluent-kafka"} & {name.partition("==")[0] for name in runtime}


def test_image_runs_as_a_user_and_checks_its_health() -> None:
    """Not root, pinned with hashes, and a check on the port that the agent listens on."""
    lines = (ROOT / "deploy" / "docker" / "Dockerfile").read_text(encoding="utf-8")

    assert "USER 10001:10001" in lines
    assert lines.count("--require-hashes") == 2
    assert "/health/live" in lines
    assert "BACKWRIGHT_HTTP__PORT=9464" in lines


def test_compose_publishes_on_loopback_only() -> None:
    """It is a bus without a password: not for the network."""
    for name, service in _compose()["services"].items():
        for port in service.get("ports", ()):
            assert str(port).startswith("127.0.0.1:"), name


@pytest.mark.parametrize("name", _compose()["services"])
def test_compose_takes_every_right_that_is_not_needed(name: str) -> None:
    """Code of strangers runs beside the agent: what it breaks out into must be worth nothing."""
    service = _compose()["services"][name]

    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged")
    assert set(service.get("cap_add", ())) <= {"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"}
    assert service.get("read_only") or name in {"kafka", "journal", "scratch"}  # these write beside their volumes


def test_compose_knows_no_password() -> None:
    """What is known to everybody is known to the service under test, which can reach journal and Grafana."""
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")

    asked = re.findall(r"\$\{(\w+_PASSWORD)(.*?)\}", text)

    assert {name for name, _ in asked} == {"JOURNAL_PASSWORD", "SCRATCH_PASSWORD", "GRAFANA_PASSWORD"}
    assert {rest[:2] for _, rest in asked} == {":?"}
    assert ".env" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()


def test_compose_joins_only_those_who_talk() -> None:
    """Whoever takes Grafana over does not stand before the journal."""
    services = _compose()["services"]
    members = {
        network: {name for name, service in services.items() if network in service["networks"]}
        for network in _compose()["networks"]
    }

    assert members["journal"] == {"journal", "agent"}
    assert members["scratch"] == {"scratch", "agent"}
    assert members["watch"] == {"prometheus", "grafana", "agent"}
    assert _compose()["networks"]["journal"] == {"internal": True}


def test_compose_refers_to_what_exists() -> None:
    """Services that are waited for, volumes, and files that are mounted."""
    compose = _compose()
    for name, service in compose["services"].items():
        assert set(service.get("depends_on", {})) <= compose["services"].keys(), name
        for volume in [entry.split(":")[0] for entry in service.get("volumes", ())]:
            assert (ROOT / volume).exists() if volume.startswith(".") else volume in compose["volumes"], name


def test_compose_mounts_folders() -> None:
    """A file that git or an editor replaces stays the old one in a container that mounted it alone."""
    services = _compose()["services"]
    mounted = {entry.split(":")[0] for service in services.values() for entry in service.get("volumes", ())}

    assert [source for source in mounted if source.startswith(".") and not (ROOT / source).is_dir()] == []
    assert services["context-manager"]["volumes"] == ["./deploy:/etc/backwright:ro"]
    assert services["context-manager"]["command"][-1] == "/etc/backwright/context.yaml"


def test_compose_builds_each_image_once() -> None:
    """Builds of one name run side by side, and the second may end with `already exists`. Nobody pulls what we build."""
    services = _compose()["services"]
    built = {name: service for name, service in services.items() if "build" in service}
    ours = {name: service for name, service in services.items() if service["image"] == "backwright:local"}

    assert built.keys() == {"topics"}
    assert (ROOT / services["topics"]["build"]["dockerfile"]).is_file()
    assert {name: service["pull_policy"] for name, service in ours.items()} == {
        "topics": "build", "agent": "never", "context-manager": "never",
    }  # fmt: skip
    assert all("topics" in service["depends_on"] for name, service in ours.items() if name != "topics")


def test_compose_waits_for_health_where_there_is_a_check() -> None:
    """`service_healthy` on a service without a check would wait for ever."""
    services = _compose()["services"]
    for service in services.values():
        for other, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "test" in services[other]["healthcheck"], other


def test_postgres_is_asked_over_tcp() -> None:
    """While the image makes a database, a temporary server answers on the socket: who believes it connects too early."""
    delivered: dict[str, Any] = yaml.safe_load((SKELETON / "docker-compose.yml").read_text(encoding="utf-8"))
    asked = {
        name: service["healthcheck"]["test"]
        for name, service in {**_compose()["services"], **delivered["services"]}.items()
        if service.get("image", "").startswith("postgres:")
    }

    assert asked.keys() == {"journal", "scratch", "database"}
    assert [name for name, test in asked.items() if test[:4] != ["CMD", "pg_isready", "-h", "127.0.0.1"]] == []


@pytest.mark.parametrize(
    "file", [ROOT / "deploy/docker/Dockerfile", SKELETON / "Dockerfile"], ids=["agent", "delivered"]
)
def test_image_needs_no_other_image_than_its_base(file: Path) -> None:
    """A `# syntax=` line is one more image to fetch, unpinned: the container gate promises that nothing is."""
    assert not re.search(r"^#\s*syntax\s*=", file.read_text(encoding="utf-8"), re.MULTILINE)


def test_no_health_check_starts_a_virtual_machine() -> None:
    """Kafka's own tools took a quarter of a core of an idle stack, beside which the gates measure."""
    asked = _compose()["services"]["kafka"]["healthcheck"]["test"]

    assert asked == ["CMD", "bash", "-c", "< /dev/tcp/127.0.0.1/9092"]


def test_topics_are_made_before_the_agent_starts() -> None:
    """With automatic creation on, the first read would make topics with the wrong partition count for ever."""
    services = _compose()["services"]

    assert services["kafka"]["environment"]["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    assert services["agent"]["depends_on"]["topics"] == {"condition": "service_completed_successfully"}
    assert all(topic.partitions > 1 for topic in topics.ALL)


def _pins(lock: Path) -> dict[str, frozenset[str]]:
    """`name==version` → hashes."""
    found: dict[str, frozenset[str]] = {}
    for block in re.split(r"\n(?=\S)", lock.read_text(encoding="utf-8")):
        if match := re.match(r"([A-Za-z0-9._-]+==[^\s;]+)", block):
            found[match[1]] = frozenset(re.findall(r"sha256:[0-9a-f]{64}", block))
    return found
