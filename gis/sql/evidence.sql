-- What else is known of every zone in a window, by the boundaries of each day (weighted by time): its mains and
-- connections, its pressure and private pipes, its uses of water that no meter saw, and how many billing codes name
-- another zone than the place lies in.
WITH version AS (
    SELECT v.zone, v.geometry, v.area, v.lower, v.upper, v.pressure_m, v.private_pipe_m,
           (extract(epoch FROM least(v.upper, %(upper)s) - greatest(v.lower, %(lower)s))
               / extract(epoch FROM %(upper)s - %(lower)s))::float8 AS share
    FROM (
        SELECT code AS zone, geometry, ST_Area(geometry) AS area, pressure_m, private_pipe_m,
               coalesce(valid_from::timestamp AT TIME ZONE %(time_zone)s, '-infinity') AS lower,
               coalesce(valid_to::timestamp AT TIME ZONE %(time_zone)s, 'infinity') AS upper
        FROM zone
        UNION ALL
        SELECT f.zone, f.geometry, ST_Area(f.geometry), coalesce(f.pressure_m, z.pressure_m),
               coalesce(f.private_pipe_m, z.private_pipe_m),
               coalesce(f.valid_from::timestamp AT TIME ZONE %(time_zone)s, '-infinity'),
               f.valid_to::timestamp AT TIME ZONE %(time_zone)s
        FROM former_boundary f JOIN zone z ON z.code = f.zone
    ) v
    WHERE v.lower < %(upper)s AND v.upper > %(lower)s
),
pipes AS (
    SELECT v.zone, sum(v.share * ST_Length((
        CASE WHEN ST_Covers(v.geometry, m.geometry) THEN m.geometry ELSE ST_Intersection(v.geometry, m.geometry) END
    )::geography)) / 1000 AS km
    FROM version v JOIN main m ON ST_Intersects(v.geometry, m.geometry)
        AND coalesce(m.installed_on, '-infinity') < (%(upper)s AT TIME ZONE %(time_zone)s)::date
    GROUP BY 1
),
place AS (
    SELECT m.zone, m.service_point, 1::float8 AS share
    FROM (SELECT id AS service_point, zone FROM service_point WHERE zone IS NOT NULL) m
    WHERE NOT EXISTS (SELECT FROM zone_membership k WHERE k.service_point = m.service_point)
    UNION ALL
    SELECT k.zone, k.service_point,
           extract(epoch FROM least(t.upper, %(upper)s) - greatest(t.lower, %(lower)s))
               / extract(epoch FROM %(upper)s - %(lower)s)
    FROM zone_membership k
    CROSS JOIN LATERAL (
        SELECT k.valid_from::timestamp AT TIME ZONE %(time_zone)s AS lower,
               k.valid_to::timestamp AT TIME ZONE %(time_zone)s AS upper
    ) t
    WHERE t.lower < %(upper)s AND t.upper > %(lower)s
),
places AS (
    SELECT p.zone, sum(p.share)::float8 AS connections,
           count(*) FILTER (WHERE o.billing_zone IS NOT NULL) AS codes,
           count(*) FILTER (WHERE lower(o.billing_zone) NOT IN (lower(p.zone), lower(z.name))) AS wrong_codes
    FROM place p
    JOIN zone z ON z.code = p.zone
    LEFT JOIN LATERAL (
        SELECT billing_zone FROM occupancy o
        WHERE o.service_point = p.service_point AND o.billing_zone IS NOT NULL
          AND o.since < (%(upper)s AT TIME ZONE %(time_zone)s)::date
          AND coalesce(o.until, 'infinity') > (%(lower)s AT TIME ZONE %(time_zone)s)::date
        ORDER BY o.since DESC LIMIT 1
    ) o ON true
    GROUP BY 1
),
-- told by a crew in a form whose field has a unit of volume, or imported
used AS (
    SELECT o.id::text AS id, 'flushing' AS purpose, o.ended_at AS at, coalesce(o.position, p.geometry) AS geometry,
           (o.completion -> 'answers' ->> (f ->> 'name'))::numeric * u.m3 AS m3
    FROM work_order o
    LEFT JOIN service_point p ON p.id = o.service_point
    CROSS JOIN LATERAL jsonb_array_elements(o.type_snapshot -> 'field') f
    JOIN unnest(%(units)s::text[], %(factors)s::numeric[]) AS u (unit, m3) ON u.unit = f ->> 'unit'
    WHERE o.type = 'flushing' AND o.status IN ('completed', 'closed')
      AND o.ended_at >= %(lower)s AND o.ended_at < %(upper)s
      AND jsonb_typeof(o.type_snapshot -> 'field') = 'array'
      AND o.completion -> 'answers' ->> (f ->> 'name') ~ '^[0-9]{1,12}([.][0-9]{1,9})?$'
    UNION ALL
    SELECT id, purpose, at, geometry, volume_m3 FROM unbilled_use WHERE at >= %(lower)s AND at < %(upper)s
),
placed AS (
    SELECT DISTINCT ON (u.id) v.zone, u.purpose, u.m3
    FROM used u JOIN version v ON ST_Covers(v.geometry, u.geometry) AND u.at >= v.lower AND u.at < v.upper
    ORDER BY u.id, v.area, v.zone
),
uses AS (
    SELECT zone, jsonb_object_agg(purpose, m3) AS unbilled_use
    FROM (SELECT zone, purpose, sum(m3)::float8 AS m3 FROM placed GROUP BY 1, 2) s GROUP BY 1
)
SELECT z.code AS zone, known.pressure_m, known.private_pipe_m,
       coalesce(pipes.km, 0)::float8 AS mains_km, coalesce(places.connections, 0)::float8 AS connections,
       coalesce(places.codes, 0)::int AS codes, coalesce(places.wrong_codes, 0)::int AS wrong_codes, uses.unbilled_use
FROM zone z
CROSS JOIN LATERAL (
    SELECT (sum(v.share * v.pressure_m) / nullif(sum(v.share) FILTER (WHERE v.pressure_m IS NOT NULL), 0))::float8
               AS pressure_m,
           (sum(v.share * v.private_pipe_m) / nullif(sum(v.share) FILTER (WHERE v.private_pipe_m IS NOT NULL), 0))::float8
               AS private_pipe_m
    FROM version v WHERE v.zone = z.code
) known
LEFT JOIN pipes ON pipes.zone = z.code
LEFT JOIN places ON places.zone = z.code
LEFT JOIN uses ON uses.zone = z.code
