-- Sums of what calls and batches have cost, up to a moment, so that a key's spend does not read all of its rows.
-- docs/decisions/0039-sums-of-spend.md

-- past_spend and past_owner_spend have the cost of all rows of calls and usage that were written before `until`, deleted
-- or not; and no other. The table has one row at most; none: nothing is summed yet.
CREATE TABLE spend_summed (
    one        boolean     PRIMARY KEY DEFAULT true CHECK (one),
    until      timestamptz NOT NULL DEFAULT '-infinity',
    begins_at  timestamptz NOT NULL DEFAULT now()       -- nothing is summed before
);

-- Code of before adds the cost of rows when it deletes them, also that of rows that are in the sums. It ends with the
-- deploy. Where there is no row, it deletes none.
INSERT INTO spend_summed (begins_at) SELECT now() + interval '1 hour'
WHERE EXISTS (SELECT 1 FROM calls) OR EXISTS (SELECT 1 FROM usage);

-- The moment before which every row of calls and usage is in the sums.
CREATE FUNCTION spend_summed_until() RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT coalesce((SELECT until FROM spend_summed), '-infinity')
$$;

-- Adds about so many further rows of each table to the sums: of those older than `margin`, once they are of `every` seconds
-- or more. Returns whether all are added. One transaction, and one at a time: another one has nothing to do meanwhile.
CREATE FUNCTION sum_spend(most bigint, margin float8, every float8) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    since timestamptz;
    closed timestamptz;
    slice timestamptz;
BEGIN
    INSERT INTO spend_summed DEFAULT VALUES ON CONFLICT DO NOTHING;
    SELECT until INTO since FROM spend_summed WHERE begins_at <= now() FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN true;
    END IF;
    -- A row has the time at which its transaction began. Each transaction from before `closed` has ended.
    closed := least(now() - make_interval(secs => margin), (SELECT min(xact_start) FROM pg_stat_activity
        WHERE datname = current_database() AND backend_type = 'client backend'));
    IF closed < since + make_interval(secs => every) THEN
        RETURN true;
    END IF;
    slice := least(closed,
        (SELECT created_at FROM calls WHERE created_at >= since ORDER BY created_at, id OFFSET most LIMIT 1),
        (SELECT created_at FROM usage WHERE created_at >= since ORDER BY created_at, job_id OFFSET most LIMIT 1));
    IF slice = since THEN  -- more rows than that at one moment
        slice := least(closed, (SELECT min(created_at) FROM calls WHERE created_at > since),
            (SELECT min(created_at) FROM usage WHERE created_at > since));
    END IF;
    WITH spent AS MATERIALIZED (
        SELECT key_id, user_id, team_id, cost FROM calls WHERE created_at >= since AND created_at < slice
        UNION ALL SELECT key_id, user_id, team_id, cost FROM usage WHERE created_at >= since AND created_at < slice
    ), of_keys AS (
        INSERT INTO past_spend (key_id, cost, owned)
        SELECT key_id, sum(cost), sum(cost) FROM spent WHERE key_id IS NOT NULL AND cost IS NOT NULL GROUP BY key_id
        ON CONFLICT (key_id) DO UPDATE
            SET cost = past_spend.cost + excluded.cost, owned = past_spend.owned + excluded.owned
    ), of_owners AS (
        INSERT INTO past_owner_spend (owner, cost)
        SELECT owner, sum(cost) FROM spent
            CROSS JOIN LATERAL (VALUES ('user:' || user_id), ('team:' || team_id)) AS owners (owner)
        WHERE owner IS NOT NULL AND cost IS NOT NULL GROUP BY owner
        ON CONFLICT (owner) DO UPDATE SET cost = past_owner_spend.cost + excluded.cost
    )
    UPDATE spend_summed SET until = slice;
    RETURN slice = closed;
END $$;

-- What a key, a user and a team have cost so far, as far as prices are known: US dollars. Completions and batches, also
-- those whose rows were deleted: the sums, and the rows that are in none yet. The reads of 0020_reads.sql call it.
CREATE FUNCTION spend_of_key(of_key text) RETURNS numeric LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN coalesce((SELECT sum(cost) FROM calls WHERE key_id = of_key AND created_at >= spend_summed_until()), 0)
        + coalesce((SELECT sum(cost) FROM usage WHERE key_id = of_key AND created_at >= spend_summed_until()), 0)
        + coalesce((SELECT cost FROM past_spend WHERE key_id = of_key), 0);
END $$;

CREATE FUNCTION spend_of_user(of_user text) RETURNS numeric LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN coalesce((SELECT sum(cost) FROM calls WHERE user_id = of_user AND created_at >= spend_summed_until()), 0)
        + coalesce((SELECT sum(cost) FROM usage WHERE user_id = of_user AND created_at >= spend_summed_until()), 0)
        + coalesce((SELECT cost FROM past_owner_spend WHERE owner = 'user:' || of_user), 0)
        + coalesce((SELECT sum(past.cost - past.owned) FROM past_spend past JOIN api_keys ON api_keys.id = past.key_id
            WHERE api_keys.user_id = of_user), 0);
END $$;

CREATE FUNCTION spend_of_team(of_team text) RETURNS numeric LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN coalesce((SELECT sum(cost) FROM calls WHERE team_id = of_team AND created_at >= spend_summed_until()), 0)
        + coalesce((SELECT sum(cost) FROM usage WHERE team_id = of_team AND created_at >= spend_summed_until()), 0)
        + coalesce((SELECT cost FROM past_owner_spend WHERE owner = 'team:' || of_team), 0)
        + coalesce((SELECT sum(past.cost - past.owned) FROM past_spend past JOIN api_keys ON api_keys.id = past.key_id
            WHERE api_keys.team_id = of_team), 0);
END $$;
