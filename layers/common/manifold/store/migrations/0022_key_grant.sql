-- What a key may do, as the same JSON as before, put together as text: `json_build_object` finds out anew, for each of its
-- 45 arguments, how that is written, which took longer than to write a call. Code of before reads it as it did.

-- What a key, a user or a team may use (`manifold.auth.Allowance`).
CREATE FUNCTION holder_grant(
    models text[], blocked boolean, rpm bigint, tpm bigint, parallel bigint, budget numeric, duration text,
    batch_tokens bigint, batch_requests bigint, over_limit text, retries integer
) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT '{"models":' || array_to_json(models)::text || ',"blocked":' || blocked::text
        || ',"limits":{"rpm_limit":' || coalesce(rpm::text, 'null')
        || ',"tpm_limit":' || coalesce(tpm::text, 'null')
        || ',"max_parallel_requests":' || coalesce(parallel::text, 'null')
        || ',"max_budget":' || coalesce(to_json(budget::text)::text, 'null')
        || ',"budget_duration":' || coalesce(to_json(duration)::text, 'null')
        || ',"batch_enqueued_token_limit":' || coalesce(batch_tokens::text, 'null')
        || ',"batch_enqueued_request_limit":' || coalesce(batch_requests::text, 'null')
        || ',"batch_over_limit":' || coalesce(to_json(over_limit)::text, 'null')
        || '},"retry_failed_lines":' || coalesce(retries::text, 'null') || '}'
$$;

CREATE OR REPLACE FUNCTION key_grant(key api_keys) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    of_user text;
    of_team text;
BEGIN
    IF key.user_id IS NOT NULL THEN
        of_user := (SELECT holder_grant(models, false, rpm_limit, tpm_limit, max_parallel_requests, max_budget,
                budget_duration, batch_enqueued_token_limit, batch_enqueued_request_limit, batch_over_limit,
                retry_failed_lines)
            FROM users WHERE id = key.user_id);
    END IF;
    IF key.team_id IS NOT NULL THEN
        of_team := (SELECT holder_grant(models, blocked, rpm_limit, tpm_limit, max_parallel_requests, max_budget,
                budget_duration, batch_enqueued_token_limit, batch_enqueued_request_limit, batch_over_limit,
                retry_failed_lines)
            FROM teams WHERE id = key.team_id);
    END IF;
    RETURN '{"key_id":' || to_json(key.id)::text
        || ',"user_id":' || coalesce(to_json(key.user_id)::text, 'null')
        || ',"team_id":' || coalesce(to_json(key.team_id)::text, 'null')
        || ',"aliases":' || coalesce(key.aliases::text, 'null')
        || ',"expired":' || coalesce(key.expires_at <= now(), false)::text
        || ',"key":' || holder_grant(key.models, key.blocked, key.rpm_limit, key.tpm_limit, key.max_parallel_requests,
            key.max_budget, key.budget_duration, key.batch_enqueued_token_limit, key.batch_enqueued_request_limit,
            key.batch_over_limit, key.retry_failed_lines)
        || ',"user":' || coalesce(of_user, 'null') || ',"team":' || coalesce(of_team, 'null') || '}';
END $$;
