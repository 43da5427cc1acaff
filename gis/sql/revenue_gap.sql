-- Meters whose water earned nothing, with the volume measured in that time, or estimated for a register that stands
-- still; behind revenue_spans.sql and register_volumes.sql. Of several reasons a place is told under the first.
, measured AS (
    SELECT s.kind, string_agg(DISTINCT s.why, '; ' ORDER BY s.why) AS why, s.service_point, s.serial, s.bill,
           min(s.lower) AS since, max(s.upper) AS until, sum(v.volume_m3) AS m3, false AS estimated
    FROM span s JOIN register_volume v USING (span_id)
    -- what was only spread over the edge of a part of the period need not have passed in it
    WHERE v.volume_m3 - CASE WHEN s.partly THEN v.straddling_m3 ELSE 0 END >= 0.01
    GROUP BY 1, 3, 4, 5
    HAVING sum(v.volume_m3) >= %(least_m3)s
),
-- a register that moved before, and has now stood still for three months in a lived-in place
still AS (
    SELECT p.service_point, p.serial, n.at, n.v, s.at AS moved_until,
           (s.v - a.v) / extract(epoch FROM s.at - a.at)::float8 AS m3_per_s
    FROM place p
    JOIN meter m ON m.serial = p.serial AND m.purpose = 'revenue'
        AND m.register NOT IN ('volume_interval', 'volume_reverse', 'alarm')
    CROSS JOIN LATERAL (
        SELECT r.measured_at AS at, r.value_m3::float8 AS v FROM reading r
        WHERE r.meter_id = m.id AND r.measured_at < p.upper AND r.measured_at > p.lower
          AND r.measured_at >= p.installed_at AND r.value_m3 IS NOT NULL AND r.quality IN ('good', 'suspect')
        ORDER BY r.measured_at DESC LIMIT 1
    ) n
    -- the last reading that stood lower, the first that stood where it stands now, and where its pace began
    CROSS JOIN LATERAL (
        SELECT r.measured_at AS at FROM reading r
        WHERE r.meter_id = m.id AND r.measured_at < n.at AND r.measured_at > n.at - interval '400 days'
          AND r.measured_at >= p.installed_at AND r.value_m3 < n.v AND r.quality IN ('good', 'suspect')
        ORDER BY r.measured_at DESC LIMIT 1
    ) b
    CROSS JOIN LATERAL (
        SELECT r.measured_at AS at, r.value_m3::float8 AS v FROM reading r
        WHERE r.meter_id = m.id AND r.measured_at > b.at AND r.value_m3 IS NOT NULL AND r.quality IN ('good', 'suspect')
        ORDER BY r.measured_at LIMIT 1
    ) s
    CROSS JOIN LATERAL (
        SELECT r.measured_at AS at, r.value_m3::float8 AS v FROM reading r
        WHERE r.meter_id = m.id AND r.measured_at <= b.at AND r.measured_at > b.at - interval '200 days'
          AND r.measured_at >= p.installed_at AND r.value_m3 IS NOT NULL AND r.quality IN ('good', 'suspect')
        ORDER BY r.measured_at LIMIT 1
    ) a
    WHERE NOT isempty(p.lived) AND n.at - s.at >= interval '85 days' AND s.v > a.v AND s.v = n.v
      AND (SELECT count(*) FROM reading r WHERE r.meter_id = m.id AND r.measured_at >= s.at AND r.measured_at <= n.at
             AND r.quality IN ('good', 'suspect')) >= 3
),
found AS (
    SELECT kind, why, service_point, serial, bill, since, until, m3, estimated FROM measured
    UNION ALL
    SELECT 'stopped_meter', 'stands at ' || v || ' m³ while the place is lived in', service_point, serial, NULL,
           greatest(moved_until, %(lower)s), at,
           m3_per_s * extract(epoch FROM at - greatest(moved_until, %(lower)s))::float8, true
    FROM still
    WHERE m3_per_s * extract(epoch FROM at - greatest(moved_until, %(lower)s))::float8 >= %(least_m3)s
),
first AS (
    SELECT DISTINCT ON (serial, coalesce(bill, '')) found.*
    FROM found
    ORDER BY serial, coalesce(bill, ''),
             array_position(ARRAY['use_while_closed', 'zero_bill', 'running_unbilled', 'stopped_meter'], kind)
)
SELECT f.kind, f.why, f.service_point, p.address, p.zone, f.serial AS meter, f.bill, f.since, f.until,
       f.m3::float8 AS m3, f.estimated,
       (SELECT o.account FROM occupancy o WHERE o.service_point = f.service_point
          AND o.since < (f.until AT TIME ZONE %(time_zone)s)::date
          AND coalesce(o.until, 'infinity') > (f.since AT TIME ZONE %(time_zone)s)::date
        ORDER BY o.since DESC LIMIT 1) AS account
FROM first f JOIN service_point p ON p.id = f.service_point
ORDER BY f.m3 DESC, f.serial, f.since
