-- Consumption per zone from registers and bills, each point and period from exactly one of the two.
--
-- A point's source is its bills, unless its registers cover the window by actual readings for more than a day longer, or
-- a tenth of a short window (no bill yet, or an estimated one). Bills and read-to-read volumes are spread evenly over
-- their time. A meter of which no counting register was read is taken by the volumes of its intervals, if it reports any.
, by_interval AS MATERIALIZED (
    SELECT i.serial, p.zone, p.service_point, m.purpose <> 'revenue' AS unbilled, r.m3, r.intervals * r.step_s AS covered_s,
           t.expected_s
    FROM member p
    JOIN meter_installation i ON i.service_point = p.service_point
        AND i.installed_at < p.upper AND coalesce(i.removed_at, 'infinity') > p.lower
    JOIN meter m ON m.serial = i.serial AND m.register = 'volume_interval' AND m.purpose IN ('revenue', 'unbilled', 'fire')
    CROSS JOIN LATERAL (
        SELECT lower, upper, extract(epoch FROM upper - lower)::float8 AS expected_s
        FROM (VALUES (greatest(i.installed_at, p.lower), least(coalesce(i.removed_at, 'infinity'), p.upper))) b (lower, upper)
    ) t
    CROSS JOIN LATERAL (
        SELECT sum(value_m3)::float8 AS m3, count(*) AS intervals,
               -- the length most intervals have: gaps do not count as measured
               (mode() WITHIN GROUP (ORDER BY length_s))::float8 AS step_s
        FROM (
            SELECT value_m3, extract(epoch FROM measured_at - lag(measured_at) OVER (ORDER BY measured_at)) AS length_s
            FROM reading WHERE meter_id = m.id AND measured_at > t.lower AND measured_at <= t.upper
                AND value_m3 IS NOT NULL AND quality IN ('good', 'suspect')
        ) q
    ) r
    WHERE r.step_s > 0 AND NOT EXISTS (
        SELECT FROM span s JOIN register_volume v USING (span_id) WHERE s.serial = i.serial AND v.covered_s > 0
    )
),
counted AS (
    SELECT s.zone, s.service_point, s.purpose <> 'revenue' AS unbilled,
           sum(s.sign * coalesce(r.volume_m3, 0)) AS m3,
           sum(s.sign * coalesce(t.tail_m3, 0)) AS extrapolated_m3,
           sum(coalesce(r.straddling_m3, 0)) FILTER (WHERE s.sign > 0) AS straddling_m3,
           sum(coalesce(r.covered_s, 0)) FILTER (WHERE s.sign > 0) AS covered_s,
           sum(extract(epoch FROM s.upper - s.lower)) FILTER (WHERE s.sign > 0) AS expected_s,
           sum(coalesce(r.breaks, 0)) AS breaks
    FROM (SELECT span.*, CASE register WHEN 'volume_reverse' THEN -1 ELSE 1 END AS sign FROM span) s
    LEFT JOIN register_volume r USING (span_id)
    CROSS JOIN LATERAL (
        SELECT CASE WHEN s.open_ended AND r.newest_at < s.upper AND r.recent_m3_per_s > 0
                    THEN r.recent_m3_per_s * extract(epoch FROM s.upper - greatest(r.newest_at, s.lower)) END AS tail_m3
    ) t
    WHERE NOT EXISTS (SELECT FROM by_interval u WHERE u.serial = s.serial AND u.zone = s.zone)
    GROUP BY 1, 2, 3
),
metered AS (
    SELECT zone, service_point, unbilled, sum(m3) AS m3, sum(extrapolated_m3) AS extrapolated_m3,
           sum(straddling_m3) AS straddling_m3, sum(covered_s) AS covered_s, sum(expected_s) AS expected_s,
           sum(breaks) AS breaks
    FROM (
        SELECT * FROM counted
        UNION ALL
        -- hours that are missing are taken for what the others use on average
        SELECT zone, service_point, unbilled, m3, m3 / covered_s * greatest(0, expected_s - covered_s), 0,
               least(covered_s, expected_s), expected_s, 0
        FROM by_interval
    ) b
    GROUP BY 1, 2, 3
),
bill AS (
    SELECT w.zone, w.service_point, b.volume_m3::float8 AS volume_m3, b.estimated,
           b.from_day::timestamp AT TIME ZONE %(time_zone)s AS since, b.to_day::timestamp AT TIME ZONE %(time_zone)s AS until,
           w.lower, w.upper
    FROM member w
    JOIN billed_consumption b ON b.service_point = w.service_point AND b.replaced_by IS NULL
        AND b.from_day < (w.upper AT TIME ZONE %(time_zone)s)::date + 1
        AND b.to_day > (w.lower AT TIME ZONE %(time_zone)s)::date
    WHERE NOT EXISTS (
        SELECT FROM meter m WHERE m.serial = b.meter AND m.purpose IN ('sub', 'deduct', 'reclaimed')
    )
),
spread AS (
    SELECT zone, service_point, estimated,
           volume_m3 * extract(epoch FROM least(until, upper) - greatest(since, lower))
               / extract(epoch FROM until - since) AS m3,
           since < lower OR until > upper AS straddles,
           tstzrange(greatest(since, lower), least(until, upper)) AS inside
    FROM bill WHERE since < upper AND until > lower
),
billed_days AS (
    SELECT zone, service_point, sum(m3) AS m3, coalesce(sum(m3) FILTER (WHERE estimated), 0) AS estimated_m3,
           coalesce(sum(m3) FILTER (WHERE straddles), 0) AS straddling_m3,
           range_agg(inside) AS days, range_agg(inside) FILTER (WHERE NOT estimated) AS actual_days
    FROM spread GROUP BY zone, service_point
),
billed AS (
    SELECT zone, service_point, m3, estimated_m3, straddling_m3,
           (SELECT sum(extract(epoch FROM upper(d) - lower(d))) FROM unnest(days) d) AS covered_s,
           (SELECT sum(extract(epoch FROM upper(d) - lower(d))) FROM unnest(actual_days) d) AS actual_s
    FROM billed_days
),
-- somebody lives here and nothing is measured: expected, and not known; its days are local ones
lived_in AS (
    SELECT w.zone, w.service_point, max(extract(epoch FROM w.upper - w.lower)) AS expected_s,
           range_agg(tsrange(
               greatest(w.lower AT TIME ZONE %(time_zone)s, o.since::timestamp),
               least(w.upper AT TIME ZONE %(time_zone)s, coalesce(o.until, 'infinity')::timestamp)
           )) AS days
    FROM member w JOIN occupancy o ON o.service_point = w.service_point
        AND o.since < w.upper AT TIME ZONE %(time_zone)s
        AND coalesce(o.until, 'infinity') > w.lower AT TIME ZONE %(time_zone)s
    WHERE NOT EXISTS (
        SELECT FROM meter_installation i
        WHERE i.service_point = w.service_point AND i.installed_at < w.upper
          AND coalesce(i.removed_at, 'infinity') > w.lower
    )
    GROUP BY 1, 2
),
point AS (
    SELECT zone, service_point, m.m3 AS register_m3, m.extrapolated_m3, m.covered_s AS register_s,
           coalesce(m.expected_s, lived_in.expected_s) AS expected_s, m.breaks, m.service_point IS NULL AS unmetered,
           (SELECT sum(extract(epoch FROM upper(d) - lower(d))) FROM unnest(lived_in.days) d) / 86400 AS lived_days,
           m.straddling_m3 AS register_straddling_m3, b.straddling_m3 AS bill_straddling_m3, b.m3 AS bill_m3, b.estimated_m3, b.covered_s AS bill_s,
           b.service_point IS NOT NULL
               AND coalesce(b.actual_s, 0) + least(86400, 0.1 * m.expected_s) >= coalesce(m.covered_s, 0) AS from_bills
    FROM (SELECT * FROM metered WHERE NOT unbilled) m
    FULL JOIN billed b USING (zone, service_point)
    FULL JOIN lived_in USING (zone, service_point)
),
chosen AS (
    SELECT p.zone, p.service_point,
           CASE WHEN p.from_bills THEN 'bills' WHEN p.register_s > 0 THEN 'registers' ELSE 'none' END AS source,
           CASE WHEN p.from_bills THEN p.bill_m3 ELSE coalesce(p.register_m3, 0) + coalesce(p.extrapolated_m3, 0) END AS m3,
           CASE WHEN p.from_bills THEN 0 ELSE coalesce(p.extrapolated_m3, 0) END AS extrapolated_m3,
           CASE WHEN p.from_bills THEN p.estimated_m3 ELSE 0 END AS estimated_m3,
           CASE WHEN p.from_bills THEN p.bill_straddling_m3 ELSE coalesce(p.register_straddling_m3, 0) END AS straddling_m3,
           CASE WHEN p.from_bills THEN p.bill_s ELSE coalesce(p.register_s, 0) END AS covered_s,
           coalesce(p.expected_s, extract(epoch FROM w.upper - w.lower)) AS expected_s,
           coalesce(p.breaks, 0) AS breaks, p.unmetered, p.lived_days
    FROM point p JOIN zone_window w USING (zone)
)
, classed AS (
    SELECT c.zone, coalesce(p.premise_class, '') AS class, sum(c.m3)::float8 AS m3,
           count(*) FILTER (WHERE c.source <> 'none') AS points
    FROM chosen c JOIN service_point p ON p.id = c.service_point
    GROUP BY 1, 2 HAVING sum(c.m3) > 0
)
SELECT w.zone,
       (SELECT jsonb_object_agg(class, m3) FROM classed k WHERE k.zone = w.zone) AS by_class,
       (SELECT jsonb_object_agg(class, points) FROM classed k WHERE k.zone = w.zone) AS class_points,
       coalesce(sum(c.m3), 0)::float8 AS billed_m3,
       coalesce(sum(c.m3) FILTER (WHERE c.source = 'bills'), 0)::float8 AS from_bills_m3,
       coalesce(sum(c.m3) FILTER (WHERE c.source = 'registers'), 0)::float8 AS from_registers_m3,
       coalesce(sum(c.extrapolated_m3), 0)::float8 AS extrapolated_m3,
       coalesce(sum(c.estimated_m3), 0)::float8 AS estimated_m3,
       coalesce(sum(c.straddling_m3), 0)::float8 AS straddling_m3,
       -- billed without a meter, by a flat rate or an assessment
       coalesce(sum(c.m3) FILTER (WHERE c.unmetered AND c.source = 'bills'), 0)::float8 AS unmetered_m3,
       count(*) FILTER (WHERE c.unmetered) AS points_unmetered,
       count(c.source) AS points,
       count(*) FILTER (WHERE c.source = 'bills') AS points_from_bills,
       count(*) FILTER (WHERE c.source = 'registers') AS points_from_registers,
       count(*) FILTER (WHERE c.source = 'none') AS points_without_data,
       -- days of places with neither meter nor bill in which somebody lived there, for an assessment
       coalesce(sum(c.lived_days) FILTER (WHERE c.unmetered AND c.source = 'none'), 0)::float8 AS unmeasured_days,
       coalesce(sum(least(c.covered_s, c.expected_s)), 0)::float8 AS covered_s,
       coalesce(sum(c.expected_s), 0)::float8 AS expected_s,
       coalesce(sum(c.breaks), 0)::int AS register_breaks,
       coalesce(u.m3, 0)::float8 AS unbilled_m3,
       coalesce(u.extrapolated_m3, 0)::float8 AS unbilled_extrapolated_m3,
       coalesce(u.points, 0)::int AS points_unbilled
FROM zone_window w
LEFT JOIN chosen c USING (zone)
LEFT JOIN (
    SELECT zone, sum(m3 + extrapolated_m3) AS m3, sum(extrapolated_m3) AS extrapolated_m3, count(*) AS points
    FROM metered WHERE unbilled GROUP BY zone
) u USING (zone)
GROUP BY w.zone, u.m3, u.extrapolated_m3, u.points
