-- What places used between two and four in the night, by class of premises, of those whose registers report often
-- enough; goes behind members.sql. On one of three sample nights such a register has two readings around the window; at
-- most a thousand of them are taken, evenly, by a hash of their key. A counter gives its rise; a register of intervals
-- the sum of those that end in the two hours, of nights with as many as it has at most.
, register AS (
    SELECT m.id AS meter_id, m.register = 'volume_interval' AS interval, k.service_point, coalesce(p.premise_class, '') AS premise_class
    FROM member k
    JOIN service_point p ON p.id = k.service_point
    JOIN meter_installation i ON i.service_point = k.service_point
        AND i.installed_at <= k.lower AND coalesce(i.removed_at, 'infinity') >= k.upper
    JOIN meter m ON m.serial = i.serial AND m.purpose IN ('revenue', 'unbilled')
        AND m.register NOT IN ('volume_reverse', 'alarm')
),
often AS (
    SELECT r.* FROM register r
    WHERE EXISTS (
        SELECT FROM unnest(%(nights)s::timestamptz[]) AS n (midnight)
        WHERE (
            SELECT count(*) FROM reading b WHERE b.meter_id = r.meter_id
              AND b.measured_at >= n.midnight + interval '90 minutes' AND b.measured_at <= n.midnight + interval '270 minutes'
        ) >= 2
    )
    ORDER BY hashint4(r.meter_id) LIMIT 1000
),
counted AS (
    SELECT o.meter_id, o.service_point, o.premise_class, (b.measured_at AT TIME ZONE %(time_zone)s)::date AS day,
           (max(b.value_m3) - min(b.value_m3))::float8
               / nullif(extract(epoch FROM max(b.measured_at) - min(b.measured_at))::float8 / 3600, 0) AS m3_h,
           extract(epoch FROM max(b.measured_at) - min(b.measured_at)) AS span_s
    FROM often o
    JOIN reading b ON NOT o.interval AND b.meter_id = o.meter_id AND b.measured_at >= %(lower)s AND b.measured_at < %(upper)s
        AND b.value_m3 IS NOT NULL AND b.quality IN ('good', 'suspect')
        AND (b.measured_at AT TIME ZONE %(time_zone)s)::time BETWEEN '01:30' AND '04:30'
    GROUP BY 1, 2, 3, 4
),
summed AS (
    SELECT o.meter_id, o.service_point, o.premise_class, (b.measured_at AT TIME ZONE %(time_zone)s)::date AS day,
           sum(b.value_m3)::float8 / 2 AS m3_h, count(*) AS intervals,
           max(count(*)) OVER (PARTITION BY o.meter_id) AS most
    FROM often o
    JOIN reading b ON o.interval AND b.meter_id = o.meter_id AND b.measured_at >= %(lower)s AND b.measured_at < %(upper)s
        AND b.value_m3 IS NOT NULL AND b.quality IN ('good', 'suspect')
        AND (b.measured_at AT TIME ZONE %(time_zone)s)::time > '02:00'
        AND (b.measured_at AT TIME ZONE %(time_zone)s)::time <= '04:00'
    GROUP BY 1, 2, 3, 4
),
night AS (
    SELECT meter_id, service_point, premise_class, m3_h FROM counted WHERE span_s >= 5400
    UNION ALL
    SELECT meter_id, service_point, premise_class, m3_h FROM summed WHERE intervals = most AND most >= 2
),
-- the same registers' mean flow over day and night
whole AS (
    SELECT o.meter_id, CASE WHEN o.interval THEN i.m3_h ELSE c.m3_h END AS m3_h
    FROM often o
    LEFT JOIN LATERAL (
        SELECT avg(b.value_m3)::float8 * (SELECT max(most) FROM summed s WHERE s.meter_id = o.meter_id) / 2 AS m3_h
        FROM reading b WHERE o.interval AND b.meter_id = o.meter_id AND b.measured_at >= %(lower)s
          AND b.measured_at < %(upper)s AND b.value_m3 IS NOT NULL AND b.quality IN ('good', 'suspect')
    ) i ON true
    LEFT JOIN LATERAL (
        SELECT (b.value_m3 - a.value_m3)::float8 / nullif(extract(epoch FROM b.measured_at - a.measured_at)::float8 / 3600, 0) AS m3_h
        FROM (
            SELECT measured_at, value_m3 FROM reading WHERE NOT o.interval AND meter_id = o.meter_id AND measured_at >= %(lower)s
              AND measured_at < %(upper)s AND value_m3 IS NOT NULL AND quality IN ('good', 'suspect') ORDER BY measured_at LIMIT 1
        ) a, (
            SELECT measured_at, value_m3 FROM reading WHERE NOT o.interval AND meter_id = o.meter_id AND measured_at >= %(lower)s
              AND measured_at < %(upper)s AND value_m3 IS NOT NULL AND quality IN ('good', 'suspect') ORDER BY measured_at DESC LIMIT 1
        ) b
    ) c ON true
),
-- a register that fell, or jumped beyond any night use, is no evidence
usual AS (
    SELECT n.service_point, n.premise_class, avg(n.m3_h) AS m3_h, avg(w.m3_h) AS mean_m3_h
    FROM night n JOIN whole w USING (meter_id)
    WHERE n.m3_h >= 0 AND n.m3_h < 200 AND w.m3_h >= 0 GROUP BY 1, 2
)
SELECT premise_class, count(*)::int AS metered, (avg(m3_h) * 1000)::float8 AS litres_h,
       (sum(m3_h) / nullif(sum(mean_m3_h), 0))::float8 AS night_share
FROM usual GROUP BY 1
