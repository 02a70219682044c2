-- The cost of completions, the used part of limits, and the statistics of deployments.

-- One call to a deployment, answered or refused.
CREATE TABLE calls (
    id                text PRIMARY KEY,
    key_id            text        REFERENCES api_keys (id),
    user_id           text        REFERENCES users (id),
    team_id           text        REFERENCES teams (id),
    model_group       text        NOT NULL,
    deployment_id     text        NOT NULL,
    route             text        NOT NULL,
    status            integer     NOT NULL,             -- 200, or the provider's error status; 0: no response
    error             text,                             -- the provider's error code, if any
    input_tokens      bigint      NOT NULL,
    cached_tokens     bigint      NOT NULL,
    output_tokens     bigint      NOT NULL,
    reasoning_tokens  bigint      NOT NULL,
    cost              numeric,                          -- in US dollars; null: no known price
    seconds           float8      NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX calls_page ON calls (created_at, id);
CREATE INDEX calls_key ON calls (key_id, created_at, id);
CREATE INDEX calls_user ON calls (user_id, created_at, id);
CREATE INDEX calls_team ON calls (team_id, created_at, id);

-- The cost of batches.
ALTER TABLE usage ADD COLUMN cost numeric;
CREATE INDEX usage_key ON usage (key_id);

-- The used part of the limits of a key, a user or a team. Holders without limits have no row.
CREATE TABLE meters (
    subject         text PRIMARY KEY,                   -- 'key:…', 'user:…' or 'team:…'
    minute          timestamptz NOT NULL DEFAULT '-infinity',  -- in which requests and tokens are counted
    requests        bigint      NOT NULL DEFAULT 0,
    tokens          bigint      NOT NULL DEFAULT 0,
    leases          jsonb       NOT NULL DEFAULT '{}',  -- calls in progress: {lease: [calls, expiry in epoch seconds]}
    spent           numeric     NOT NULL DEFAULT 0,     -- in the budget's period, in US dollars
    period_ends_at  timestamptz NOT NULL DEFAULT 'infinity'
);

-- Statistics of a deployment, kept where a routing strategy or a cooldown needs them.
CREATE TABLE traffic (
    deployment_id  text PRIMARY KEY,
    minute         timestamptz NOT NULL DEFAULT '-infinity',  -- in which requests, tokens and failures are counted
    requests       bigint      NOT NULL DEFAULT 0,
    tokens         bigint      NOT NULL DEFAULT 0,
    failures       bigint      NOT NULL DEFAULT 0,
    cool_until     timestamptz,                         -- end of its cooldown
    leases         jsonb       NOT NULL DEFAULT '{}',   -- as in meters
    latency        float8,                              -- seconds per token, a moving average
    measured_at    timestamptz
);
