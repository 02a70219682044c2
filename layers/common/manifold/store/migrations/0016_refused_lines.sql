-- Requests that cannot be translated for a provider: docs/decisions/0028-translated-lines.md

ALTER TABLE inputs ADD COLUMN refused integer NOT NULL DEFAULT 0;  -- requests that are not in it; the bucket has why
ALTER TABLE jobs ADD COLUMN refused integer NOT NULL DEFAULT 0;    -- those of its input

ALTER TABLE jobs DROP CONSTRAINT jobs_check;
ALTER TABLE jobs ADD CONSTRAINT jobs_check CHECK (
    provider_ref IS NOT NULL OR refused = requests
        OR state IN ('submitting', 'unknown', 'refused', 'absent', 'abandoned'));
