-- Files that are uploaded in parts, or by a presigned URL. An upload is a reserved file and the work left until it is ready.

CREATE TABLE uploads (
    id            text PRIMARY KEY,
    file_id       text        NOT NULL UNIQUE REFERENCES files (id),  -- reserved with the upload, shown at its completion
    names         text[]      NOT NULL DEFAULT '{}',   -- target_model_names, as the client wrote them
    status        text        NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'completed', 'cancelled', 'expired')),
    part_ids      text[],                              -- the parts of the complete request, in order
    md5           text,                                -- of the joined bytes; null before they are joined
    report        jsonb,                               -- manifold.jsonl.Report of a purpose=batch file's bytes
    due_at        timestamptz,                         -- a worker's next attempt; null when there is no work left
    lease         text,
    leased_until  timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz NOT NULL
);

CREATE INDEX uploads_pending ON uploads (expires_at) WHERE status = 'pending';
CREATE INDEX uploads_due ON uploads (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE upload_parts (
    id          text PRIMARY KEY,
    upload_id   text        NOT NULL REFERENCES uploads (id),
    bytes       bigint      NOT NULL CHECK (bytes > 0),
    created_at  timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX upload_parts_upload ON upload_parts (upload_id);
