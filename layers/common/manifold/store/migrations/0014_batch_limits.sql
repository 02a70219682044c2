-- Limits of keys, users and teams for batches, and what each open batch holds of them. docs/decisions/0023-batch-limits.md

ALTER TABLE users
    ADD COLUMN batch_enqueued_token_limit   bigint  CHECK (batch_enqueued_token_limit >= 0),
    ADD COLUMN batch_enqueued_request_limit bigint  CHECK (batch_enqueued_request_limit >= 0),
    ADD COLUMN batch_over_limit             text    NOT NULL DEFAULT 'refuse' CHECK (batch_over_limit IN ('refuse', 'wait')),
    ADD COLUMN retry_failed_lines           integer CHECK (retry_failed_lines BETWEEN 0 AND 5);
ALTER TABLE teams
    ADD COLUMN batch_enqueued_token_limit   bigint  CHECK (batch_enqueued_token_limit >= 0),
    ADD COLUMN batch_enqueued_request_limit bigint  CHECK (batch_enqueued_request_limit >= 0),
    ADD COLUMN batch_over_limit             text    NOT NULL DEFAULT 'refuse' CHECK (batch_over_limit IN ('refuse', 'wait')),
    ADD COLUMN retry_failed_lines           integer CHECK (retry_failed_lines BETWEEN 0 AND 5);
ALTER TABLE api_keys
    ADD COLUMN batch_enqueued_token_limit   bigint  CHECK (batch_enqueued_token_limit >= 0),
    ADD COLUMN batch_enqueued_request_limit bigint  CHECK (batch_enqueued_request_limit >= 0),
    ADD COLUMN batch_over_limit             text    NOT NULL DEFAULT 'refuse' CHECK (batch_over_limit IN ('refuse', 'wait')),
    ADD COLUMN retry_failed_lines           integer CHECK (retry_failed_lines BETWEEN 0 AND 5);

-- What a batch holds of its owners' limits while it is open.
ALTER TABLE batches
    ADD COLUMN reserved_tokens   bigint  NOT NULL DEFAULT 0,  -- its estimated input tokens
    ADD COLUMN reserved_requests bigint  NOT NULL DEFAULT 0,
    ADD COLUMN reserved_cost     numeric,                     -- in US dollars; null: no price is known, or it had no budget
    ADD COLUMN held_for          text;  -- 'key:…', 'user:…' or 'team:…' for whose limit it waits; it then holds no tokens and requests

UPDATE batches b SET reserved_requests = b.total,
    reserved_tokens = CASE jsonb_typeof(f.report -> 'input_tokens') WHEN 'array' THEN (
        SELECT coalesce(sum(tokens::bigint), 0) FROM jsonb_array_elements_text(f.report -> 'input_tokens') AS tokens
    ) ELSE 0 END
FROM files f WHERE f.id = b.input_file_id AND b.due_at IS NOT NULL;

CREATE INDEX batches_open_key ON batches (key_id) WHERE due_at IS NOT NULL;
CREATE INDEX batches_open_user ON batches (user_id) WHERE due_at IS NOT NULL;
CREATE INDEX batches_open_team ON batches (team_id) WHERE due_at IS NOT NULL;
CREATE INDEX batches_held ON batches (held_for, created_at, id) WHERE held_for IS NOT NULL AND due_at IS NOT NULL;
