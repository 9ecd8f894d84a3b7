-- Times are epoch seconds (UTC); lease_until alone is the agent's suspend-aware monotonic time. JSON is text.
-- Rowid tables with updates by id: a hash as primary key halves the journal (facts of the benchmark, README.md).

-- What was asked. Never changed, never deleted: its task_id is the idempotency key. The large part of a task lies here,
-- so that a status does not rewrite a document of 200 kB.
CREATE TABLE request (
  id INTEGER PRIMARY KEY,
  task_id TEXT NOT NULL UNIQUE,
  payload_digest TEXT NOT NULL,
  source TEXT NOT NULL,
  idempotency_key TEXT NOT NULL,
  kind TEXT NOT NULL,
  ordering_key TEXT NOT NULL,
  accepted_at REAL NOT NULL,
  attempt_deadline_s REAL,
  total_deadline_s REAL,
  attributes TEXT NOT NULL,
  origin TEXT NOT NULL,
  origin_value BLOB, -- null if it is the request, byte for byte
  request BLOB NOT NULL
);

-- How it goes: one row per task that is not archived. lifecycle.TaskRow, column by column.
CREATE TABLE task (
  id INTEGER PRIMARY KEY,
  task_id TEXT NOT NULL,
  ordering_key TEXT NOT NULL,
  state TEXT NOT NULL,
  priority INTEGER NOT NULL,
  rank REAL NOT NULL,
  updated_at REAL NOT NULL,
  run_at REAL,
  expires_at REAL,
  attempt INTEGER NOT NULL,
  crashes INTEGER NOT NULL,
  fence INTEGER NOT NULL,
  epoch INTEGER NOT NULL,
  sequence INTEGER NOT NULL,
  lease_owner TEXT,
  lease_until REAL,
  cancel_id TEXT,
  cancel_reason TEXT,
  is_final INTEGER NOT NULL,
  holds_key INTEGER NOT NULL,
  first_started_at REAL,
  started_at REAL,
  history TEXT NOT NULL,
  progress TEXT NOT NULL
);
CREATE INDEX task_available ON task (rank, id) WHERE state = 'available';
CREATE INDEX task_scheduled ON task (run_at) WHERE state = 'scheduled';
CREATE INDEX task_running ON task (lease_until) WHERE state = 'running';
CREATE INDEX task_expires ON task (expires_at) WHERE expires_at IS NOT NULL AND first_started_at IS NULL
  AND state IN ('available', 'scheduled');
CREATE INDEX task_key ON task (ordering_key, id) WHERE state IN ('available', 'scheduled', 'running', 'waiting');
CREATE UNIQUE INDEX task_holds_key ON task (ordering_key) WHERE holds_key = 1;

-- Ended tasks, moved here by `tidy`: no index but the id, so that they cost nothing.
CREATE TABLE archive AS SELECT * FROM task WHERE 0;
CREATE UNIQUE INDEX archive_id ON archive (id);

CREATE TABLE checkpoint (
  task INTEGER NOT NULL,
  epoch INTEGER NOT NULL,
  step TEXT NOT NULL,
  input_hash TEXT NOT NULL,
  output TEXT NOT NULL,
  code_version TEXT NOT NULL,
  duration_s REAL NOT NULL,
  PRIMARY KEY (task, epoch, step)
);

-- Unsent events only: `sent` deletes.
CREATE TABLE outbox (
  position INTEGER PRIMARY KEY,
  event_id TEXT NOT NULL,
  task INTEGER,
  type TEXT NOT NULL,
  key TEXT NOT NULL, -- JSON
  data TEXT NOT NULL,
  created_at REAL NOT NULL,
  sequence INTEGER
);

CREATE TABLE parked (
  position INTEGER PRIMARY KEY,
  event_id TEXT NOT NULL,
  task INTEGER,
  type TEXT NOT NULL,
  key TEXT NOT NULL, -- JSON
  data TEXT NOT NULL,
  created_at REAL NOT NULL,
  sequence INTEGER,
  reason TEXT NOT NULL,
  parked_at REAL NOT NULL
);

CREATE TABLE command (
  id INTEGER PRIMARY KEY,
  command_id TEXT NOT NULL UNIQUE,
  command TEXT NOT NULL,
  subject TEXT NOT NULL, -- task id, or dead letter id
  data TEXT NOT NULL,
  received_at REAL NOT NULL,
  is_waiting INTEGER NOT NULL -- its task is not known yet
);
CREATE INDEX command_waiting ON command (subject) WHERE is_waiting = 1;

CREATE TABLE answer (
  query_id TEXT PRIMARY KEY,
  data BLOB NOT NULL,
  received_at REAL NOT NULL
);

CREATE TABLE dead_letter (
  id INTEGER PRIMARY KEY,
  dead_letter_id TEXT NOT NULL UNIQUE,
  task INTEGER,
  place TEXT UNIQUE, -- [topic, topic id, partition, offset] of a record that made no task
  code TEXT NOT NULL,
  data TEXT NOT NULL,
  created_at REAL NOT NULL,
  is_closed INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX dead_letter_open ON dead_letter (id) WHERE is_closed = 0;
