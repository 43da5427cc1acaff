-- The level of every tank at two instants: between its neighbouring readings, no more than two days apart from it.
WITH tank AS (
    SELECT tank,
           (array_agg(zone ORDER BY read_at DESC) FILTER (WHERE zone IS NOT NULL))[1] AS zone,
           (array_agg(area_m2 ORDER BY read_at DESC) FILTER (WHERE area_m2 IS NOT NULL))[1]::float8 AS area_m2
    FROM tank_level GROUP BY tank
)
SELECT t.tank, t.zone, t.area_m2, i.at,
       CASE
           WHEN b.read_at IS NULL THEN a.level_m
           WHEN a.read_at IS NULL OR a.read_at = b.read_at THEN b.level_m
           ELSE b.level_m + (a.level_m - b.level_m) * extract(epoch FROM i.at - b.read_at) / extract(epoch FROM a.read_at - b.read_at)
       END::float8 AS level_m
FROM tank t
CROSS JOIN unnest(ARRAY[%(lower)s, %(upper)s]::timestamptz[]) AS i (at)
LEFT JOIN LATERAL (
    SELECT read_at, level_m FROM tank_level l
    WHERE l.tank = t.tank AND l.read_at <= i.at AND l.read_at > i.at - interval '2 days' ORDER BY read_at DESC LIMIT 1
) b ON true
LEFT JOIN LATERAL (
    SELECT read_at, level_m FROM tank_level l
    WHERE l.tank = t.tank AND l.read_at >= i.at AND l.read_at < i.at + interval '2 days' ORDER BY read_at LIMIT 1
) a ON true
WHERE t.zone IS NOT NULL
