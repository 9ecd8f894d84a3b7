"""What must hold of every history, whatever happened: pure functions from a History to the faults that they find.

They know the contract (topics, envelope, states), not the code. Each one has a planted bug that makes it speak
(test_planted.py, test_checkers.py); a guarantee without a checker here is a hope.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise

from contracts.codec import task_id
from tests.chaos.history import CONTROL, DEAD_LETTERS, DELIVERIES, TASKS, TERMINAL, History, write_of
from tests.chaos.plan import KINDS

CANCEL, REFUSED = "backwright.task.cancel.v1", "backwright.command.refused.v1"
# A replay as the database sees it; the second one was cancelled in the same transaction.
REPLAYED = {("failed", "available"), ("failed", "cancelled")}
Checker = Callable[[History], Iterator[str]]


def each_request_is_one_task(history: History) -> Iterator[str]:
    """What was read from the tasks topic and what the journal holds are the same set; nobody else has a status."""
    requested, known = set(history.requests), set(history.rows)
    yield from (f"{task}: requested, not in the journal" for task in sorted(requested - known))
    yield from (f"{task}: in the journal, never requested" for task in sorted(known - requested))
    yield from (f"{task}: has statuses, never requested" for task in sorted(set(history.statuses) - requested))


def each_task_ends_once(history: History) -> Iterator[str]:
    """One terminal status, and one more per replay, the last one at the end of its sequence; the journal says the same."""
    for task in history.requests:
        ends = history.ends.get(task, [])
        row = history.rows.get(task)
        if len(ends) != 1 + history.replays[task]:
            found = [status for _, status in ends]
            yield f"{task}: terminal statuses {found}, {history.replays[task]} replays, journal: {row and row.state}"
        if not ends:
            continue
        (seen, status), last = ends[-1], history.statuses[task][-1]
        if seen is not last:
            yield f"{task}: {status} is followed by {last.data['status']}"
        if row is not None and row.state != status:
            yield f"{task}: published {status}, journal {row.state}"
        if row is not None and row.sequence != seen.sequence:
            yield f"{task}: published up to {seen.sequence}, journal {row.sequence}"


def each_end_fits_its_task(history: History) -> Iterator[str]:
    """Faults around it do not change what becomes of a task: only too many lost workers may, and are named then."""
    asked = {str(seen.data["task_id"]) for seen in history.of(CONTROL) if seen.type == CANCEL}
    for task, ends in history.ends.items():
        kind, row = KINDS.get(history.kinds.get(task, "")), history.rows.get(task)
        if kind is None or row is None:
            continue
        for epoch, (seen, status) in enumerate(ends):
            error = seen.data.get("error", {})
            # The journal's count of crashes is that of the last epoch.
            given_up = error.get("kind") == "poison" and (epoch < len(ends) - 1 or row.crashes >= history.max_crashes)
            fits = status in (kind.ends if epoch == 0 else kind.replayed or kind.ends)
            if not (fits or given_up or (status == "cancelled" and task in asked)):
                yield f"{task}: {history.kinds[task]} ended {status} in epoch {epoch} ({error}, {row.crashes} crashes)"


def sequences_are_gapless(history: History) -> Iterator[str]:
    """1, 2, 3 … at first appearance, in order of appearance."""
    for task, statuses in history.statuses.items():
        numbers = [seen.sequence for seen in statuses]
        if numbers != list(range(1, len(numbers) + 1)):
            yield f"{task}: {numbers}"


def repeats_are_identical(history: History) -> Iterator[str]:
    """An event that appears again is the same event; two events never share a number."""
    known: dict[str, tuple[object, ...]] = {}
    for seen in history.records:
        if seen.topic in (TASKS, CONTROL):
            continue
        content = (seen.topic, seen.partition, seen.task, seen.sequence, seen.value)
        if known.setdefault(seen.id, content) != content:
            yield f"{seen.task}: two events under the id {seen.id}"


def old_fences_write_nothing(history: History) -> Iterator[str]:
    """In the order of the task's numbers, which is the order of commits, the fence of accepted writes never goes back."""
    for task, writes in history.writes.items():
        highest = 0
        row = history.rows.get(task)
        for seen, write in writes:
            if write.fence < highest:
                yield f"{task}: fence {write.fence} wrote number {seen.sequence} ({write.step} {write.word}) after fence {highest}"
            highest = max(highest, write.fence)
        if row is not None and highest > row.fence:
            yield f"{task}: fence {highest} wrote, the journal never gave it out (it is at {row.fence})"


def no_effect_counts_twice(history: History) -> Iterator[str]:
    """A step is checkpointed by one attempt; after that nobody repeats it, and no attempt does a step twice."""
    counted, epochs = _counted(history), _epochs(history)
    for (task, epoch, step), fences in counted.items():
        if len(fences) > 1:
            yield f"{task}: {step} counts for the attempts {sorted(fences)}"
        is_last = epoch == history.replays[task]
        if is_last and history.checkpoints.get((task, step), max(fences)) not in fences:
            yield f"{task}: {step} is checkpointed by {history.checkpoints[task, step]}, published by {sorted(fences)}"
    times = Counter((effect.task, effect.fence, effect.step) for effect in history.effects)
    yield from (f"{task}: attempt {fence} did {step} {n} times" for (task, fence, step), n in times.items() if n > 1)
    for effect in history.effects:
        epoch = epochs.get((effect.task, effect.fence), 0)
        if (effect.task, effect.fence) not in epochs and history.replays[effect.task]:
            continue  # without an audit nobody knows in which epoch an attempt died that wrote nothing
        fences = counted.get((effect.task, epoch, effect.step), set())
        if fences and effect.fence > max(fences):
            yield f"{effect.task}: {effect.step} was repeated by {effect.fence}, {max(fences)} had checkpointed it"


def no_step_is_lost(history: History) -> Iterator[str]:
    """Who is completed did every step, and the attempt whose checkpoint counts really did it."""
    done = {(effect.task, effect.step, effect.fence) for effect in history.effects}
    counted = _counted(history)
    for task, ends in history.ends.items():
        if "completed" not in [status for _, status in ends]:
            continue
        for step in history.steps:
            fences = counted.get((task, history.replays[task], step), set()) | {
                history.checkpoints.get((task, step), 0)
            } - {0}
            if not fences:
                yield f"{task}: completed without {step}"
            elif not any((task, step, fence) in done for fence in fences):
                yield f"{task}: {step} is checkpointed by {sorted(fences)}, nobody did it"


def one_attempt_per_key(history: History) -> Iterator[str]:
    """Tasks of one ordering key never overlap, from the first write to the end, by the journal's clock."""
    for key, spans in _spans(history).items():
        for (_, before_ends, before, _), (begins, _, after, _) in pairwise(spans):
            if begins < before_ends:
                yield f"{key}: {after} began {before_ends - begins:.3f} s before the end of {before}"


def keys_keep_their_order(history: History) -> Iterator[str]:
    """Tasks of one key start in the order of their acceptance, unless they were delayed; replays start when they can."""
    for key, spans in _spans(history).items():
        order = [
            history.rows[task].number
            for *_, task, epoch in spans
            if epoch == 0 and history.kinds.get(task) not in ("delayed", "expiring")
        ]
        if order != sorted(order):
            yield f"{key}: accepted as {sorted(order)}, started as {order}"


def deliveries_come_once(history: History) -> Iterator[str]:
    """Who is completed has one delivery, before the terminal status; nobody else has any."""
    found: dict[str, list[int]] = defaultdict(list)
    for seen in history.firsts:
        if seen.topic == DELIVERIES:
            found[seen.task].append(seen.timestamp_ms)
    for task in history.requests:
        completed = [seen for seen, status in history.ends.get(task, []) if status == "completed"]
        if len(found[task]) != len(completed):
            yield f"{task}: {len(found[task])} deliveries, completed {len(completed)} times"
        elif completed and found[task][0] > completed[0].timestamp_ms:
            yield f"{task}: delivered {found[task][0] - completed[0].timestamp_ms} ms after `completed`"


def dead_letters_come_once(history: History) -> Iterator[str]:
    """Each record that makes no task, and each task that was given up, has one dead letter with its bytes."""
    places = Counter[tuple[str, int, int]]()
    given_up = Counter[str]()
    for seen in history.firsts:
        if seen.topic == DEAD_LETTERS:
            original, task = seen.data["original"], seen.data.get("task_id")
            if task:
                given_up[str(task)] += 1
            else:
                places[original["topic"], original["partition"], original["offset"]] += 1
    first = {task: records[0].value for task, records in history.requests.items()}
    for seen in history.of(TASKS):
        wanted = int(not seen.id or seen.value != first[task_id(seen.source, seen.id)])
        found = places[seen.topic, seen.partition, seen.offset]
        if found != wanted:
            yield f"{seen.topic}/{seen.partition}/{seen.offset}: {found} dead letters, {wanted} expected"
    for task, ends in history.ends.items():
        # A gate's verdict is no dead letter; a task of that kind that lost its worker too often is one.
        by_gate = history.kinds.get(task) == "gate"
        wanted = sum(
            status == "failed" and not (by_gate and seen.data.get("error", {}).get("kind") != "poison")
            for seen, status in ends
        )
        if given_up[task] != wanted:
            yield f"{task}: {given_up[task]} dead letters, {wanted} expected"


def commands_are_answered(history: History) -> Iterator[str]:
    """A cancellation ends its task, or is refused with its id; any other command is told as done, or refused, once."""
    refused = Counter(seen.data["command_id"] for seen in history.firsts if seen.type == REFUSED)
    answers = refused + Counter(act["command_id"] for act in history.acts)
    for command, seen in {seen.id: seen for seen in history.of(CONTROL)}.items():
        about = str(seen.data.get("task_id") or seen.data["dead_letter_id"])
        if seen.type == CANCEL:
            cancelled = "cancelled" in [status for _, status in history.ends.get(about, [])]
            if about in history.requests and not cancelled and not refused[command]:
                yield f"{about}: the cancellation {command} has no answer"
        elif answers[command] != 1:
            yield f"{about}: {seen.type} {command} has {answers[command]} answers"


def letters_are_closed_once(history: History) -> Iterator[str]:
    """A dead letter is replayed or discarded by one command; whoever comes later is refused."""
    closed = Counter(str(act["dead_letter_id"]) for act in history.acts if act.get("dead_letter_id"))
    yield from (f"dead letter {letter}: {times} commands took effect" for letter, times in closed.items() if times > 1)


def nothing_is_left(history: History) -> Iterator[str]:
    """No event waits, none is parked but those that no broker takes, no task is on its way."""
    if history.unsent:
        yield f"{history.unsent} events were never sent"
    yield from (f"{task}: parked" for task in history.parked if history.kinds.get(task) != "huge")
    yield from (f"{row.task}: {row.state}" for row in history.rows.values() if row.state not in TERMINAL)


def nothing_lives_on(history: History) -> Iterator[str]:
    """No process of any attempt or agent outlives them."""
    yield from history.orphans


def audit_agrees(history: History) -> Iterator[str]:
    """The database's own record: a fence grows by one with each claim and never else, an end is an end, a checkpoint
    carries the fence in force, and a key is held by one task."""
    holders: dict[str, str] = {}
    fences: dict[str, int] = {}
    replays = Counter(history.replays)
    for change in history.changes:
        if change.what == "checkpoint":
            if change.written_fence != change.fence or change.state != "running":
                yield f"{change.task}: fence {change.written_fence} wrote a checkpoint, in force was {change.fence} ({change.state})"
            continue
        claimed = change.before == "available" and change.state == "running"
        if change.before in TERMINAL and change.before != change.state:
            replays[change.task] -= 1
            if (change.before, change.state) not in REPLAYED or replays[change.task] < 0:
                yield f"{change.task}: {change.before} became {change.state}"
        if change.fence != (change.fence_before or 0) + claimed:
            yield f"{change.task}: fence {change.fence_before} became {change.fence} ({change.before} → {change.state})"
        if change.fence < fences.get(change.task, 0):
            yield f"{change.task}: fence {change.fence} after {fences[change.task]}"
        fences[change.task] = change.fence
        key = history.keys.get(change.task, change.task)
        if claimed and holders.setdefault(key, change.task) != change.task:
            yield f"{key}: {change.task} was claimed while {holders[key]} held the key"
        if change.state in TERMINAL and holders.get(key) == change.task:
            del holders[key]


CHECKERS: Mapping[str, Checker] = {
    checker.__name__: checker
    for checker in (
        each_request_is_one_task, each_task_ends_once, each_end_fits_its_task, sequences_are_gapless,
        repeats_are_identical, old_fences_write_nothing, no_effect_counts_twice, no_step_is_lost, one_attempt_per_key,
        keys_keep_their_order, deliveries_come_once, dead_letters_come_once, commands_are_answered, letters_are_closed_once, nothing_is_left,
        nothing_lives_on, audit_agrees,
    )
}  # fmt: skip


def check(history: History) -> dict[str, list[str]]:
    """The faults that each checker finds; all empty if the history is sound."""
    return {name: list(checker(history)) for name, checker in CHECKERS.items()}


def _epochs(history: History) -> Mapping[tuple[str, int], int]:
    """(task, fence) → the epoch of that attempt, as it wrote, or (also if it died before it wrote) as the audit knows."""
    found = {
        (task, write.fence): min(number, history.replays[task])
        for task, epochs in history.epochs.items()
        for number, epoch in enumerate(epochs)
        for seen in epoch
        if (write := write_of(seen)) is not None
    }
    present: Counter[str] = Counter()
    for change in history.changes:
        present[change.task] += (change.before, change.state) in REPLAYED
        if (change.before, change.state) == ("available", "running"):
            found.setdefault((change.task, change.fence), present[change.task])
    return found


def _counted(history: History) -> Mapping[tuple[str, int, str], set[int]]:
    """(task, epoch, step) → fences whose checkpoint of it was accepted."""
    found: dict[tuple[str, int, str], set[int]] = defaultdict(set)
    for task, epochs in history.epochs.items():
        # Without as many replays, what follows on an end belongs to no epoch of its own.
        for number, epoch in enumerate(epochs):
            for write in filter(None, map(write_of, epoch)):
                if write.word == "done":
                    found[task, min(number, history.replays[task]), write.step].add(write.fence)
    return found


def _spans(history: History) -> Mapping[str, Sequence[tuple[float, float, str, int]]]:
    """(first write, end, task, epoch) by ordering key, in order of the first write; keys with one span are left out."""
    found: dict[str, list[tuple[float, float, str, int]]] = defaultdict(list)
    for task, epochs in history.epochs.items():
        for number, epoch in enumerate(epochs):
            writes = [seen.at for seen in epoch if write_of(seen) is not None]
            if task in history.rows and writes:
                end = epoch[-1].at if epoch[-1].data["status"] in TERMINAL else float("inf")
                found[history.keys.get(task, task)].append((min(writes), end, task, number))
    return {key: sorted(spans) for key, spans in found.items() if len(spans) > 1}
