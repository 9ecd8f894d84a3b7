"""The metric catalogue: every `backwright_*` series, bound once. Labels come from enums and fixed tables; ids never."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.process_collector import ProcessCollector

from agent import __version__

# Seconds. The advised buckets of OpenTelemetry stop at 10 s; our work takes up to an hour.
WORK_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200)
WAIT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)


class Metrics:
    """All series of one process, on a registry of its own so that tests and the demo do not share state."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        registry = registry or CollectorRegistry()
        self.registry = registry
        ProcessCollector(registry=registry)
        Info("backwright_build", "Version of the running code.", registry=registry).info({"version": __version__})

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"backwright_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"backwright_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, *labels: str, buckets: tuple[float, ...] = WORK_BUCKETS) -> Histogram:
            return Histogram(f"backwright_{name}", text, labels, registry=registry, buckets=buckets)

        # Bus
        self.records_consumed = counter("records_consumed_total", "Records read from Kafka.", "topic")
        self.consumer_lag = gauge("consumer_lag_records", "Records between our position and the high water.", "topic")
        self.poll_age = gauge("consumer_poll_age_seconds", "Seconds since the consumer was last polled.")
        self.assigned_partitions = gauge("consumer_assigned_partitions", "Partitions assigned to this member.")
        self.consumer_restarts = counter("consumer_restarts_total", "Consumers replaced by a new one.", "reason")
        self.topic_paused = gauge("tasks_topic_paused", "1 while back-pressure pauses the tasks topic.")
        # Inbox
        self.accepted = counter("intake_total", "Records stored in the journal.", "kind", "outcome")
        # Tasks
        self.tasks = gauge("tasks", "Tasks in the journal by state.", "state")
        self.finished = counter("tasks_finished_total", "Attempts that ended, by ending.", "verdict")
        self.retried = counter("tasks_retried_total", "Attempts that will be tried again.", "kind")
        self.resumed = counter("tasks_resumed_total", "Attempts that started on checkpoints of an earlier one.")
        self.queue_wait = histogram("queue_wait_seconds", "From acceptance to the first claim.", buckets=WAIT_BUCKETS)
        self.task_duration = histogram("task_duration_seconds", "From acceptance to the terminal state.", "verdict")
        self.oldest_available = gauge("oldest_available_age_seconds", "Age of the oldest task that waits for a worker.")
        self.oldest_running = gauge("oldest_running_age_seconds", "Age of the oldest running task.")
        self.running = gauge("attempts_running", "Attempts that this process works on.")
        self.cancel_latency = histogram(
            "cancel_latency_seconds", "From a stored cancellation to the end of the attempt.", buckets=WAIT_BUCKETS
        )
        # Work
        self.phase_duration = histogram("phase_duration_seconds", "Duration of a phase of one attempt.", "phase")
        self.step_duration = histogram("step_duration_seconds", "Duration of a step.", "phase", "step")
        self.gates = counter("gates_total", "Gates that ended.", "gate", "verdict")
        self.operations = counter("operations_total", "Operations of compiled documents.", "verdict")
        # Safety
        self.fenced = counter("fenced_writes_total", "Writes refused because a later claim owns the task.")
        self.lease_failures = counter("lease_renew_failures_total", "Renewals that did not reach the journal.")
        self.self_stops = counter(
            "self_stops_total", "Attempts that stopped themselves because the lease was running out."
        )
        # Dead letters and outbox
        self.dead_lettered = counter("dead_letters_total", "Dead letters made.", "code")
        self.dead_letters = gauge("dead_letters_stored", "Dead letters in the journal.")
        self.outbox_pending = gauge("outbox_pending", "Events stored and not yet acknowledged by Kafka.")
        self.outbox_age = gauge("outbox_oldest_age_seconds", "Age of the oldest unsent event.")
        self.published = counter("events_published_total", "Events acknowledged by Kafka.", "type")
        self.parked = counter("events_parked_total", "Events that can never be published.")
        # Process
        self.loop_lag = gauge("event_loop_lag_seconds", "How late the event loop ran a timer, last seen.")
        self.journal_errors = counter("journal_errors_total", "Calls of the journal that failed.", "operation")
        self.draining = gauge("draining", "1 while the process drains.")
