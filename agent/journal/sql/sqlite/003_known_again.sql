-- How commands are known again when they come a second time: from now on `command_id` is the digest of source and event id.
-- What an earlier release stored has its event id there.
ALTER TABLE command ADD COLUMN event_id TEXT;
