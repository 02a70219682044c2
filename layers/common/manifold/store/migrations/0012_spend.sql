-- Batches in the list of spend, and the spend of users and teams.

-- A page of the list reads the newest rows of calls and of usage, all or those of a key, a user or a team. The table has
-- one row a batch, so these take a moment.
CREATE INDEX usage_page ON usage (created_at, job_id);
CREATE INDEX usage_key_page ON usage (key_id, created_at, job_id);
CREATE INDEX usage_user ON usage (user_id, created_at, job_id);
CREATE INDEX usage_team ON usage (team_id, created_at, job_id);

-- The cost of a user's or a team's calls and batches whose rows have been deleted, as past_spend has it of keys.
CREATE TABLE past_owner_spend (
    owner  text    PRIMARY KEY,                         -- 'user:…' or 'team:…'
    cost   numeric NOT NULL                             -- in US dollars
);

-- What of a key's past cost past_owner_spend has, too. The rest was added before it was there, or by old code during the
-- deploy: it counts for the user and the team that the key has now.
ALTER TABLE past_spend ADD COLUMN owned numeric NOT NULL DEFAULT 0;

-- The length of a budget's period, so that a batch that ends after the period can begin the next one.
ALTER TABLE meters ADD COLUMN period_seconds float8;    -- null: none, or no call was admitted since this column is there
