-- The tables of sqlite/001_initial.sql, in a schema of their own (search_path), and what many writers need beside them.
-- Times are epoch seconds of this database's clock. `json`, not `jsonb`: events keep the order of their keys, and a NUL
-- in a sender's text (\u0000) is no error.

CREATE TABLE request (
  id bigserial PRIMARY KEY,
  task_id text NOT NULL UNIQUE,
  payload_digest text NOT NULL,
  source text NOT NULL,
  idempotency_key text NOT NULL,
  kind text NOT NULL,
  ordering_key text NOT NULL,
  accepted_at float8 NOT NULL,
  attempt_deadline_s float8,
  total_deadline_s float8,
  attributes json NOT NULL,
  origin json NOT NULL,
  origin_value bytea,
  request bytea NOT NULL
);

CREATE TABLE task (
  id bigint PRIMARY KEY,
  task_id text NOT NULL,
  ordering_key text NOT NULL,
  state text NOT NULL,
  priority integer NOT NULL,
  rank float8 NOT NULL,
  updated_at float8 NOT NULL,
  run_at float8,
  expires_at float8,
  attempt integer NOT NULL,
  crashes integer NOT NULL,
  fence bigint NOT NULL,
  epoch integer NOT NULL,
  sequence integer NOT NULL,
  lease_owner text,
  lease_until float8,
  cancel_id text,
  cancel_reason text,
  is_final boolean NOT NULL,
  holds_key boolean NOT NULL,
  first_started_at float8,
  started_at float8,
  history json NOT NULL,
  progress json NOT NULL
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);
CREATE INDEX task_available ON task (rank, id) WHERE state = 'available';
CREATE INDEX task_scheduled ON task (run_at) WHERE state = 'scheduled';
-- Not on lease_until: renewals stay within their page, and few tasks run at a time.
CREATE INDEX task_running ON task (id) WHERE state = 'running';
CREATE INDEX task_expires ON task (expires_at) WHERE expires_at IS NOT NULL AND first_started_at IS NULL
  AND state IN ('available', 'scheduled');
CREATE INDEX task_key ON task (ordering_key, id) WHERE state IN ('available', 'scheduled', 'running', 'waiting');
CREATE UNIQUE INDEX task_holds_key ON task (ordering_key) WHERE holds_key;

CREATE TABLE archive (LIKE task);
ALTER TABLE archive ADD PRIMARY KEY (id);

CREATE TABLE checkpoint (
  id bigserial,
  task bigint NOT NULL,
  epoch integer NOT NULL,
  step text NOT NULL,
  input_hash text NOT NULL,
  output json NOT NULL,
  code_version text NOT NULL,
  duration_s float8 NOT NULL,
  PRIMARY KEY (task, epoch, step)
);

-- `shard` says which relay may send a row: all rows of a task have the same one (relay_shard).
CREATE TABLE outbox (
  position bigserial PRIMARY KEY,
  event_id text NOT NULL,
  task bigint,
  type text NOT NULL,
  key json NOT NULL,
  data json NOT NULL,
  created_at float8 NOT NULL,
  sequence integer,
  shard integer NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02);

-- Who relays. A relay holds shards until its time runs out; it lets go what is above its share.
CREATE TABLE relay (
  name text PRIMARY KEY,
  held_until float8 NOT NULL
);
CREATE TABLE relay_shard (
  shard integer PRIMARY KEY,
  holder text,
  held_until float8 NOT NULL DEFAULT 0
);
INSERT INTO relay_shard (shard) SELECT generate_series(0, 63);

CREATE TABLE parked (
  position bigint PRIMARY KEY,
  event_id text NOT NULL,
  task bigint,
  type text NOT NULL,
  key json NOT NULL,
  data json NOT NULL,
  created_at float8 NOT NULL,
  sequence integer,
  reason text NOT NULL,
  parked_at float8 NOT NULL
);

CREATE TABLE command (
  id bigserial PRIMARY KEY,
  command_id text NOT NULL UNIQUE,
  command text NOT NULL,
  subject text NOT NULL,
  data json NOT NULL,
  received_at float8 NOT NULL,
  is_waiting boolean NOT NULL
);
CREATE INDEX command_waiting ON command (subject) WHERE is_waiting;

CREATE TABLE answer (
  query_id text PRIMARY KEY,
  data bytea NOT NULL,
  received_at float8 NOT NULL
);

CREATE TABLE dead_letter (
  id bigserial PRIMARY KEY,
  dead_letter_id text NOT NULL UNIQUE,
  task bigint,
  place text UNIQUE,
  code text NOT NULL,
  data json NOT NULL,
  created_at float8 NOT NULL,
  is_closed boolean NOT NULL DEFAULT false
);
CREATE INDEX dead_letter_open ON dead_letter (id) WHERE NOT is_closed;
