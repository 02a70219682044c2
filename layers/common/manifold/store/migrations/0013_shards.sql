-- Shards: a batch's lines as the jobs run them. docs/decisions/0025-shards.md

CREATE TABLE shards (
    id             text PRIMARY KEY,
    batch_id       text        NOT NULL REFERENCES batches (id) ON DELETE CASCADE,
    number         integer     NOT NULL,                -- its place in the batch
    round          integer     NOT NULL DEFAULT 0,      -- how often its lines have run before
    selection      text        NOT NULL DEFAULT '',     -- manifold.selection.Selection
    requests       bigint      NOT NULL,
    bytes          bigint      NOT NULL,
    tokens         bigint      NOT NULL DEFAULT 0,      -- its estimated input tokens
    state          text        NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'ended')),
    outcome        text        CHECK (outcome IN ('completed', 'failed', 'expired', 'cancelled')),
    errors         jsonb,                               -- its entries of errors.data
    completed      bigint      NOT NULL DEFAULT 0,
    failed         bigint      NOT NULL DEFAULT 0,
    waiting_for    text        CHECK (waiting_for IN ('room', 'input', 'cooldown')),
    waiting_since  timestamptz,                         -- since when it waits for room
    line_at        text[]      NOT NULL DEFAULT '{}',   -- the deployments (ids) in whose line for room it stands
    due_at         timestamptz DEFAULT now(),           -- its next step; null once it has ended
    woken_at       timestamptz NOT NULL DEFAULT now(),
    lease          text,
    leased_at      timestamptz,
    leased_until   timestamptz,
    created_at     timestamptz NOT NULL DEFAULT now(),
    ended_at       timestamptz,
    CHECK ((due_at IS NULL) = (state = 'ended')),
    CHECK ((outcome IS NOT NULL) = (state = 'ended')),
    CHECK (completed >= 0 AND failed >= 0 AND completed + failed <= requests)
);

CREATE UNIQUE INDEX shards_batch ON shards (batch_id, number);
CREATE INDEX shards_due ON shards (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX shards_waiting ON shards (waiting_since) WHERE waiting_since IS NOT NULL;

ALTER TABLE batches
    ADD COLUMN retry_rounds integer NOT NULL DEFAULT 0,  -- how often lines that failed run again
    ADD COLUMN retry_of text;                           -- the batch whose failed lines it runs

-- A job is an attempt at a shard, and holds room at its deployment while it is submitting, unknown or running.
ALTER TABLE jobs
    ADD COLUMN shard_id text REFERENCES shards (id) ON DELETE CASCADE,
    ADD COLUMN requests bigint NOT NULL DEFAULT 0,
    ADD COLUMN bytes    bigint NOT NULL DEFAULT 0,
    ADD COLUMN tokens   bigint NOT NULL DEFAULT 0,
    ADD COLUMN fault    text CHECK (fault IN ('provider', 'input', 'unknown'));  -- whose fault a failed job was

-- Open batches go on: those with an open job become one shard of all lines, due as their batch was.
INSERT INTO shards (id, batch_id, number, requests, bytes, state, completed, failed, due_at, woken_at)
SELECT 'shard_' || substr(b.id, 7), b.id, 0, b.total, f.bytes, 'running', b.completed, b.failed, b.due_at, b.woken_at
FROM batches b JOIN files f ON f.id = b.input_file_id
WHERE b.due_at IS NOT NULL AND EXISTS (SELECT 1 FROM jobs j WHERE j.batch_id = b.id
    AND j.state NOT IN ('settled', 'refused', 'absent', 'abandoned'));
UPDATE jobs SET shard_id = s.id FROM shards s WHERE s.batch_id = jobs.batch_id;
UPDATE jobs SET requests = b.total FROM batches b
WHERE b.id = jobs.batch_id AND jobs.state NOT IN ('settled', 'refused', 'absent', 'abandoned');

DROP INDEX jobs_one_open;
CREATE UNIQUE INDEX jobs_one_open ON jobs ((coalesce(shard_id, batch_id)))
    WHERE state NOT IN ('settled', 'refused', 'absent', 'abandoned');
CREATE INDEX jobs_shard ON jobs (shard_id);
CREATE INDEX jobs_room ON jobs (deployment_id) INCLUDE (requests, bytes, tokens)
    WHERE state IN ('submitting', 'unknown', 'running');

-- Old code, which runs on during a deploy, writes jobs without a shard. Its batch gets one, as above, to be due once old
-- code has gone on with it. Old code must not submit what has shards: its insert is then skipped.
CREATE FUNCTION jobs_of_old_code() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO shards (id, batch_id, number, requests, bytes, state, due_at)
    SELECT 'shard_' || substr(b.id, 7), b.id, 0, b.total, f.bytes, 'running', now() + interval '2 minutes'
    FROM batches b JOIN files f ON f.id = b.input_file_id
    WHERE b.id = NEW.batch_id AND NOT EXISTS (SELECT 1 FROM shards WHERE batch_id = b.id)
    RETURNING id, requests INTO NEW.shard_id, NEW.requests;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    UPDATE jobs SET shard_id = NEW.shard_id WHERE batch_id = NEW.batch_id;
    RETURN NEW;
END $$;
CREATE TRIGGER jobs_of_old_code BEFORE INSERT ON jobs FOR EACH ROW WHEN (NEW.shard_id IS NULL)
    EXECUTE FUNCTION jobs_of_old_code();

-- An input is a whole file's, made at its upload, or a shard's.
ALTER TABLE inputs
    ALTER COLUMN file_id DROP NOT NULL,
    ADD COLUMN shard_id text REFERENCES shards (id) ON DELETE CASCADE,
    ADD CHECK ((file_id IS NULL) <> (shard_id IS NULL));
CREATE UNIQUE INDEX inputs_one_a_shard ON inputs (shard_id, deployment_id) WHERE state <> 'discarded';
CREATE INDEX inputs_shard ON inputs (shard_id) WHERE shard_id IS NOT NULL;  -- for the deletion of shards

-- What a deployment is believed to take, since it refused for its quota. No row: its configured limits alone.
CREATE TABLE rooms (
    deployment_id  text PRIMARY KEY,
    tokens         bigint,                              -- null: its configured limit
    updated_at     timestamptz NOT NULL DEFAULT now()
);

-- When an owner last took room at a deployment with a limit: owners that wait take turns.
CREATE TABLE turns (
    owner     text PRIMARY KEY,                         -- 'user:…', 'team:…' or 'key:…'
    taken_at  timestamptz NOT NULL
);
