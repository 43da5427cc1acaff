-- One span per counting register at the edge of a zone, for register_volumes.sql.
WITH span AS (
    SELECT row_number() OVER ()::int AS span_id, i.id AS installation, m.id AS meter_id,
           greatest(i.installed_at, %(lower)s) AS lower,
           least(coalesce(i.removed_at, 'infinity'), %(upper)s) AS upper,
           i.installed_at AS starts, coalesce(i.removed_at + interval '1 day', 'infinity') AS ends,
           power(10::numeric, m.dials) * m.multiplier * f.m3 AS modulus_m3
    FROM meter_installation i
    JOIN meter m ON m.serial = i.serial AND m.register <> 'volume_interval'
    LEFT JOIN unnest(%(units)s::text[], %(factors)s::numeric[]) AS f (unit, m3) ON f.unit = m.unit
    WHERE i.zone IS NOT NULL AND i.installed_at < %(upper)s AND coalesce(i.removed_at, 'infinity') > %(lower)s
)
