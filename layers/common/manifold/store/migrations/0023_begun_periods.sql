-- Calls that a limit refuses begin a budget's period, too. Code of before calls admit_calls of 0019_completions.sql,
-- with which only admitted ones begin it: where a used-up budget is given a period or a shorter one, each refusal puts
-- off its end.

-- Counts so many calls for each holder, and holds the lease for `seconds`: for all or, at a limit, for none. Begins the
-- periods of their budgets in either case. Returns how each stood before. The rows are locked first, in one order, and
-- read as they are then. Its plan is generic, as to plan each call anew took two fifths of its time.
CREATE FUNCTION meter_calls(
    subjects text[], rpm bigint[], tpm bigint[], parallel bigint[], budgets numeric[], periods float8[],
    calls bigint, lease text, seconds float8,
    OUT subject text, OUT reached text[], OUT spent numeric, OUT minute_left float8
) RETURNS SETOF record LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
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
            CASE WHEN requests + meter_calls.calls > rpm_limit THEN 'rpm_limit' END,
            CASE WHEN tokens >= tpm_limit THEN 'tpm_limit' END,
            CASE WHEN under_way + meter_calls.calls > max_parallel_requests THEN 'max_parallel_requests' END], NULL)
            AS reached
        FROM standing
    ), outcome AS (
        SELECT count(*) = cardinality(subjects) AND bool_and(cardinality(judged.reached) = 0) AS is_admitted FROM judged
    ), metered AS (
        UPDATE meters SET minute = greatest(meters.minute, this_minute),
            requests = judged.requests + CASE WHEN is_admitted THEN meter_calls.calls ELSE 0 END,
            tokens = judged.tokens, spent = judged.spent, period_ends_at = judged.period_ends_at,
            period_seconds = judged.period,
            leases = CASE WHEN is_admitted AND judged.max_parallel_requests IS NOT NULL
                THEN judged.leases || jsonb_build_object(meter_calls.lease,
                    jsonb_build_array(meter_calls.calls, extract(epoch FROM now()) + meter_calls.seconds))
                ELSE judged.leases END
        FROM judged CROSS JOIN outcome WHERE meters.subject = judged.subject
            AND (is_admitted OR (meters.period_ends_at, meters.period_seconds)
                IS DISTINCT FROM (judged.period_ends_at, judged.period))
    )
    SELECT judged.subject, judged.reached, judged.spent,
        extract(epoch FROM this_minute + interval '1 minute' - now())::float8
    FROM judged;
END $$;

-- The same for a key, if it may still do what it was known to: returns what it may do now and, if that is the same, how
-- each holder stood, as JSON. If it is not, nothing is admitted.
CREATE FUNCTION meter_calls_of(
    hash text, known text, subjects text[], rpm bigint[], tpm bigint[], parallel bigint[], budgets numeric[],
    periods float8[], calls bigint, lease text, seconds float8, OUT grant_now text, OUT standings text
) LANGUAGE plpgsql AS $$
BEGIN
    grant_now := grant_of_hash(hash);
    IF grant_now = known THEN
        standings := (SELECT json_agg(json_build_object('subject', one.subject, 'reached', one.reached,
                'spent', one.spent::text, 'minute_left', one.minute_left))
            FROM meter_calls(subjects, rpm, tpm, parallel, budgets, periods, calls, lease, seconds) one);
    END IF;
END $$;
