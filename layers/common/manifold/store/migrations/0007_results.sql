-- Checks of a job's end and of its results, as the provider reports them.

ALTER TABLE jobs
    ADD COLUMN end_seen_at timestamptz,                 -- since when the provider says an end that cannot be right yet
    ADD COLUMN answers     bigint,                      -- how many results its counts announced; null: not known
    ADD COLUMN doubted_at  timestamptz,                 -- since when its results are not what was announced
    ADD COLUMN kept        jsonb;                       -- results in S3 meanwhile: {"output": lines, "error": lines}

UPDATE batches SET failed = least(failed, total), completed = total - least(failed, total)
WHERE completed + failed > total;
ALTER TABLE batches ADD CONSTRAINT batches_counts CHECK (completed >= 0 AND failed >= 0 AND completed + failed <= total);
