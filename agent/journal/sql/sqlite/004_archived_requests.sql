-- A key is a random place in its index, and an index that has grown costs every new key a page of its own. So the keys of
-- archived tasks move aside with them; both tables together hold each key once.
ALTER TABLE request RENAME TO archived_request;
CREATE TABLE request (
  id INTEGER PRIMARY KEY, -- unique over both
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
INSERT INTO request SELECT * FROM archived_request WHERE id IN (SELECT id FROM task);
DELETE FROM archived_request WHERE id IN (SELECT id FROM task);
