-- {task} stands for the columns of lifecycle.TaskRow in its order, {request} for those of a request, {keys} for the
-- placeholders of a chunk of keys, {rows} for those of several rows: filled in by agent/journal/sqlite/statements.py, from constants and numbers.

-- name: known_requests
SELECT task_id, payload_digest FROM request WHERE task_id IN ({keys});

-- name: known_archived_requests
SELECT task_id, payload_digest FROM archived_request WHERE task_id IN ({keys});

-- name: any_waiting_command
SELECT 1 FROM command WHERE is_waiting = 1 LIMIT 1;

-- name: waiting_commands
SELECT coalesce(event_id, command_id), command, subject, data, source FROM command WHERE is_waiting = 1 AND subject = ?
ORDER BY id;

-- name: commands_applied
UPDATE command SET is_waiting = 0 WHERE is_waiting = 1 AND subject = ?;

-- name: insert_request
INSERT INTO request ({request}) VALUES {rows};

-- name: insert_task
INSERT INTO task (ordering_key, {task}) VALUES {rows};

-- name: update_task
WITH changed ({task}) AS (VALUES {rows})
UPDATE task SET
  (state, priority, rank, updated_at, run_at, expires_at, attempt, crashes, fence, epoch, sequence, lease_owner, lease_until,
    cancel_id, cancel_reason, is_final, holds_key, first_started_at, started_at, history, progress)
  = (SELECT state, priority, rank, updated_at, run_at, expires_at, attempt, crashes, fence, epoch, sequence, lease_owner,
    lease_until, cancel_id, cancel_reason, is_final, holds_key, first_started_at, started_at, history, progress
    FROM changed WHERE changed.id = task.id)
WHERE id IN (SELECT id FROM changed);

-- name: claim_task
WITH changed (id, state, updated_at, attempt, fence, lease_owner, lease_until, holds_key, first_started_at, started_at)
  AS (VALUES {rows})
UPDATE task SET
  (state, updated_at, run_at, attempt, fence, lease_owner, lease_until, holds_key, first_started_at, started_at)
  = (SELECT state, updated_at, NULL, attempt, fence, lease_owner, lease_until, holds_key, first_started_at, started_at
    FROM changed WHERE changed.id = task.id)
WHERE id IN (SELECT id FROM changed);

-- name: update_progress
WITH changed (id, sequence, updated_at, is_final, progress) AS (VALUES {rows})
UPDATE task SET (sequence, updated_at, is_final, progress)
  = (SELECT sequence, updated_at, is_final, progress FROM changed WHERE changed.id = task.id)
WHERE id IN (SELECT id FROM changed);

-- name: insert_outbox
INSERT INTO outbox (position, event_id, task, type, key, data, created_at, sequence) VALUES {rows};

-- name: insert_command
INSERT INTO command (command_id, event_id, command, subject, data, source, received_at, is_waiting)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING;

-- name: insert_answer
INSERT INTO answer (query_id, data, received_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING;

-- name: insert_dead_letter
INSERT INTO dead_letter (dead_letter_id, task, place, code, data, created_at) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING;

-- name: letter_state
SELECT l.is_closed, coalesce(r.task_id, a.task_id)
FROM dead_letter l LEFT JOIN request r ON r.id = l.task LEFT JOIN archived_request a ON a.id = l.task
WHERE l.dead_letter_id = ?;

-- name: close_letter
UPDATE dead_letter SET is_closed = 1 WHERE dead_letter_id = ?;

-- name: task_by_task_id
SELECT {task} FROM task WHERE id = (SELECT id FROM request WHERE task_id = ?);

-- name: tasks_by_task_id
SELECT {task} FROM task WHERE id IN (SELECT id FROM request WHERE task_id IN ({keys}));

-- name: archived_by_task_id
SELECT {task} FROM archive WHERE id = (SELECT id FROM archived_request WHERE task_id = ?);

-- name: restore_task
INSERT INTO task (ordering_key, {task}) SELECT ordering_key, {task} FROM archive WHERE id = ?;

-- name: restore_request
INSERT INTO request ({request}) SELECT {request} FROM archived_request WHERE id = ?;

-- name: archive_task
INSERT INTO archive (ordering_key, {task}) SELECT ordering_key, {task} FROM task WHERE id = ?;

-- The bytes of a task that can never run again are not kept; a failed one may be replayed from its dead letter.
-- name: forget_request
UPDATE request SET request = x'', origin_value = NULL
WHERE id = ?1 AND EXISTS (SELECT 1 FROM task WHERE id = ?1 AND state <> 'failed');

-- name: archive_request
INSERT INTO archived_request ({request}) SELECT {request} FROM request WHERE id = ?;

-- name: delete_task
DELETE FROM task WHERE id = ?;

-- name: delete_request
DELETE FROM request WHERE id = ?;

-- name: delete_archived_task
DELETE FROM archive WHERE id = ?;

-- name: delete_archived_request
DELETE FROM archived_request WHERE id = ?;

-- name: delete_checkpoints
DELETE FROM checkpoint WHERE task = ?;

-- name: lost_tasks
SELECT {task} FROM task WHERE state = 'running' AND lease_until <= ?;

-- name: running_tasks
SELECT {task} FROM task WHERE state = 'running';

-- name: due_tasks
SELECT {task} FROM task WHERE state = 'scheduled' AND run_at <= ?;

-- name: overdue_tasks
SELECT {task} FROM task WHERE expires_at IS NOT NULL AND first_started_at IS NULL
  AND state IN ('available', 'scheduled') AND expires_at <= ?;

-- name: startable_tasks
SELECT {task} FROM task AS t INDEXED BY task_available
WHERE t.state = 'available' AND (t.holds_key = 1 OR NOT EXISTS (
  SELECT 1 FROM task AS o
  WHERE o.ordering_key = t.ordering_key AND o.id <> t.id
    AND o.state IN ('available', 'scheduled', 'running', 'waiting')
    AND (o.holds_key = 1 OR (o.state = 'available' AND o.id < t.id))))
ORDER BY t.rank, t.id LIMIT ?;

-- name: claimed_requests
SELECT id, kind, ordering_key, accepted_at, attempt_deadline_s, total_deadline_s, attributes, origin, origin_value, request
FROM request WHERE id IN ({keys});

-- name: renew
UPDATE task SET lease_until = ?
WHERE id = (SELECT id FROM request WHERE task_id = ?) AND fence = ? AND state = 'running';

-- name: is_cancel_requested
SELECT cancel_id IS NOT NULL FROM task WHERE id = (SELECT id FROM request WHERE task_id = ?);

-- name: upsert_checkpoint
INSERT INTO checkpoint (task, epoch, step, input_hash, output, code_version, duration_s) VALUES {rows}
ON CONFLICT (task, epoch, step) DO UPDATE SET input_hash = excluded.input_hash, output = excluded.output,
  code_version = excluded.code_version, duration_s = excluded.duration_s;

-- name: checkpoints
SELECT c.step, c.input_hash, c.output, c.code_version, c.duration_s
FROM request r JOIN task t ON t.id = r.id JOIN checkpoint c ON c.task = t.id AND c.epoch = t.epoch
WHERE r.task_id = ? ORDER BY c.rowid;

-- name: answer
SELECT data FROM answer WHERE query_id = ?;

-- name: unsent
SELECT o.position, o.event_id, coalesce(r.task_id, a.task_id), o.type, o.key, o.data, o.created_at, o.sequence,
  coalesce(r.attributes, a.attributes)
FROM outbox o LEFT JOIN request r ON r.id = o.task LEFT JOIN archived_request a ON r.id IS NULL AND a.id = o.task
WHERE o.position NOT IN (SELECT value FROM json_each(?)) ORDER BY o.position LIMIT ?;

-- name: delete_outbox
DELETE FROM outbox WHERE position IN (SELECT value FROM json_each(?));

-- name: park
INSERT INTO parked (position, event_id, task, type, key, data, created_at, sequence, reason, parked_at)
SELECT position, event_id, task, type, key, data, created_at, sequence, ?, ? FROM outbox WHERE position = ?
ON CONFLICT DO NOTHING;

-- name: replace_outbox
UPDATE outbox SET type = ?, key = ?, data = ? WHERE position = ?;

-- name: view
SELECT t.id, r.task_id, t.state, r.kind, r.ordering_key, t.attempt, t.crashes, t.fence, t.sequence, t.priority, r.accepted_at,
  t.updated_at, t.run_at, t.progress
FROM request r JOIN task t ON t.id = r.id WHERE r.task_id = ?;

-- name: archived_view
SELECT t.id, r.task_id, t.state, r.kind, r.ordering_key, t.attempt, t.crashes, t.fence, t.sequence, t.priority, r.accepted_at,
  t.updated_at, t.run_at, t.progress
FROM archived_request r JOIN archive t ON t.id = r.id WHERE r.task_id = ?;

-- name: views
SELECT t.id, r.task_id, t.state, r.kind, r.ordering_key, t.attempt, t.crashes, t.fence, t.sequence, t.priority, r.accepted_at,
  t.updated_at, t.run_at, t.progress
FROM task t JOIN request r ON r.id = t.id WHERE ?1 = '' OR instr(?1, ',' || t.state || ',') ORDER BY t.id DESC LIMIT ?2;

-- name: archived_views
SELECT t.id, r.task_id, t.state, r.kind, r.ordering_key, t.attempt, t.crashes, t.fence, t.sequence, t.priority, r.accepted_at,
  t.updated_at, t.run_at, t.progress
FROM archive t JOIN archived_request r ON r.id = t.id WHERE ?1 = '' OR instr(?1, ',' || t.state || ',') ORDER BY t.id DESC LIMIT ?2;

-- name: dead_letters
SELECT l.data, coalesce(r.ordering_key, a.ordering_key), l.is_closed
FROM dead_letter l LEFT JOIN request r ON r.id = l.task LEFT JOIN archived_request a ON a.id = l.task
WHERE l.is_closed = 0 AND (?1 IS NULL OR l.created_at >= ?1)
  AND (?2 = '[]' OR l.dead_letter_id IN (SELECT value FROM json_each(?2)))
  AND (?3 = '[]' OR l.code IN (SELECT value FROM json_each(?3)))
  AND (?4 = '[]' OR coalesce(r.task_id, a.task_id) IN (SELECT value FROM json_each(?4)))
  AND (?5 = '[]' OR json_extract(l.data, '$.original.topic') IN (SELECT value FROM json_each(?5)))
  AND (?6 = '[]' OR coalesce(r.ordering_key, a.ordering_key) IN (SELECT value FROM json_each(?6))
    OR l.task IS NULL AND json_extract(l.data, '$.original.key') IN (SELECT value FROM json_each(?7)))
ORDER BY l.id DESC LIMIT ?8;

-- name: dead_letter
SELECT l.data, coalesce(r.ordering_key, a.ordering_key), l.is_closed
FROM dead_letter l LEFT JOIN request r ON r.id = l.task LEFT JOIN archived_request a ON a.id = l.task
WHERE l.dead_letter_id = ?;

-- name: counts
SELECT state, count(*) FROM task GROUP BY state;

-- name: sums
SELECT (SELECT count(*) FROM outbox), (SELECT count(*) FROM dead_letter WHERE is_closed = 0),
  (SELECT min(rank + priority * ?) FROM task WHERE state = 'available'),
  (SELECT min(started_at) FROM task WHERE state = 'running'),
  (SELECT created_at FROM outbox ORDER BY position LIMIT 1);

-- name: ended_tasks
SELECT id FROM task WHERE state IN ('completed', 'failed', 'cancelled', 'rejected', 'expired') AND updated_at <= ?
  AND id NOT IN (SELECT task FROM outbox WHERE task IS NOT NULL) LIMIT ?;

-- name: delete_answers
DELETE FROM answer WHERE query_id IN (SELECT query_id FROM answer WHERE received_at <= ? LIMIT ?);

-- name: delete_commands
DELETE FROM command WHERE id IN (SELECT id FROM command WHERE is_waiting = 0 AND received_at <= ? LIMIT ?);

-- name: mentions
SELECT output FROM checkpoint UNION ALL SELECT data FROM dead_letter UNION ALL SELECT r.attributes FROM task t JOIN request r ON r.id = t.id;

-- name: next_id
SELECT max(coalesce((SELECT max(id) FROM request), 0), coalesce((SELECT max(id) FROM archived_request), 0)) + 1;

-- name: next_position
SELECT max(coalesce((SELECT max(position) FROM outbox), 0), coalesce((SELECT max(position) FROM parked), 0)) + 1;
