-- Access to the gateway: users, teams and their virtual keys.

CREATE TABLE users (
    id                     text PRIMARY KEY,
    alias                  text,
    email                  text,
    models                 text[]      NOT NULL DEFAULT '{}',
    metadata               jsonb       NOT NULL DEFAULT '{}',
    rpm_limit              bigint      CHECK (rpm_limit >= 0),
    tpm_limit              bigint      CHECK (tpm_limit >= 0),
    max_parallel_requests  bigint      CHECK (max_parallel_requests >= 0),
    max_budget             numeric     CHECK (max_budget >= 0),
    budget_duration        text,
    created_at             timestamptz NOT NULL DEFAULT now(),
    updated_at             timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE teams (
    id                     text PRIMARY KEY,
    alias                  text,
    models                 text[]      NOT NULL DEFAULT '{}',
    metadata               jsonb       NOT NULL DEFAULT '{}',
    blocked                boolean     NOT NULL DEFAULT false,
    rpm_limit              bigint      CHECK (rpm_limit >= 0),
    tpm_limit              bigint      CHECK (tpm_limit >= 0),
    max_parallel_requests  bigint      CHECK (max_parallel_requests >= 0),
    max_budget             numeric     CHECK (max_budget >= 0),
    budget_duration        text,
    created_at             timestamptz NOT NULL DEFAULT now(),
    updated_at             timestamptz NOT NULL DEFAULT now()
);

-- A regeneration keeps the id, and so what the key owns. The row of a deleted key stays, for what the key owns.
CREATE TABLE api_keys (
    id                     text PRIMARY KEY,
    token_hash             text        NOT NULL UNIQUE,
    name                   text        NOT NULL,
    alias                  text,
    user_id                text        REFERENCES users (id),
    team_id                text        REFERENCES teams (id),
    models                 text[]      NOT NULL DEFAULT '{}',
    aliases                jsonb       NOT NULL DEFAULT '{}',
    metadata               jsonb       NOT NULL DEFAULT '{}',
    blocked                boolean     NOT NULL DEFAULT false,
    expires_at             timestamptz,
    deleted_at             timestamptz,
    rpm_limit              bigint      CHECK (rpm_limit >= 0),
    tpm_limit              bigint      CHECK (tpm_limit >= 0),
    max_parallel_requests  bigint      CHECK (max_parallel_requests >= 0),
    max_budget             numeric     CHECK (max_budget >= 0),
    budget_duration        text,
    created_by             text,
    created_at             timestamptz NOT NULL DEFAULT now(),
    updated_at             timestamptz NOT NULL DEFAULT now()
);

CREATE UNIQUE INDEX api_keys_alias ON api_keys (alias) WHERE deleted_at IS NULL;
CREATE INDEX api_keys_page ON api_keys (created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX api_keys_user ON api_keys (user_id, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX api_keys_team ON api_keys (team_id, created_at, id) WHERE deleted_at IS NULL;
