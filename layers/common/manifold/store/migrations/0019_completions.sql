-- The statements of a completion as functions (0018_functions.sql says why): docs/decisions/0037-one-statement.md

-- Adds what calls used to the meters of these holders, and ends their lease. What ends after its budget's period, as a
-- batch may, begins the next one.
CREATE FUNCTION use_meters(of_subjects text[], more_tokens bigint, more_spent numeric, ended_lease text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    WITH held AS MATERIALIZED (SELECT subject FROM meters WHERE subject = ANY(of_subjects) ORDER BY subject FOR UPDATE)
    UPDATE meters SET minute = greatest(minute, date_trunc('minute', now())),
        requests = CASE WHEN minute >= date_trunc('minute', now()) THEN requests ELSE 0 END,
        tokens = CASE WHEN minute >= date_trunc('minute', now()) THEN tokens ELSE 0 END + more_tokens,
        spent = CASE WHEN period_ends_at > now() THEN spent ELSE 0 END + more_spent,
        period_ends_at = CASE WHEN period_ends_at > now() OR period_seconds IS NULL THEN period_ends_at
            ELSE now() + make_interval(secs => period_seconds) END,
        leases = leases - ended_lease
    FROM held WHERE meters.subject = held.subject;
END $$;

-- Counts so many calls for each holder, and holds the lease for `seconds`: for all or, at a limit, for none. Returns how
-- each stood before. The rows are locked first, in one order, and read as they are then.
CREATE FUNCTION admit_calls(
    subjects text[], rpm bigint[], tpm bigint[], parallel bigint[], budgets numeric[], periods float8[],
    calls bigint, lease text, seconds float8,
    OUT subject text, OUT reached text[], OUT spent numeric, OUT minute_left float8
) RETURNS SETOF record LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    this_minute timestamptz := date_trunc('minute', now());
BEGIN
    IF (SELECT count(*) FROM meters WHERE meters.subject = ANY(subjects)) < cardinality(subjects) THEN
        INSERT INTO meters (subject) SELECT unnest(subjects) ORDER BY 1 ON CONFLICT DO NOTHING;
    END IF;
    RETURN QUERY
    WITH requested AS (
        SELECT * FROM unnest(subjects, rpm, tpm, parallel, budgets, periods)
            AS requested (subject, rpm_limit, tpm_limit, max_parallel_requests, max_budget, period)
    ), held AS MATERIALIZED (
        SELECT * FROM meters WHERE meters.subject = ANY(subjects) ORDER BY meters.subject FOR UPDATE
    ), standing AS (
        SELECT requested.*, live.*,
            CASE WHEN minute >= this_minute THEN requests ELSE 0 END AS requests,
            CASE WHEN minute >= this_minute THEN tokens ELSE 0 END AS tokens,
            CASE WHEN period_ends_at > now() THEN held.spent ELSE 0 END AS spent,
            CASE WHEN period IS NULL THEN 'infinity' WHEN period_ends_at > now()
                THEN least(period_ends_at, now() + make_interval(secs => period))
                ELSE now() + make_interval(secs => period) END AS period_ends_at
        FROM held JOIN requested USING (subject) CROSS JOIN LATERAL (
            SELECT coalesce(jsonb_object_agg(key, value), '{}') AS leases,
                coalesce(sum((value ->> 0)::bigint), 0)::bigint AS under_way
            FROM jsonb_each(leases) WHERE (value ->> 1)::float8 > extract(epoch FROM now())) live
    ), judged AS (
        SELECT *, array_remove(ARRAY[
            CASE WHEN standing.spent >= max_budget THEN 'max_budget' END,
            CASE WHEN requests + admit_calls.calls > rpm_limit THEN 'rpm_limit' END,
            CASE WHEN tokens >= tpm_limit THEN 'tpm_limit' END,
            CASE WHEN under_way + admit_calls.calls > max_parallel_requests THEN 'max_parallel_requests' END], NULL)
            AS reached
        FROM standing
    ), admitted AS (
        UPDATE meters SET minute = greatest(meters.minute, this_minute), requests = judged.requests + admit_calls.calls,
            tokens = judged.tokens, spent = judged.spent, period_ends_at = judged.period_ends_at,
            period_seconds = judged.period,
            leases = CASE WHEN judged.max_parallel_requests IS NULL THEN judged.leases
                ELSE judged.leases || jsonb_build_object(admit_calls.lease,
                    jsonb_build_array(admit_calls.calls, extract(epoch FROM now()) + admit_calls.seconds)) END
        FROM judged WHERE meters.subject = judged.subject
            AND (SELECT count(*) = cardinality(subjects) AND bool_and(cardinality(judged.reached) = 0) FROM judged)
    )
    SELECT judged.subject, judged.reached, judged.spent,
        extract(epoch FROM this_minute + interval '1 minute' - now())::float8
    FROM judged;
END $$;

-- The same for a key, if it may still do what it was known to: returns what it may do now and, if that is the same, how
-- each holder stood, as JSON. If it is not, nothing is admitted.
CREATE FUNCTION admit_calls_of(
    hash text, known text, subjects text[], rpm bigint[], tpm bigint[], parallel bigint[], budgets numeric[],
    periods float8[], calls bigint, lease text, seconds float8, OUT grant_now text, OUT standings text
) LANGUAGE plpgsql AS $$
BEGIN
    grant_now := grant_of_hash(hash);
    IF grant_now = known THEN
        standings := (SELECT json_agg(json_build_object('subject', one.subject, 'reached', one.reached,
                'spent', one.spent::text, 'minute_left', one.minute_left))
            FROM admit_calls(subjects, rpm, tpm, parallel, budgets, periods, calls, lease, seconds) one);
    END IF;
END $$;

-- Writes calls that have ended, adds what they used to the meters of these holders, and returns what the key with this
-- hash may do now: the answers of a key that may no longer have them do not leave. The calls are those of the key's user
-- and team as they are now; without such a key, of those that are given.
CREATE FUNCTION record_calls(
    calls json, key_id text, user_id text, team_id text, hash text,
    of_subjects text[], more_tokens bigint, more_spent numeric, ended_lease text
) RETURNS text LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    of_key api_keys;
BEGIN
    SELECT * INTO of_key FROM api_keys WHERE token_hash = hash;
    IF FOUND THEN
        key_id := of_key.id;
        user_id := of_key.user_id;
        team_id := of_key.team_id;
    END IF;
    INSERT INTO calls (key_id, user_id, team_id, id, model_group, deployment_id, route, status, error,
        input_tokens, cached_tokens, output_tokens, reasoning_tokens, cost, seconds)
    SELECT key_id, user_id, team_id, call.* FROM json_to_recordset(calls) AS call (
        id text, model_group text, deployment_id text, route text, status integer, error text, input_tokens bigint,
        cached_tokens bigint, output_tokens bigint, reasoning_tokens bigint, cost numeric, seconds float8);
    IF of_subjects IS NOT NULL THEN
        PERFORM use_meters(of_subjects, more_tokens, more_spent, ended_lease);
    END IF;
    RETURN CASE WHEN of_key.id IS NOT NULL AND of_key.deleted_at IS NULL THEN key_grant(of_key) END;
END $$;
