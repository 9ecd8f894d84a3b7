-- The mark of the write that an attempt made last: a write whose answer was lost is found again by it.
ALTER TABLE task ADD COLUMN last_write text;
ALTER TABLE archive ADD COLUMN last_write text;
