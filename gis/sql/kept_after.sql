-- Keeps what register_volumes.sql worked out, and puts it beside what was kept; see gis/kept.py.
, used AS (
    -- a reading beyond these would not have been looked at
    SELECT span_id, CASE WHEN count(*) FILTER (WHERE at <= lower) >= 4 THEN min(at) ELSE '-infinity' END AS used_from,
           CASE WHEN count(*) FILTER (WHERE at >= upper) >= 3 THEN max(at) ELSE 'infinity' END AS used_to
    FROM raw GROUP BY span_id
),
keeping AS (
    INSERT INTO kept_volume (meter_id, lower, upper, starts, ends, modulus_m3, volume_m3, straddling_m3, covered_s,
        breaks, first_at, last_at, newest_at, recent_m3_per_s, used_from, used_to, snapshot,
        kept_by)
    SELECT s.meter_id, s.lower, s.upper, s.starts, s.ends, s.modulus_m3, c.volume_m3, c.straddling_m3, c.covered_s,
           c.breaks, c.first_at, c.last_at, c.newest_at, c.recent_m3_per_s, u.used_from, u.used_to,
           pg_current_snapshot()::text, pg_current_xact_id()::text
    FROM computed c JOIN asked s USING (span_id) JOIN used u USING (span_id)
    ORDER BY s.meter_id, s.lower
    ON CONFLICT (meter_id, lower, upper, starts) DO UPDATE SET ends = excluded.ends, modulus_m3 = excluded.modulus_m3,
        volume_m3 = excluded.volume_m3, straddling_m3 = excluded.straddling_m3, covered_s = excluded.covered_s,
        breaks = excluded.breaks, first_at = excluded.first_at, last_at = excluded.last_at,
        newest_at = excluded.newest_at, recent_m3_per_s = excluded.recent_m3_per_s, used_from = excluded.used_from,
        used_to = excluded.used_to, snapshot = excluded.snapshot,
        kept_by = excluded.kept_by
),
register_volume AS (
    SELECT * FROM kept
    UNION ALL
    SELECT span_id, volume_m3, straddling_m3, covered_s, breaks, first_at, last_at, newest_at, recent_m3_per_s
    FROM computed
)
