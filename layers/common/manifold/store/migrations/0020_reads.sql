-- A client's reads as functions (0018_functions.sql says why): each finds the holder of a key and what it may see.
-- docs/decisions/0037-one-statement.md
--
-- `hash` is that of the key, or null for the master key, which sees everything. A read returns null if there is no such
-- key; else a line with what the key may do, empty for the master key, and then the rows as JSON, or null.
-- Its plans are generic, as Postgres would otherwise plan each list anew for its length. manifold.store.reads

-- What a key alone owns, without a user and a team: the only rows of its index that a list needs.
DROP INDEX files_key;
CREATE INDEX files_key_alone ON files (key_id, created_at, id)
    WHERE deleted_at IS NULL AND user_id IS NULL AND team_id IS NULL;
DROP INDEX batches_key;
CREATE INDEX batches_key_alone ON batches (key_id, created_at, id) WHERE user_id IS NULL AND team_id IS NULL;

-- Whether the holder of a key may see what these own, as in manifold.store.ownership; all null is the master key.
CREATE FUNCTION sees(key api_keys, of_user text, of_team text, of_key text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT key.id IS NULL OR of_user = key.user_id OR of_team = key.team_id
        OR (of_user IS NULL AND of_team IS NULL AND of_key = key.id)
$$;

-- What a read returns of what the holder of a key sees, which is null where it sees nothing.
CREATE FUNCTION read_text(hash text, key api_keys, seen text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN hash IS NULL THEN '' ELSE key_grant(key) END || E'\n' || coalesce(seen, 'null')
$$;

-- The model groups that the holder of a key means by these names; null for none.
CREATE FUNCTION groups_of(key api_keys, names text[]) RETURNS text[] LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN CASE WHEN cardinality(names) > 0
        THEN (SELECT array_agg(coalesce(key.aliases ->> name, name)) FROM unnest(names) AS name) END;
END $$;

-- Batches in this order, as manifold.store.batches.BatchView.
CREATE FUNCTION batch_views(batch_ids text[]) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT coalesce(json_agg(view ORDER BY place)::text, '[]') FROM (
        SELECT place, row_to_json(batch) AS view
        FROM unnest(batch_ids) WITH ORDINALITY AS ids (batch_id, place) CROSS JOIN LATERAL (
            SELECT id, input_file_id, endpoint, completion_window, groups, metadata, status, errors, output_file_id,
                error_file_id, total, completed, failed, created_at, in_progress_at, expires_at, finalizing_at,
                completed_at, failed_at, expired_at, cancelling_at, cancelled_at, held_for,
                (SELECT jsonb_build_object('input_tokens', sum(input_tokens), 'cached_tokens', sum(cached_tokens),
                     'output_tokens', sum(output_tokens), 'reasoning_tokens', sum(reasoning_tokens))
                 FROM usage WHERE usage.batch_id = batches.id HAVING count(*) > 0) AS usage
            FROM batches WHERE batches.id = ids.batch_id) AS batch) AS views);
END $$;

-- How a batch's shards and newest jobs stand, as manifold.store.progress.Progress.
CREATE FUNCTION batch_progress(of_batch text, most_attempts integer, fresh_seconds float8) RETURNS text
LANGUAGE plpgsql STABLE AS $$
DECLARE
    counted record;
    stale boolean := false;
    reason text;
    since bigint;
    waiting_shards bigint;
    attempts json;
BEGIN
    SELECT count(*) AS total, count(*) FILTER (WHERE state = 'waiting') AS waiting,
        count(*) FILTER (WHERE state = 'running') AS running, count(*) FILTER (WHERE state = 'ended') AS ended
    INTO counted FROM shards WHERE batch_id = of_batch;
    IF counted.running > 0 THEN
        stale := EXISTS (
            SELECT 1 FROM shards JOIN jobs ON jobs.shard_id = shards.id
            WHERE shards.batch_id = of_batch AND shards.state = 'running' AND shards.due_at > clock_timestamp()
                AND jobs.state = 'running' AND coalesce(polled_at, submitted_at)
                    < clock_timestamp() - make_interval(secs => fresh_seconds));
    END IF;
    IF counted.waiting > 0 THEN
        SELECT waiting_for, count(*), floor(extract(epoch FROM min(coalesce(
            (SELECT max(coalesce(ended_at, created_at)) FROM jobs WHERE shard_id = shards.id), created_at))))::bigint
        INTO reason, waiting_shards, since
        FROM shards WHERE batch_id = of_batch AND state = 'waiting' AND waiting_for IS NOT NULL
        GROUP BY waiting_for ORDER BY array_position(ARRAY['room', 'cooldown', 'input'], waiting_for) LIMIT 1;
    END IF;
    SELECT json_agg(attempt) INTO attempts FROM (
        SELECT coalesce((SELECT number FROM shards WHERE id = shard_id), 0) AS shard, deployment_id, state, outcome,
            requests, error, errors -> 0 AS first_error, floor(extract(epoch FROM created_at))::bigint AS created_at,
            floor(extract(epoch FROM submitted_at))::bigint AS submitted_at,
            floor(extract(epoch FROM ended_at))::bigint AS ended_at
        FROM jobs WHERE batch_id = of_batch ORDER BY jobs.created_at DESC, id DESC LIMIT most_attempts) AS attempt;
    RETURN json_build_object('total', counted.total, 'waiting', counted.waiting, 'running', counted.running,
        'ended', counted.ended, 'stale', stale, 'waiting_for', reason,
        'waiting_since', since, 'waiting_shards', waiting_shards,
        'attempts', coalesce(attempts, '[]'))::text;
END $$;

-- A batch, and how it stands.
CREATE FUNCTION read_batch(hash text, of_batch text, most_attempts integer, fresh_seconds float8) RETURNS text
LANGUAGE plpgsql STABLE SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    key api_keys;
    seen text;
BEGIN
    SELECT * INTO key FROM api_keys WHERE token_hash = hash AND deleted_at IS NULL;
    IF hash IS NOT NULL AND key.id IS NULL THEN
        RETURN NULL;
    END IF;
    IF EXISTS (SELECT 1 FROM batches WHERE id = of_batch AND sees(key, user_id, team_id, key_id)) THEN
        seen := '{"batches":' || batch_views(ARRAY[of_batch])
            || ',"progress":' || batch_progress(of_batch, most_attempts, fresh_seconds) || '}';
    END IF;
    RETURN read_text(hash, key, seen);
END $$;

-- Batches, the newest first, `most` at most, from just after the batch `after` if it is not null: no rows without it.
CREATE FUNCTION read_batches(hash text, after text, names text[], most bigint) RETURNS text
LANGUAGE plpgsql STABLE SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    key api_keys;
    last_at timestamptz := 'infinity';
    last_id text := '';
    meant text[];
    page text[];
BEGIN
    SELECT * INTO key FROM api_keys WHERE token_hash = hash AND deleted_at IS NULL;
    IF hash IS NOT NULL AND key.id IS NULL THEN
        RETURN NULL;
    END IF;
    IF after IS NOT NULL THEN
        SELECT created_at, id INTO last_at, last_id FROM batches
        WHERE id = after AND sees(key, user_id, team_id, key_id);
        IF NOT FOUND THEN
            RETURN read_text(hash, key, NULL);
        END IF;
    END IF;
    meant := groups_of(key, names);
    -- One index for each way to see a batch: no order of rows or statistics makes a page slow.
    page := ARRAY(
        SELECT id FROM (
            (SELECT created_at, id FROM batches
             WHERE hash IS NULL AND (created_at, id) < (last_at, last_id) AND CASE WHEN meant IS NULL THEN true ELSE groups && meant END
             ORDER BY created_at DESC, id DESC LIMIT most)
            UNION
            (SELECT created_at, id FROM batches
             WHERE user_id = key.user_id AND (created_at, id) < (last_at, last_id)
                 AND CASE WHEN meant IS NULL THEN true ELSE groups && meant END
             ORDER BY created_at DESC, id DESC LIMIT most)
            UNION
            (SELECT created_at, id FROM batches
             WHERE team_id = key.team_id AND (created_at, id) < (last_at, last_id)
                 AND CASE WHEN meant IS NULL THEN true ELSE groups && meant END
             ORDER BY created_at DESC, id DESC LIMIT most)
            UNION
            (SELECT created_at, id FROM batches
             WHERE key_id = key.id AND user_id IS NULL AND team_id IS NULL AND (created_at, id) < (last_at, last_id)
                 AND CASE WHEN meant IS NULL THEN true ELSE groups && meant END
             ORDER BY created_at DESC, id DESC LIMIT most)) AS visible
        ORDER BY created_at DESC, id DESC LIMIT most);
    RETURN read_text(hash, key, batch_views(page));
END $$;

-- Files in this order, as manifold.store.files.FileView, each with its inputs as manifold.store.inputs.InputView.
CREATE FUNCTION file_views(file_ids text[], with_inputs boolean) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT coalesce(json_agg(view ORDER BY place)::text, '[]') FROM (
        SELECT place, json_build_object('file', row_to_json(file), 'inputs', inputs) AS view
        FROM unnest(file_ids) WITH ORDINALITY AS ids (of_file, place) CROSS JOIN LATERAL (
            SELECT id, purpose, filename, bytes, status, status_details, groups, created_at, expires_at
            FROM files WHERE files.id = of_file) AS file
        CROSS JOIN LATERAL (
            SELECT coalesce(json_agg(json_build_object('deployment_id', deployment_id, 'state', state, 'error', error)
                ORDER BY inputs.created_at, deployment_id), '[]') AS inputs
            FROM inputs WHERE with_inputs AND inputs.file_id = of_file AND state <> 'discarded') AS of_file) AS views);
END $$;

-- A file with its inputs, or with its report, or with neither.
CREATE FUNCTION read_file(hash text, of_file text, with_inputs boolean, with_report boolean) RETURNS text
LANGUAGE plpgsql STABLE SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    key api_keys;
    of_lines jsonb;
    seen text;
BEGIN
    SELECT * INTO key FROM api_keys WHERE token_hash = hash AND deleted_at IS NULL;
    IF hash IS NOT NULL AND key.id IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT CASE WHEN with_report THEN report END INTO of_lines FROM files
    WHERE id = of_file AND deleted_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())
        AND sees(key, user_id, team_id, key_id);
    IF FOUND THEN
        seen := '{"files":' || file_views(ARRAY[of_file], with_inputs)
            || ',"report":' || coalesce(of_lines::text, 'null') || '}';
    END IF;
    RETURN read_text(hash, key, seen);
END $$;

-- Files by age, `most` at most, from just after the file `after` if it is not null: no rows without it.
CREATE FUNCTION read_files(hash text, after text, ascending boolean, of_purpose text, names text[], most bigint)
RETURNS text LANGUAGE plpgsql STABLE SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    key api_keys;
    last_at timestamptz := CASE WHEN ascending THEN '-infinity' ELSE 'infinity' END;
    last_id text := '';
    meant text[];
    page text[];
BEGIN
    SELECT * INTO key FROM api_keys WHERE token_hash = hash AND deleted_at IS NULL;
    IF hash IS NOT NULL AND key.id IS NULL THEN
        RETURN NULL;
    END IF;
    IF after IS NOT NULL THEN
        SELECT created_at, id INTO last_at, last_id FROM files WHERE id = after AND sees(key, user_id, team_id, key_id);
        IF NOT FOUND THEN
            RETURN read_text(hash, key, NULL);
        END IF;
    END IF;
    meant := groups_of(key, names);
    IF ascending THEN
        page := ARRAY(
            SELECT id FROM (
                (SELECT created_at, id FROM files
                 WHERE hash IS NULL AND (created_at, id) > (last_at, last_id)
                     AND deleted_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())
                     AND CASE WHEN of_purpose IS NULL THEN true ELSE purpose = of_purpose END AND CASE WHEN meant IS NULL THEN true ELSE groups && meant END
                 ORDER BY created_at, id LIMIT most)
                UNION
                (SELECT created_at, id FROM files
                 WHERE user_id = key.user_id AND (created_at, id) > (last_at, last_id)
                     AND deleted_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())
                     AND CASE WHEN of_purpose IS NULL THEN true ELSE purpose = of_purpose END AND CASE WHEN meant IS NULL THEN true ELSE groups && meant END
                 ORDER BY created_at, id LIMIT most)
                UNION
                (SELECT created_at, id FROM files
                 WHERE team_id = key.team_id AND (created_at, id) > (last_at, last_id)
                     AND deleted_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())
                     AND CASE WHEN of_purpose IS NULL THEN true ELSE purpose = of_purpose END AND CASE WHEN meant IS NULL THEN true ELSE groups && meant END
                 ORDER BY created_at, id LIMIT most)
                UNION
                (SELECT created_at, id FROM files
                 WHERE key_id = key.id AND user_id IS NULL AND team_id IS NULL AND (created_at, id) > (last_at, last_id)
                     AND deleted_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())
                     AND CASE WHEN of_purpose IS NULL THEN true ELSE purpose = of_purpose END AND CASE WHEN meant IS NULL THEN true ELSE groups && meant END
                 ORDER BY created_at, id LIMIT most)) AS visible
            ORDER BY created_at, id LIMIT most);
    ELSE
        page := ARRAY(
            SELECT id FROM (
                (SELECT created_at, id FROM files
                 WHERE hash IS NULL AND (created_at, id) < (last_at, last_id)
                     AND deleted_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())
                     AND CASE WHEN of_purpose IS NULL THEN true ELSE purpose = of_purpose END AND CASE WHEN meant IS NULL THEN true ELSE groups && meant END
                 ORDER BY created_at DESC, id DESC LIMIT most)
                UNION
                (SELECT created_at, id FROM files
                 WHERE user_id = key.user_id AND (created_at, id) < (last_at, last_id)
                     AND deleted_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())
                     AND CASE WHEN of_purpose IS NULL THEN true ELSE purpose = of_purpose END AND CASE WHEN meant IS NULL THEN true ELSE groups && meant END
                 ORDER BY created_at DESC, id DESC LIMIT most)
                UNION
                (SELECT created_at, id FROM files
                 WHERE team_id = key.team_id AND (created_at, id) < (last_at, last_id)
                     AND deleted_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())
                     AND CASE WHEN of_purpose IS NULL THEN true ELSE purpose = of_purpose END AND CASE WHEN meant IS NULL THEN true ELSE groups && meant END
                 ORDER BY created_at DESC, id DESC LIMIT most)
                UNION
                (SELECT created_at, id FROM files
                 WHERE key_id = key.id AND user_id IS NULL AND team_id IS NULL AND (created_at, id) < (last_at, last_id)
                     AND deleted_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())
                     AND CASE WHEN of_purpose IS NULL THEN true ELSE purpose = of_purpose END AND CASE WHEN meant IS NULL THEN true ELSE groups && meant END
                 ORDER BY created_at DESC, id DESC LIMIT most)) AS visible
            ORDER BY created_at DESC, id DESC LIMIT most);
    END IF;
    RETURN read_text(hash, key, file_views(page, true));
END $$;

-- A key as manifold.store.keys.KeyRow, and users and teams as the rows of theirs. Budgets are text, to keep their digits.
CREATE FUNCTION key_view(key api_keys) RETURNS json LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN json_build_object('id', key.id, 'token_hash', key.token_hash, 'name', key.name, 'alias', key.alias,
        'user_id', key.user_id, 'team_id', key.team_id, 'models', key.models, 'aliases', key.aliases,
        'metadata', key.metadata, 'blocked', key.blocked, 'expires_at', key.expires_at, 'rpm_limit', key.rpm_limit,
        'tpm_limit', key.tpm_limit, 'max_parallel_requests', key.max_parallel_requests,
        'max_budget', key.max_budget::text, 'budget_duration', key.budget_duration,
        'batch_enqueued_token_limit', key.batch_enqueued_token_limit,
        'batch_enqueued_request_limit', key.batch_enqueued_request_limit, 'batch_over_limit', key.batch_over_limit,
        'retry_failed_lines', key.retry_failed_lines, 'created_by', key.created_by, 'created_at', key.created_at,
        'updated_at', key.updated_at);
END $$;

-- The key of this hash, id or alias (`by`), or the holder's own where `by` is null, with what it has cost.
CREATE FUNCTION read_key(hash text, by text, value text) RETURNS text
LANGUAGE plpgsql STABLE SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    key api_keys;
    shown api_keys;
    seen json;
BEGIN
    SELECT * INTO key FROM api_keys WHERE token_hash = hash AND deleted_at IS NULL;
    IF hash IS NOT NULL AND key.id IS NULL THEN
        RETURN NULL;
    END IF;
    CASE by
        WHEN 'token_hash' THEN SELECT * INTO shown FROM api_keys WHERE token_hash = value AND deleted_at IS NULL;
        WHEN 'id' THEN SELECT * INTO shown FROM api_keys WHERE id = value AND deleted_at IS NULL;
        WHEN 'alias' THEN SELECT * INTO shown FROM api_keys WHERE alias = value AND deleted_at IS NULL;
        ELSE shown := key;
    END CASE;
    IF shown.id IS NOT NULL AND (hash IS NULL OR shown.id = key.id) THEN
        seen := json_build_object('row', key_view(shown), 'spend', spend_of_key(shown.id)::text);
    END IF;
    RETURN read_text(hash, key, seen::text);
END $$;

-- The user of this id, or the key's own where it is null, with what it has cost and, of its newest `most` keys, those that
-- the holder may see: for the master key all, else its own.
CREATE FUNCTION read_user(hash text, of_user text, most bigint) RETURNS text
LANGUAGE plpgsql STABLE SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    key api_keys;
    seen json;
BEGIN
    SELECT * INTO key FROM api_keys WHERE token_hash = hash AND deleted_at IS NULL;
    IF hash IS NOT NULL AND key.id IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT json_build_object('row', row_to_json(shown), 'spend', spend_of_user(shown.id)::text, 'keys', (
        SELECT coalesce(json_agg(key_view(newest) ORDER BY newest.created_at DESC, newest.id DESC), '[]') FROM (
            SELECT * FROM api_keys WHERE user_id = shown.id AND deleted_at IS NULL
            ORDER BY created_at DESC, id DESC LIMIT most) AS newest
        WHERE hash IS NULL OR newest.id = key.id)) INTO seen
    FROM (
        SELECT id, alias, email, models, metadata, rpm_limit, tpm_limit, max_parallel_requests,
            max_budget::text AS max_budget, budget_duration, batch_enqueued_token_limit, batch_enqueued_request_limit,
            batch_over_limit, retry_failed_lines, created_at, updated_at
        FROM users WHERE id = coalesce(of_user, key.user_id) AND (hash IS NULL OR id = key.user_id)) AS shown;
    RETURN read_text(hash, key, seen::text);
END $$;

-- The same of a team.
CREATE FUNCTION read_team(hash text, of_team text, most bigint) RETURNS text
LANGUAGE plpgsql STABLE SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    key api_keys;
    seen json;
BEGIN
    SELECT * INTO key FROM api_keys WHERE token_hash = hash AND deleted_at IS NULL;
    IF hash IS NOT NULL AND key.id IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT json_build_object('row', row_to_json(shown), 'spend', spend_of_team(shown.id)::text, 'keys', (
        SELECT coalesce(json_agg(key_view(newest) ORDER BY newest.created_at DESC, newest.id DESC), '[]') FROM (
            SELECT * FROM api_keys WHERE team_id = shown.id AND deleted_at IS NULL
            ORDER BY created_at DESC, id DESC LIMIT most) AS newest
        WHERE hash IS NULL OR newest.id = key.id)) INTO seen
    FROM (
        SELECT id, alias, models, metadata, blocked, rpm_limit, tpm_limit, max_parallel_requests,
            max_budget::text AS max_budget, budget_duration, batch_enqueued_token_limit, batch_enqueued_request_limit,
            batch_over_limit, retry_failed_lines, created_at, updated_at
        FROM teams WHERE id = coalesce(of_team, key.team_id) AND (hash IS NULL OR id = key.team_id)) AS shown;
    RETURN read_text(hash, key, seen::text);
END $$;
