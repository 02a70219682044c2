-- Orphans: copies of an input that no row names, left at the provider by a worker that died or a response that was lost.

ALTER TABLE inputs ADD COLUMN doubtful_at timestamptz;  -- since when orphans are suspected; null: none

CREATE INDEX inputs_doubtful ON inputs (deployment_id, doubtful_at) WHERE doubtful_at IS NOT NULL;
