-- Registers that may run without earning, and over which time: for register_volumes.sql.
--
-- `running_unbilled`: days on which nobody has an account there, or that no bill of the place covers (where bills are
-- kept at all): the whole period, a gap that later bills jump over, or a tail longer than any billing cycle. `partly`
-- marks spans inside the period, whose edges need not be days of a reading. `zero_bill`: a bill of nothing. `closed`: the
-- valve is closed, now or by what crews said then, or a lock is on.
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
           datemultirange(daterange(d.first_day, d.last_day)) AS whole,
           coalesce((
               SELECT range_agg(daterange(o.since, o.until)) FROM occupancy o WHERE o.service_point = i.service_point
                 AND o.since < d.last_day AND coalesce(o.until, 'infinity') > greatest(d.first_day, o.since)
           ), '{}') AS lived,
           coalesce((
               SELECT range_agg(daterange(b.from_day, b.to_day)) FROM billed_consumption b
               WHERE b.service_point = i.service_point AND b.replaced_by IS NULL
                 AND b.from_day < d.last_day AND b.to_day > d.first_day
           ), '{}') AS billed,
           -- up to here every day should have been billed
           (
               SELECT max(b.from_day) FROM billed_consumption b
               WHERE b.service_point = i.service_point AND b.replaced_by IS NULL
           ) AS newest_bill
    FROM meter_installation i CROSS JOIN period d
    WHERE i.service_point IS NOT NULL AND i.installed_at < d.upper AND coalesce(i.removed_at, 'infinity') > d.lower
),
unbilled AS (
    SELECT p.*, days,
           concat_ws('; ', CASE WHEN NOT isempty(datemultirange(days) - p.lived) THEN 'no account' END,
                     CASE WHEN NOT isempty(datemultirange(days) * p.lived) THEN 'no bill' END) AS why
    FROM place p
    CROSS JOIN keeps_bills
    CROSS JOIN LATERAL unnest(p.whole - p.billed) AS gap
    CROSS JOIN LATERAL unnest(
        CASE
            WHEN keeps_bills.yes AND (
                isempty(p.billed)
                OR (upper(gap) - lower(gap) > 3 AND p.newest_bill >= upper(gap))
                OR upper(gap) - lower(gap) > 100
            ) THEN datemultirange(gap)
            -- a bill may still come, but not to nobody
            ELSE datemultirange(gap) - p.lived
        END
    ) AS days
),
-- what crews found or left, and what is known now
valve AS (
    SELECT v.service_point, v.state, v.at AS since,
           coalesce(lead(v.at) OVER (PARTITION BY v.service_point ORDER BY v.at, v.known), 'infinity') AS until,
           max(v.reason) OVER (PARTITION BY v.service_point) AS reason
    FROM (
        SELECT service_point, ended_at AS at, completion -> 'answers' ->> 'valve_after' AS state, NULL AS reason, 0 AS known
        FROM work_order
        WHERE status IN ('completed', 'closed') AND service_point IS NOT NULL AND ended_at IS NOT NULL
          AND completion -> 'answers' ->> 'valve_after' IN ('open', 'closed', 'restricted')
        UNION ALL
        SELECT service_point, since, state, reason, 1 FROM place_fact WHERE fact = 'valve'
    ) v
),
closed AS (
    SELECT service_point, 'valve closed' || coalesce(': ' || reason, '') AS why, since, until
    FROM valve WHERE state = 'closed'
    UNION ALL
    SELECT service_point, 'lock on' || coalesce(': ' || reason, ''), since, 'infinity'
    FROM place_fact f WHERE fact = 'lock' AND state = 'on'
      AND NOT EXISTS (SELECT FROM valve v WHERE v.service_point = f.service_point AND v.state = 'closed')
),
suspect AS (
    SELECT 'running_unbilled' AS kind, why, service_point, serial, installed_at, removed_at,
           greatest(lower, lower(days)::timestamp AT TIME ZONE %(time_zone)s) AS lower,
           least(upper, upper(days)::timestamp AT TIME ZONE %(time_zone)s) AS upper, NULL::text AS bill,
           datemultirange(days) <> whole AS partly
    FROM unbilled
    UNION ALL
    SELECT 'zero_bill', 'bill of zero' || CASE WHEN b.estimated THEN ', estimated' ELSE '' END,
           p.service_point, p.serial, p.installed_at, p.removed_at,
           greatest(p.lower, b.from_day::timestamp AT TIME ZONE %(time_zone)s),
           least(p.upper, b.to_day::timestamp AT TIME ZONE %(time_zone)s), b.bill, false
    FROM place p
    JOIN billed_consumption b ON b.service_point = p.service_point AND b.replaced_by IS NULL
        AND b.from_day < p.last_day AND b.to_day > p.first_day AND b.volume_m3 = 0
        AND coalesce(b.meter, p.serial) = p.serial
    UNION ALL
    SELECT 'use_while_closed', c.why, p.service_point, p.serial, p.installed_at, p.removed_at,
           greatest(p.lower, c.since), least(p.upper, c.until), NULL, c.since > p.lower OR c.until < p.upper
    FROM place p JOIN closed c ON c.service_point = p.service_point AND c.since < p.upper AND c.until > p.lower
),
span AS (
    SELECT row_number() OVER ()::int AS span_id, s.kind, s.why, s.service_point, s.serial, s.bill, s.partly,
           m.id AS meter_id, m.register,
           greatest(s.lower, s.installed_at) AS lower, least(s.upper, coalesce(s.removed_at, 'infinity')) AS upper,
           s.installed_at AS starts, coalesce(s.removed_at + interval '1 day', 'infinity') AS ends,
           power(10::numeric, m.dials) * m.multiplier * f.m3 AS modulus_m3
    FROM suspect s
    JOIN meter m ON m.serial = s.serial AND m.purpose = 'revenue'
        AND m.register NOT IN ('volume_interval', 'volume_reverse', 'alarm')
    LEFT JOIN unnest(%(units)s::text[], %(factors)s::numeric[]) AS f (unit, m3) ON f.unit = m.unit
    WHERE greatest(s.lower, s.installed_at) < least(s.upper, coalesce(s.removed_at, 'infinity'))
)
