-- One span per counting register at the edge of a zone, for register_volumes.sql.
WITH span AS (
    SELECT i.id::text || '/' || m.id AS span_id, m.id AS meter_id,
           greatest(i.installed_at, %(lower)s) AS lower,
           least(coalesce(i.removed_at, 'infinity'), %(upper)s) AS upper,
           i.installed_at AS starts, coalesce(i.removed_at + interval '1 day', 'infinity') AS ends,
           i.removed_at IS NULL OR i.removed_at >= %(upper)s AS open_ended,
           power(10::numeric, m.dials) * m.multiplier * f.m3 AS modulus_m3
    FROM meter_installation i
    JOIN meter m ON m.serial = i.serial AND m.register <> 'volume_interval'
    LEFT JOIN unnest(%(units)s::text[], %(factors)s::numeric[]) AS f (unit, m3) ON f.unit = m.unit
    WHERE i.zone IS NOT NULL AND i.installed_at < %(upper)s AND coalesce(i.removed_at, 'infinity') > %(lower)s
)
