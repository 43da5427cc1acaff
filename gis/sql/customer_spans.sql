-- One span per counting register at a service point of the asked zones, over its zone's window, for
-- register_volumes.sql. Meters that stand behind another one, or measure other water, do not count.
WITH zone_window AS (
    SELECT * FROM unnest(%(zones)s::text[], %(lowers)s::timestamptz[], %(uppers)s::timestamptz[]) AS w (zone, lower, upper)
),
span AS (
    SELECT row_number() OVER ()::int AS span_id, m.id AS meter_id, i.serial, p.id AS service_point, p.zone, m.register,
           m.purpose, greatest(i.installed_at, w.lower) AS lower,
           least(coalesce(i.removed_at + interval '1 day', 'infinity'), w.upper) AS upper,
           i.installed_at AS starts, coalesce(i.removed_at + interval '1 day', 'infinity') AS ends,
           coalesce(i.removed_at, 'infinity') >= w.upper AS open_ended,
           power(10::numeric, m.dials) * m.multiplier * f.m3 AS modulus_m3
    FROM zone_window w
    JOIN service_point p ON p.zone = w.zone
    JOIN meter_installation i ON i.service_point = p.id
        AND i.installed_at < w.upper AND coalesce(i.removed_at, 'infinity') > w.lower
    JOIN meter m ON m.serial = i.serial AND m.purpose IN ('revenue', 'unbilled', 'fire')
        AND m.register NOT IN ('volume_interval', 'alarm')
    LEFT JOIN unnest(%(units)s::text[], %(factors)s::numeric[]) AS f (unit, m3) ON f.unit = m.unit
)
