-- Who sent a command, for the audit event. Commands that an earlier release stored have none.
ALTER TABLE command ADD COLUMN source TEXT NOT NULL DEFAULT '';
