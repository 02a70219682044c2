-- Managed files, their inputs at the deployments, batches, their jobs, and the jobs' usage.
-- docs/architecture.md has the transition table. Each change of a state is one conditional UPDATE.

CREATE TABLE files (
    id              text PRIMARY KEY,
    purpose         text        NOT NULL,
    filename        text        NOT NULL,
    bytes           bigint      NOT NULL CHECK (bytes >= 0),
    status          text        NOT NULL CHECK (status IN ('uploaded', 'processed', 'error')),
    status_details  text,
    groups          text[]      NOT NULL DEFAULT '{}',  -- the model groups that may run it, as alternatives
    report          jsonb,                              -- manifold.jsonl.Report of a purpose=batch file
    user_id         text        REFERENCES users (id),
    team_id         text        REFERENCES teams (id),
    key_id          text        REFERENCES api_keys (id),
    created_at      timestamptz NOT NULL DEFAULT now(),
    expires_at      timestamptz,
    deleted_at      timestamptz,                        -- deleted by its owner; the bytes stay while a batch needs them
    purged_at       timestamptz                         -- the bytes and the providers' copies are deleted
);

CREATE INDEX files_page ON files (created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX files_user ON files (user_id, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX files_team ON files (team_id, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX files_key ON files (key_id, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX files_expired ON files (expires_at) WHERE deleted_at IS NULL;
CREATE INDEX files_to_purge ON files (deleted_at) WHERE purged_at IS NULL AND deleted_at IS NOT NULL;

CREATE TABLE inputs (
    id             text PRIMARY KEY,
    file_id        text        NOT NULL REFERENCES files (id),
    deployment_id  text        NOT NULL,
    state          text        NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'ready', 'failed', 'discarded')),
    provider_ref   text,
    error          text,
    attempts       integer     NOT NULL DEFAULT 0,
    due_at         timestamptz DEFAULT now(),           -- the next attempt; null when there is no work left
    lease          text,
    leased_until   timestamptz,
    expires_at     timestamptz,                         -- when the provider's copy expires
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now()
);

CREATE UNIQUE INDEX inputs_one_a_deployment ON inputs (file_id, deployment_id) WHERE state <> 'discarded';
CREATE INDEX inputs_due ON inputs (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE batches (
    id                  text PRIMARY KEY,
    input_file_id       text        NOT NULL REFERENCES files (id),
    endpoint            text        NOT NULL,
    completion_window   text        NOT NULL,
    groups              text[]      NOT NULL,           -- the model groups that may run it
    metadata            jsonb,
    status              text        NOT NULL DEFAULT 'validating' CHECK (status IN (
        'validating', 'failed', 'in_progress', 'finalizing', 'completed', 'expired', 'cancelling', 'cancelled')),
    errors              jsonb,                          -- the entries of errors.data
    output_file_id      text        REFERENCES files (id),
    error_file_id       text        REFERENCES files (id),
    total               bigint      NOT NULL DEFAULT 0,
    completed           bigint      NOT NULL DEFAULT 0,
    failed              bigint      NOT NULL DEFAULT 0,
    output_expires_after bigint     CHECK (output_expires_after BETWEEN 3600 AND 2592000),
    user_id             text        REFERENCES users (id),
    team_id             text        REFERENCES teams (id),
    key_id              text        REFERENCES api_keys (id),
    created_at          timestamptz NOT NULL DEFAULT now(),
    in_progress_at      timestamptz,
    expires_at          timestamptz NOT NULL,
    finalizing_at       timestamptz,
    completed_at        timestamptz,
    failed_at           timestamptz,
    expired_at          timestamptz,
    cancelling_at       timestamptz,
    cancelled_at        timestamptz,
    due_at              timestamptz DEFAULT now(),      -- the engine's next step; null once it has ended
    woken_at            timestamptz NOT NULL DEFAULT now(), -- the last time that a step was requested
    lease               text,
    leased_at           timestamptz,
    leased_until        timestamptz,
    CHECK ((due_at IS NULL) = (status IN ('failed', 'completed', 'expired', 'cancelled')))
);

CREATE INDEX batches_page ON batches (created_at, id);
CREATE INDEX batches_user ON batches (user_id, created_at, id);
CREATE INDEX batches_team ON batches (team_id, created_at, id);
CREATE INDEX batches_key ON batches (key_id, created_at, id);
CREATE INDEX batches_due ON batches (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX batches_input ON batches (input_file_id);

CREATE TABLE jobs (
    id              text PRIMARY KEY,
    batch_id        text        NOT NULL REFERENCES batches (id),
    input_id        text        NOT NULL REFERENCES inputs (id),
    deployment_id   text        NOT NULL,
    state           text        NOT NULL DEFAULT 'submitting' CHECK (state IN (
        'submitting', 'unknown', 'running', 'ended', 'stored', 'settled', 'refused', 'absent')),
    provider_ref    text,
    outcome         text        CHECK (outcome IN ('completed', 'failed', 'expired', 'cancelled')),
    error           text,                               -- why it was refused or became unknown
    lasting         boolean     NOT NULL DEFAULT false, -- whether the refusal is permanent
    cool_until      timestamptz,                        -- end of the deployment's cooldown for this batch
    errors          jsonb,                              -- the provider's errors.data
    output_ref      text,
    error_ref       text,
    output_file_id  text,                               -- set before the transfer, so that a retry writes the same object
    error_file_id   text,
    results         jsonb,                              -- bytes and usage of the stored results
    polls           integer     NOT NULL DEFAULT 0,
    polled_at       timestamptz,
    cancel_sent_at  timestamptz,
    attempts        integer     NOT NULL DEFAULT 0,     -- to store its results
    due_at          timestamptz,                        -- the next attempt to store its results; null: none
    lease           text,
    leased_until    timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now(),
    submitted_at    timestamptz,
    ended_at        timestamptz,
    CHECK (provider_ref IS NOT NULL OR state IN ('submitting', 'unknown', 'refused', 'absent')),
    CHECK ((outcome IS NOT NULL) = (state IN ('ended', 'stored', 'settled')))
);

-- No batch is submitted twice, as it cannot have two open jobs.
CREATE UNIQUE INDEX jobs_one_open ON jobs (batch_id) WHERE state NOT IN ('settled', 'refused', 'absent');
-- A provider's job belongs to one batch.
CREATE UNIQUE INDEX jobs_provider_ref ON jobs (deployment_id, provider_ref);
CREATE INDEX jobs_batch ON jobs (batch_id, created_at);
CREATE INDEX jobs_input ON jobs (input_id);
CREATE INDEX jobs_cool ON jobs (deployment_id, cool_until) WHERE cool_until IS NOT NULL;
CREATE INDEX jobs_due ON jobs (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE usage (
    job_id           text PRIMARY KEY REFERENCES jobs (id),  -- one row for each job, at its end
    batch_id         text        NOT NULL REFERENCES batches (id),
    deployment_id    text        NOT NULL,
    model_group      text        NOT NULL,
    user_id          text        REFERENCES users (id),
    team_id          text        REFERENCES teams (id),
    key_id           text        REFERENCES api_keys (id),
    requests         bigint      NOT NULL,
    failed_requests  bigint      NOT NULL,
    input_tokens     bigint      NOT NULL,
    cached_tokens    bigint      NOT NULL,
    output_tokens    bigint      NOT NULL,
    reasoning_tokens bigint      NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX usage_batch ON usage (batch_id);

CREATE TABLE idempotency (
    fingerprint  text        NOT NULL,                  -- of the caller, the route and the body or the client's key
    resource_id  text        NOT NULL,
    body_hash    text        NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (fingerprint, resource_id)
);

CREATE INDEX idempotency_age ON idempotency (created_at);
