-- Who sent a command, for the audit event. Commands that an earlier release, or an old replica, stores have none.
ALTER TABLE command ADD COLUMN source text NOT NULL DEFAULT '';
