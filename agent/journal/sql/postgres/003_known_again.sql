-- How writes and commands are known again when they come a second time.
-- The mark of the write that an attempt made last: a write whose answer was lost is found by it.
ALTER TABLE task ADD COLUMN last_write text;
ALTER TABLE archive ADD COLUMN last_write text;
-- From now on `command_id` is the digest of source and event id. What an earlier release stored has its event id there.
ALTER TABLE command ADD COLUMN event_id text;
