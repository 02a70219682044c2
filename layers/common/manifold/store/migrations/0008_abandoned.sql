-- Every batch ends: a job whose provider can no longer be reached is abandoned. docs/decisions/0013-every-batch-ends.md

ALTER TABLE batches ADD COLUMN overdue_at timestamptz;  -- its first step later than a day after its window
ALTER TABLE jobs ADD COLUMN status integer;             -- the HTTP status of its refusal

ALTER TABLE jobs DROP CONSTRAINT jobs_state_check, DROP CONSTRAINT jobs_check;
ALTER TABLE jobs
    ADD CONSTRAINT jobs_state_check CHECK (state IN (
        'submitting', 'unknown', 'running', 'ended', 'stored', 'settled', 'refused', 'absent', 'abandoned')),
    ADD CONSTRAINT jobs_check CHECK (
        provider_ref IS NOT NULL OR state IN ('submitting', 'unknown', 'refused', 'absent', 'abandoned'));

DROP INDEX jobs_one_open;
CREATE UNIQUE INDEX jobs_one_open ON jobs (batch_id) WHERE state NOT IN ('settled', 'refused', 'absent', 'abandoned');
