-- Webhooks: where the events of an owner's batches are sent, and each event's way there. docs/decisions/0018-webhooks.md

CREATE TABLE webhooks (
    id            text PRIMARY KEY,
    url           text        NOT NULL,
    events        text[]      NOT NULL,                 -- types of events, such as batch.completed
    name          text,
    secret        text        NOT NULL,                 -- whsec_…, as it is: a signature is made with it
    user_id       text        REFERENCES users (id),
    team_id       text        REFERENCES teams (id),
    key_id        text        REFERENCES api_keys (id), -- all three null: the master key's
    failures      integer     NOT NULL DEFAULT 0,       -- attempts in a row that failed
    resumes_at    timestamptz NOT NULL DEFAULT now(),   -- after a failure, nothing is sent before this
    disabled_at   timestamptz,                          -- when the endpoint answered that it is gone
    lease         text,
    leased_until  timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX webhooks_page ON webhooks (created_at, id);
CREATE INDEX webhooks_user ON webhooks (user_id, created_at, id);
CREATE INDEX webhooks_team ON webhooks (team_id, created_at, id);
CREATE INDEX webhooks_key ON webhooks (key_id, created_at, id);

-- One event for one webhook, written by the statement that ends the batch.
CREATE TABLE deliveries (
    id            text PRIMARY KEY,
    webhook_id    text        NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    batch_id      text        NOT NULL REFERENCES batches (id) ON DELETE CASCADE,  -- so it lives as long as its batch
    event_id      text        NOT NULL,
    type          text        NOT NULL,
    status        text        NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'delivered', 'failed')),
    attempts      integer     NOT NULL DEFAULT 0,
    status_code   integer,                              -- of the last answer; null: there was none
    error         text,                                 -- why the last attempt failed
    due_at        timestamptz DEFAULT now(),            -- the next attempt; null: none
    expires_at    timestamptz NOT NULL DEFAULT now() + interval '72 hours',  -- then it is given up
    attempted_at  timestamptz,
    delivered_at  timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now(),   -- when the batch ended
    CHECK ((due_at IS NOT NULL) = (status = 'pending'))
);

-- An event is one delivery to a webhook.
CREATE UNIQUE INDEX deliveries_one_event ON deliveries (webhook_id, event_id);
CREATE INDEX deliveries_page ON deliveries (webhook_id, created_at, id);
CREATE INDEX deliveries_batch ON deliveries (batch_id);
CREATE INDEX deliveries_due ON deliveries (webhook_id, due_at) WHERE status = 'pending';
CREATE INDEX deliveries_expiry ON deliveries (expires_at) WHERE status = 'pending';
