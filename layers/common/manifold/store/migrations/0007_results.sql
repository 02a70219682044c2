-- Checks of a job's end and of its results, as the provider reports them.

ALTER TABLE jobs
    ADD COLUMN end_seen_at timestamptz,                 -- since when the provider reports an end without its files
    ADD COLUMN answers     bigint,                      -- results by the provider's counts; null: unknown
    ADD COLUMN doubted_at  timestamptz,                 -- since when its results are incomplete
    ADD COLUMN kept        jsonb;                       -- results stored in S3 so far: {"output": lines, "error": lines}

UPDATE batches SET failed = least(failed, total), completed = total - least(failed, total)
WHERE completed + failed > total;
ALTER TABLE batches ADD CONSTRAINT batches_counts CHECK (completed >= 0 AND failed >= 0 AND completed + failed <= total);
