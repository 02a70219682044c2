-- Jobs that the gateway itself runs, one call for each request: docs/decisions/0033-own-execution.md

ALTER TABLE jobs
    ALTER COLUMN input_id DROP NOT NULL,                -- such a job reads the file itself
    ADD COLUMN execution text NOT NULL DEFAULT 'provider' CHECK (execution IN ('provider', 'gateway')),
    ADD CHECK (input_id IS NOT NULL OR execution = 'gateway');

-- A range of a job's requests, which one worker runs at a time.
CREATE TABLE chunks (
    id             text PRIMARY KEY,
    job_id         text        NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    number         integer     NOT NULL,                -- its place in the job
    deployment_id  text        NOT NULL,
    owner          text        NOT NULL,                -- 'user:…', 'team:…' or 'key:…': owners take turns
    file_id        text        NOT NULL,                -- the file that has its lines
    start          bigint      NOT NULL,                -- where to read it, in bytes
    bytes          bigint      NOT NULL,
    skip           integer     NOT NULL,                -- requests there that come before
    requests       integer     NOT NULL,
    state          text        NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'ended')),
    stopping       boolean     NOT NULL DEFAULT false,  -- a cancel was requested
    completed      integer     NOT NULL DEFAULT 0,
    failed         integer     NOT NULL DEFAULT 0,
    attempts       integer     NOT NULL DEFAULT 0,
    failures       jsonb       NOT NULL DEFAULT '{}',   -- failed calls of requests without a result, by their numbers
    yields         boolean     NOT NULL DEFAULT false,  -- it needs no further calls for now: others may begin
    silent_since   timestamptz,                         -- since then its provider has failed, and given no result
    parts          jsonb       NOT NULL DEFAULT '[]',   -- how many objects each attempt has left, once it has ended
    error          jsonb,                               -- why it gave up: code and message
    due_at         timestamptz,                         -- null: it waits for its turn, or has ended
    lease          text,
    leased_until   timestamptz,
    created_at     timestamptz NOT NULL DEFAULT now(),
    CHECK (state = 'open' OR (due_at IS NULL AND lease IS NULL)),
    CHECK (completed >= 0 AND failed >= 0 AND completed + failed <= requests)
);

CREATE UNIQUE INDEX chunks_job ON chunks (job_id, number);
CREATE INDEX chunks_open ON chunks (deployment_id) WHERE state = 'open';
CREATE INDEX chunks_due ON chunks (due_at) WHERE due_at IS NOT NULL;

-- When an owner last had a chunk made due at a deployment.
CREATE TABLE chunk_turns (
    deployment_id  text        NOT NULL,
    owner          text        NOT NULL,
    taken_at       timestamptz NOT NULL,
    PRIMARY KEY (deployment_id, owner)
);

-- How fast such jobs may call a deployment, by all workers together: what may begin now, of calls and of tokens. Calls
-- of completions may take both below zero.
ALTER TABLE traffic
    ADD COLUMN free_requests float8 NOT NULL DEFAULT 0,
    ADD COLUMN free_tokens   float8 NOT NULL DEFAULT 0,
    ADD COLUMN paced_at      timestamptz,               -- when they were last filled up; null: never, so they are full
    ADD COLUMN paused_until  timestamptz;               -- the provider asked for a pause
