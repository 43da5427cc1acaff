-- One span per counting register at a service point of the asked zones, over its zone's window, for
-- register_volumes.sql; goes behind members.sql. Meters that stand behind another one, or measure other water, do not
-- count.
, span AS (
    SELECT row_number() OVER ()::int AS span_id, m.id AS meter_id, i.serial, p.service_point, p.zone, m.register,
           m.purpose, greatest(i.installed_at, p.lower) AS lower,
           least(coalesce(i.removed_at + interval '1 day', 'infinity'), p.upper) AS upper,
           i.installed_at AS starts, coalesce(i.removed_at + interval '1 day', 'infinity') AS ends,
           coalesce(i.removed_at, 'infinity') >= p.upper AS open_ended,
           power(10::numeric, m.dials) * m.multiplier * f.m3 AS modulus_m3
    FROM member p
    JOIN meter_installation i ON i.service_point = p.service_point
        AND i.installed_at < p.upper AND coalesce(i.removed_at, 'infinity') > p.lower
    JOIN meter m ON m.serial = i.serial AND m.purpose IN ('revenue', 'unbilled', 'fire')
        AND m.register NOT IN ('volume_interval', 'alarm')
    LEFT JOIN unnest(%(units)s::text[], %(factors)s::numeric[]) AS f (unit, m3) ON f.unit = m.unit
)
