-- Which place lies in which of the asked zones, over which part of its zone's window: by the boundaries of each day.
--
-- A place that never changed its zone lies in service_point.zone; the others are in zone_membership.
WITH zone_window AS (
    SELECT * FROM unnest(%(zones)s::text[], %(lowers)s::timestamptz[], %(uppers)s::timestamptz[]) AS w (zone, lower, upper)
),
member AS (
    SELECT w.zone, p.id AS service_point, w.lower, w.upper
    FROM zone_window w JOIN service_point p ON p.zone = w.zone
    WHERE NOT EXISTS (SELECT FROM zone_membership m WHERE m.service_point = p.id)
    UNION ALL
    SELECT w.zone, m.service_point, greatest(w.lower, t.lower), least(w.upper, t.upper)
    FROM zone_window w
    JOIN zone_membership m ON m.zone = w.zone
    CROSS JOIN LATERAL (
        SELECT m.valid_from::timestamp AT TIME ZONE %(time_zone)s AS lower,
               m.valid_to::timestamp AT TIME ZONE %(time_zone)s AS upper
    ) t
    WHERE t.lower < w.upper AND t.upper > w.lower
)
