-- {task} stands for the columns of lifecycle.TaskRow in its order, {stored_…} for as many array parameters with their types,
-- {now} for the database's clock in epoch seconds, {version} for what tells whether a row was changed since one looked,
-- {may_start} and {changes} for what several statements share (session.py). A statement is a round trip, so one does as
-- much as one snapshot allows.

-- name: now
SELECT {now};

-- name: insert_requests
WITH clock AS (SELECT {now} AS now),
given AS (
  SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::float8[], $8::float8[],
    $9::float8[], $10::json[], $11::json[], $12::bytea[], $13::bytea[]) WITH ORDINALITY AS given (task_id, payload_digest,
    source, idempotency_key, kind, ordering_key, accepted_at, attempt_deadline_s, total_deadline_s, attributes, origin,
    origin_value, request, nr)),
new AS (
  INSERT INTO request (task_id, payload_digest, source, idempotency_key, kind, ordering_key, accepted_at,
    attempt_deadline_s, total_deadline_s, attributes, origin, origin_value, request)
  SELECT task_id, payload_digest, source, idempotency_key, kind, ordering_key, now,
    attempt_deadline_s, total_deadline_s, attributes, origin, origin_value, request
  FROM given, clock ORDER BY nr
  ON CONFLICT (task_id) DO NOTHING
  RETURNING id, task_id)
SELECT clock.now, given.task_id, new.id, known.payload_digest,
  EXISTS (SELECT FROM command WHERE is_waiting AND subject = given.task_id)
FROM clock, given LEFT JOIN new USING (task_id) LEFT JOIN request AS known USING (task_id);

-- name: known_requests
SELECT task_id, payload_digest FROM request WHERE task_id = ANY($1);

-- name: waiting_commands
SELECT coalesce(event_id, command_id), command, subject, data, source FROM command
WHERE is_waiting AND subject = ANY($1) ORDER BY id;

-- name: insert_commands
INSERT INTO command (command_id, event_id, command, subject, data, source, received_at, is_waiting)
SELECT command_id, event_id, command, subject, data, source, $7, false
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::json[], $6::text[]) WITH ORDINALITY
  AS given (command_id, event_id, command, subject, data, source, nr)
ORDER BY nr
ON CONFLICT (command_id) DO NOTHING
RETURNING command_id;

-- name: commands_applied
UPDATE command SET is_waiting = false WHERE is_waiting AND subject = ANY($1);

-- name: commands_wait
UPDATE command SET is_waiting = true WHERE command_id = ANY($1);

-- name: insert_answers
INSERT INTO answer (query_id, data, received_at)
SELECT query_id, data, $3 FROM unnest($1::text[], $2::bytea[]) AS given (query_id, data)
ON CONFLICT (query_id) DO NOTHING
RETURNING query_id;

-- name: insert_letters
INSERT INTO dead_letter (dead_letter_id, task, place, code, data, created_at)
SELECT dead_letter_id, task, place, code, data, $6
FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::json[]) WITH ORDINALITY
  AS given (dead_letter_id, task, place, code, data, nr)
ORDER BY nr
ON CONFLICT DO NOTHING
RETURNING dead_letter_id;

-- name: lock_letters
SELECT l.dead_letter_id, l.is_closed, r.task_id FROM dead_letter l LEFT JOIN request r ON r.id = l.task
WHERE l.dead_letter_id = ANY($1) ORDER BY l.id FOR UPDATE OF l;

-- name: close_letters
UPDATE dead_letter SET is_closed = true WHERE dead_letter_id = ANY($1);

-- All that is to be written about tasks, in one statement; answers the ids of the rows that were changed. A row with a
-- version is changed, and its checkpoints and events are stored, only if nobody has changed it since; without one it is
-- locked ($19: its events count in any case). Positions of the outbox are taken after the rows' locks. Empty arrays cost
-- next to nothing.
-- name: store
WITH changed AS (
  UPDATE task SET {changes}, last_write = coalesce($18, task.last_write)
  FROM unnest({stored_changed}, $17::bigint[]) AS given ({task}, version)
  WHERE task.id = given.id AND (given.version IS NULL OR {version} = given.version)
  RETURNING task.id),
new AS (
  INSERT INTO task (ordering_key, {task})
  SELECT ordering_key, {task} FROM unnest($16::text[], {stored_new}) AS given (ordering_key, {task})),
points AS (
  INSERT INTO checkpoint (task, epoch, step, input_hash, output, code_version, duration_s)
  SELECT task, epoch, step, input_hash, output, code_version, duration_s
  FROM unnest($9::bigint[], $10::integer[], $11::text[], $12::text[], $13::json[], $14::text[], $15::float8[])
    WITH ORDINALITY AS given (task, epoch, step, input_hash, output, code_version, duration_s, nr)
  WHERE task IN (SELECT id FROM changed) ORDER BY nr
  ON CONFLICT (task, epoch, step) DO UPDATE SET input_hash = excluded.input_hash, output = excluded.output,
    code_version = excluded.code_version, duration_s = excluded.duration_s),
told AS (
  INSERT INTO outbox (event_id, task, type, key, data, sequence, shard, created_at)
  SELECT event_id, task, type, key, data, sequence, shard, $8
  FROM unnest($1::text[], $2::bigint[], $3::text[], $4::json[], $5::json[], $6::integer[], $7::integer[]) WITH ORDINALITY
    AS given (event_id, task, type, key, data, sequence, shard, nr)
  WHERE task IS NULL OR task = ANY($19) OR task IN (SELECT id FROM changed)
  ORDER BY nr)
SELECT id FROM changed;

-- name: rows
SELECT {now}, last_write, {version}, {task} FROM task WHERE id IN (SELECT id FROM request WHERE task_id = ANY($1));

-- name: lock_tasks
SELECT {task} FROM task WHERE id IN (SELECT id FROM request WHERE task_id = ANY($1)) ORDER BY id FOR UPDATE;

-- name: archived_tasks
SELECT {task} FROM archive WHERE id IN (SELECT id FROM request WHERE task_id = ANY($1)) ORDER BY id FOR UPDATE;

-- name: restore_tasks
WITH gone AS (DELETE FROM archive WHERE id = ANY($1) RETURNING ordering_key, {task})
INSERT INTO task (ordering_key, {task}) SELECT ordering_key, {task} FROM gone;

-- What workers ask again and again, without a lock: whether something is `due`, and what could start, best first.
-- name: look
SELECT is_due, now, version, {task}
FROM (
  SELECT {now} AS now, EXISTS (SELECT FROM task WHERE state = 'running' AND lease_until <= {now})
    OR EXISTS (SELECT FROM task WHERE state = 'scheduled' AND run_at <= {now})
    OR EXISTS (SELECT FROM task WHERE state IN ('available', 'scheduled') AND expires_at IS NOT NULL
      AND first_started_at IS NULL AND expires_at <= {now}) AS is_due) AS always
LEFT JOIN (
  SELECT {version} AS version, {task} FROM task WHERE {may_start} ORDER BY rank, id LIMIT $1) AS startable ON true
ORDER BY rank, id;

-- What time alone moves on: lost leases, tasks not started in time, delayed tasks that are due.
-- name: due
SELECT {now}, {version}, {task} FROM task
WHERE (state = 'running' AND lease_until <= {now}) OR (state = 'scheduled' AND run_at <= {now})
  OR (state IN ('available', 'scheduled') AND expires_at IS NOT NULL AND first_started_at IS NULL AND expires_at <= {now})
ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED;

-- Starts those that still may, and waits for nobody: what another is claiming, and what shares its ordering key, is passed
-- by. Two that each saw the key free meet in the unique index task_holds_key: the second one is undone.
-- name: start
WITH free AS MATERIALIZED (
  SELECT id, ordering_key FROM task WHERE id = ANY($1) AND {may_start} FOR UPDATE SKIP LOCKED)
UPDATE task SET {changes}
FROM unnest({stored_started}, $2::bigint[]) AS given ({task}, version), free, request
WHERE task.id = given.id AND free.id = given.id AND request.id = given.id AND {version} = given.version
  AND pg_try_advisory_xact_lock(hashtextextended(free.ordering_key, $3))
RETURNING request.id, request.kind, request.ordering_key, request.accepted_at, request.attempt_deadline_s,
  request.total_deadline_s, request.attributes, request.origin, request.origin_value, request.request;

-- A claim that was committed although its answer was lost is found by its owner, a name of that one call.
-- name: adopt
WITH mine AS (
  UPDATE task SET lease_until = {now} + $2 WHERE state = 'running' AND lease_owner = ANY($1) RETURNING {task})
SELECT {t.task}, r.id AS request_id, r.kind, r.ordering_key, r.accepted_at, r.attempt_deadline_s, r.total_deadline_s,
  r.attributes, r.origin, r.origin_value, r.request
FROM mine AS t JOIN request AS r ON r.id = t.id;

-- The ids come first: nearly all fences are 1, and a plan that joined by them looked at every claim times every running task
-- (1280 of both: 1.2 s, in which the rows were locked; now 8 ms).
-- name: renew
WITH held AS MATERIALIZED (
  SELECT request.id, given.task_id, given.fence
  FROM unnest($1::text[], $2::bigint[]) AS given (task_id, fence) JOIN request ON request.task_id = given.task_id)
UPDATE task SET lease_until = {now} + $3 FROM held
WHERE task.id = held.id AND task.fence = held.fence AND task.state = 'running'
RETURNING held.task_id, task.cancel_id IS NOT NULL;

-- name: checkpoints
SELECT c.step, c.input_hash, c.output, c.code_version, c.duration_s
FROM request r JOIN task t ON t.id = r.id JOIN checkpoint c ON c.task = t.id AND c.epoch = t.epoch
WHERE r.task_id = $1 ORDER BY c.id;

-- name: answer
SELECT data FROM answer WHERE query_id = $1;

-- Stay a relay: how many there are, this one included, and the shards that it holds.
-- name: keep_relay
WITH me AS (
  INSERT INTO relay (name, held_until) VALUES ($1, {now} + $2)
  ON CONFLICT (name) DO UPDATE SET held_until = excluded.held_until),
gone AS (DELETE FROM relay WHERE held_until <= {now} - 60 AND name <> $1),
mine AS (UPDATE relay_shard SET held_until = {now} + $2 WHERE holder = $1 AND held_until > {now} RETURNING shard)
SELECT 1 + (SELECT count(*) FROM relay WHERE held_until > {now} AND name <> $1), ARRAY(SELECT shard FROM mine);

-- name: take_shards
UPDATE relay_shard SET holder = $1, held_until = {now} + $2
WHERE shard IN (
  SELECT shard FROM relay_shard WHERE held_until <= {now} ORDER BY shard LIMIT $3 FOR UPDATE SKIP LOCKED)
RETURNING shard;

-- name: release_shards
UPDATE relay_shard SET holder = NULL, held_until = 0 WHERE holder = $1 AND shard = ANY($2);

-- name: tell
SELECT pg_notify($1, $2);

-- name: leave_relays
WITH gone AS (DELETE FROM relay WHERE name = $1)
UPDATE relay_shard SET holder = NULL, held_until = 0 WHERE holder = $1;

-- name: unsent
SELECT o.position, o.event_id, r.task_id, o.type, o.key, o.data, o.created_at, o.sequence, r.attributes, o.shard
FROM outbox o
JOIN relay_shard s ON s.shard = o.shard AND s.holder = $1 AND s.held_until > {now}
LEFT JOIN request r ON r.id = o.task
WHERE o.position <> ALL ($3) ORDER BY o.position LIMIT $2;

-- Not waited for on the disk: a server that crashes in the next moment gives the rows out again, which is allowed, and a
-- relay that waited would hold up all events behind them.
-- name: delete_outbox
DELETE FROM outbox WHERE position = ANY($1) AND (SELECT set_config('synchronous_commit', 'off', true)) = 'off';

-- name: park
WITH present AS (SELECT * FROM outbox WHERE position = $1 FOR UPDATE), kept AS (
  INSERT INTO parked (position, event_id, task, type, key, data, created_at, sequence, reason, parked_at)
  SELECT position, event_id, task, type, key, data, created_at, sequence, $5, {now} FROM present
  ON CONFLICT (position) DO NOTHING)
UPDATE outbox SET type = $2, key = $3, data = $4 WHERE position IN (SELECT position FROM present);

-- name: view
SELECT t.id, r.task_id, t.state, r.kind, r.ordering_key, t.attempt, t.crashes, t.fence, t.sequence, t.priority,
  r.accepted_at, t.updated_at, t.run_at, t.progress
FROM request r JOIN task t ON t.id = r.id WHERE r.task_id = $1;

-- name: archived_view
SELECT t.id, r.task_id, t.state, r.kind, r.ordering_key, t.attempt, t.crashes, t.fence, t.sequence, t.priority,
  r.accepted_at, t.updated_at, t.run_at, t.progress
FROM request r JOIN archive t ON t.id = r.id WHERE r.task_id = $1;

-- name: views
SELECT t.id, r.task_id, t.state, r.kind, r.ordering_key, t.attempt, t.crashes, t.fence, t.sequence, t.priority,
  r.accepted_at, t.updated_at, t.run_at, t.progress
FROM task t JOIN request r ON r.id = t.id WHERE cardinality($1::text[]) = 0 OR t.state = ANY($1)
ORDER BY t.id DESC LIMIT $2;

-- name: archived_views
SELECT t.id, r.task_id, t.state, r.kind, r.ordering_key, t.attempt, t.crashes, t.fence, t.sequence, t.priority,
  r.accepted_at, t.updated_at, t.run_at, t.progress
FROM archive t JOIN request r ON r.id = t.id WHERE cardinality($1::text[]) = 0 OR t.state = ANY($1)
ORDER BY t.id DESC LIMIT $2;

-- name: dead_letters
SELECT l.data, r.ordering_key, l.is_closed FROM dead_letter l LEFT JOIN request r ON r.id = l.task
WHERE NOT l.is_closed AND ($1::float8 IS NULL OR l.created_at >= $1)
  AND (cardinality($2::text[]) = 0 OR l.dead_letter_id = ANY($2))
  AND (cardinality($3::text[]) = 0 OR l.code = ANY($3))
  AND (cardinality($4::text[]) = 0 OR r.task_id = ANY($4))
  AND (cardinality($5::text[]) = 0 OR l.data #>> '{original,topic}' = ANY($5))
  AND (cardinality($6::text[]) = 0 OR r.ordering_key = ANY($6)
    OR l.task IS NULL AND l.data #>> '{original,key}' = ANY($7))
ORDER BY l.id DESC LIMIT $8;

-- name: dead_letter
SELECT l.data, r.ordering_key, l.is_closed FROM dead_letter l LEFT JOIN request r ON r.id = l.task
WHERE l.dead_letter_id = $1;

-- name: depths
SELECT (SELECT json_object_agg(state, number) FROM (SELECT state, count(*) AS number FROM task GROUP BY state) AS counted),
  (SELECT count(*) FROM outbox), (SELECT count(*) FROM dead_letter WHERE NOT is_closed),
  (SELECT min(rank + priority * $1::float8) FROM task WHERE state = 'available'),
  (SELECT min(started_at) FROM task WHERE state = 'running'),
  (SELECT created_at FROM outbox ORDER BY position LIMIT 1), {now};

-- name: archive_tasks
WITH ended AS (
  SELECT id FROM task
  WHERE state IN ('completed', 'failed', 'cancelled', 'rejected', 'expired') AND updated_at <= {now} - $1
    AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.task = task.id)
  LIMIT $2 FOR UPDATE SKIP LOCKED),
gone AS (DELETE FROM task WHERE id IN (SELECT id FROM ended) RETURNING ordering_key, {task}),
steps AS (DELETE FROM checkpoint WHERE task IN (SELECT id FROM ended)),
-- The bytes of a task that can never run again are not kept; a failed one may be replayed from its dead letter.
bytes AS (UPDATE request SET request = '', origin_value = NULL WHERE id IN (SELECT id FROM gone WHERE state <> 'failed'))
INSERT INTO archive (ordering_key, {task}) SELECT ordering_key, {task} FROM gone;

-- name: delete_answers
DELETE FROM answer WHERE query_id IN (SELECT query_id FROM answer WHERE received_at <= {now} - $1 LIMIT $2);

-- name: delete_commands
DELETE FROM command WHERE id IN (SELECT id FROM command WHERE NOT is_waiting AND received_at <= {now} - $1 LIMIT $2);

-- name: mentions
SELECT output::text FROM checkpoint UNION ALL SELECT data::text FROM dead_letter
UNION ALL SELECT r.attributes::text FROM task t JOIN request r ON r.id = t.id;
