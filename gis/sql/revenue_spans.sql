-- Registers that may run without earning, and over which time: for register_volumes.sql.
--
-- `unbilled`: no bill of the place touches the period (where bills are kept at all), or nobody has an account there;
-- `zero_bill`: a bill of nothing; `closed`: the valve is closed, or the place was cut.
WITH period AS (
    SELECT %(lower)s::timestamptz AS lower, %(upper)s::timestamptz AS upper,
           (%(lower)s AT TIME ZONE %(time_zone)s)::date AS first_day,
           (%(upper)s AT TIME ZONE %(time_zone)s)::date AS last_day
),
keeps_bills AS (
    SELECT EXISTS (
        SELECT FROM billed_consumption b, period d WHERE b.from_day < d.last_day AND b.to_day > d.first_day
    ) AS yes
),
place AS (
    SELECT i.service_point, i.serial, i.installed_at, i.removed_at, d.*,
           EXISTS (
               SELECT FROM occupancy o WHERE o.service_point = i.service_point
                 AND o.since < d.last_day AND coalesce(o.until, 'infinity') > d.first_day
           ) AS has_account,
           EXISTS (
               SELECT FROM billed_consumption b WHERE b.service_point = i.service_point AND b.replaced_by IS NULL
                 AND b.from_day < d.last_day AND b.to_day > d.first_day
           ) AS has_bill
    FROM meter_installation i CROSS JOIN period d
    WHERE i.service_point IS NOT NULL AND i.installed_at < d.upper AND coalesce(i.removed_at, 'infinity') > d.lower
),
suspect AS (
    SELECT 'running_unbilled' AS kind, CASE WHEN has_account THEN 'no bill' ELSE 'no account' END AS why,
           service_point, serial, installed_at, removed_at, lower, upper, NULL::text AS bill
    FROM place, keeps_bills WHERE NOT has_account OR (keeps_bills.yes AND NOT has_bill)
    UNION ALL
    SELECT 'zero_bill', 'bill of zero' || CASE WHEN b.estimated THEN ', estimated' ELSE '' END,
           p.service_point, p.serial, p.installed_at, p.removed_at,
           greatest(p.lower, b.from_day::timestamp AT TIME ZONE %(time_zone)s),
           least(p.upper, b.to_day::timestamp AT TIME ZONE %(time_zone)s), b.bill
    FROM place p
    JOIN billed_consumption b ON b.service_point = p.service_point AND b.replaced_by IS NULL
        AND b.from_day < p.last_day AND b.to_day > p.first_day AND b.volume_m3 = 0
        AND coalesce(b.meter, p.serial) = p.serial
    UNION ALL
    SELECT 'use_while_closed', f.fact || ' ' || f.state || coalesce(': ' || f.reason, ''),
           p.service_point, p.serial, p.installed_at, p.removed_at, greatest(p.lower, f.since), p.upper, NULL
    FROM place p
    JOIN place_fact f ON f.service_point = p.service_point AND f.fact = 'valve' AND f.state = 'closed'
    WHERE f.since < p.upper
),
span AS (
    SELECT row_number() OVER ()::int AS span_id, s.kind, s.why, s.service_point, s.serial, s.bill, m.id AS meter_id, m.register,
           greatest(s.lower, s.installed_at) AS lower, least(s.upper, coalesce(s.removed_at, 'infinity')) AS upper,
           s.installed_at AS starts, coalesce(s.removed_at + interval '1 day', 'infinity') AS ends,
           power(10::numeric, m.dials) * m.multiplier * f.m3 AS modulus_m3
    FROM suspect s
    JOIN meter m ON m.serial = s.serial AND m.purpose = 'revenue'
        AND m.register NOT IN ('volume_interval', 'volume_reverse', 'alarm')
    LEFT JOIN unnest(%(units)s::text[], %(factors)s::numeric[]) AS f (unit, m3) ON f.unit = m.unit
    WHERE s.lower < s.upper
)
