-- The statements of every request, as functions: Postgres plans what is in a function once for each of its connections,
-- behind any pooler. A statement that changes becomes a function of another name: code of before still calls this one.
-- docs/decisions/0037-one-statement.md

-- What authentication needs of a key, its user and its team, as the text of a JSON object.
CREATE FUNCTION key_grant(key api_keys) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT json_build_object('key_id', key.id, 'user_id', key.user_id, 'team_id', key.team_id, 'aliases', key.aliases,
        'expired', coalesce(key.expires_at <= now(), false),
        'key', json_build_object('models', key.models, 'blocked', key.blocked,
            'limits', json_build_object('rpm_limit', key.rpm_limit, 'tpm_limit', key.tpm_limit,
                'max_parallel_requests', key.max_parallel_requests, 'max_budget', key.max_budget::text,
                'budget_duration', key.budget_duration, 'batch_enqueued_token_limit', key.batch_enqueued_token_limit,
                'batch_enqueued_request_limit', key.batch_enqueued_request_limit,
                'batch_over_limit', key.batch_over_limit),
            'retry_failed_lines', key.retry_failed_lines),
        'user', (SELECT json_build_object('models', models, 'blocked', false,
            'limits', json_build_object('rpm_limit', rpm_limit, 'tpm_limit', tpm_limit,
                'max_parallel_requests', max_parallel_requests, 'max_budget', max_budget::text,
                'budget_duration', budget_duration, 'batch_enqueued_token_limit', batch_enqueued_token_limit,
                'batch_enqueued_request_limit', batch_enqueued_request_limit, 'batch_over_limit', batch_over_limit),
            'retry_failed_lines', retry_failed_lines) FROM users WHERE users.id = key.user_id),
        'team', (SELECT json_build_object('models', models, 'blocked', blocked,
            'limits', json_build_object('rpm_limit', rpm_limit, 'tpm_limit', tpm_limit,
                'max_parallel_requests', max_parallel_requests, 'max_budget', max_budget::text,
                'budget_duration', budget_duration, 'batch_enqueued_token_limit', batch_enqueued_token_limit,
                'batch_enqueued_request_limit', batch_enqueued_request_limit, 'batch_over_limit', batch_over_limit),
            'retry_failed_lines', retry_failed_lines) FROM teams WHERE teams.id = key.team_id))::text
$$;

-- The same for the key with this hash; null if there is none.
CREATE FUNCTION grant_of_hash(hash text) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT key_grant(api_keys) FROM api_keys WHERE token_hash = hash AND deleted_at IS NULL);
END $$;

-- The same for the key with this id.
CREATE FUNCTION grant_of_key(id text) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT key_grant(api_keys) FROM api_keys WHERE api_keys.id = grant_of_key.id AND deleted_at IS NULL);
END $$;
