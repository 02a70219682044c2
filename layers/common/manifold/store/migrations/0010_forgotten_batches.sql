-- The deletion of batches and files after their retention period: indexes to find them, and references that follow them.

CREATE INDEX batches_ended ON batches ((coalesce(completed_at, failed_at, expired_at, cancelled_at))) WHERE due_at IS NULL;
CREATE INDEX batches_output ON batches (output_file_id) WHERE output_file_id IS NOT NULL;
CREATE INDEX batches_error ON batches (error_file_id) WHERE error_file_id IS NOT NULL;
CREATE INDEX files_purged ON files (purged_at) WHERE purged_at IS NOT NULL;
CREATE INDEX inputs_file ON inputs (file_id);
