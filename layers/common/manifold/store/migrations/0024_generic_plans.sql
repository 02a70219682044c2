-- Postgres planned the statement of use_meters anew at each call: it takes the number of subjects, which only the call
-- tells, for a reason to. That took a quarter of the time of a record with limits.
ALTER FUNCTION use_meters(text[], bigint, numeric, text) SET plan_cache_mode = force_generic_plan;
