-- A due time, attempts and a lease for the purge of a file and the clearing of an upload, as for all work that is retried.

ALTER TABLE files
    ADD COLUMN attempts integer NOT NULL DEFAULT 0,     -- to purge it
    ADD COLUMN due_at timestamptz,                      -- the next attempt to purge it; null before the first
    ADD COLUMN lease text,
    ADD COLUMN leased_until timestamptz;

DROP INDEX files_to_purge;
CREATE INDEX files_to_purge ON files ((coalesce(due_at, deleted_at))) WHERE purged_at IS NULL AND deleted_at IS NOT NULL;

ALTER TABLE uploads ADD COLUMN attempts integer NOT NULL DEFAULT 0;  -- of a worker at its current work
