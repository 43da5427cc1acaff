-- Spans whose volume is kept, and those that must be worked out; goes between a `span` and register_volumes.sql.
, touched AS (
    SELECT unnest(meters) AS meter_id, xid, first_at, last_at FROM reading_change
),
kept AS (
    SELECT s.span_id, k.volume_m3, k.straddling_m3, k.covered_s, k.breaks, k.first_at, k.last_at, k.newest_at,
           k.recent_m3_per_s
    FROM span s
    JOIN kept_volume k ON k.meter_id = s.meter_id AND k.lower = s.lower AND k.upper = s.upper
        AND k.starts = s.starts AND k.ends = s.ends AND k.modulus_m3 IS NOT DISTINCT FROM s.modulus_m3
    WHERE NOT EXISTS (
        SELECT FROM touched t WHERE t.meter_id = k.meter_id AND t.last_at >= k.used_from AND t.first_at <= k.used_to
          AND (t.xid = k.kept_by OR NOT pg_visible_in_snapshot(t.xid::xid8, k.snapshot::pg_snapshot))
    )
),
asked AS (
    SELECT s.* FROM span s WHERE NOT EXISTS (SELECT FROM kept k WHERE k.span_id = s.span_id)
)
