-- Mean pressure by local hour of day that registers named `pressure` reported in the asked zones, in metres of head;
-- behind members.sql. A zone's own meters and those of its places count.
SELECT extract(hour FROM r.measured_at AT TIME ZONE %(time_zone)s)::int AS hour,
       avg(r.value::float8 * CASE lower(r.unit) WHEN 'm' THEN 1 WHEN 'bar' THEN 10.1972 WHEN 'mbar' THEN 0.0101972
           WHEN 'kpa' THEN 0.101972 WHEN 'psi' THEN 0.70325 END) AS pressure_m
FROM (
    SELECT serial FROM meter_installation WHERE zone = ANY(%(zones)s::text[])
    UNION
    SELECT i.serial FROM meter_installation i JOIN member k ON k.service_point = i.service_point
) i
JOIN meter m ON m.serial = i.serial AND m.register = 'pressure'
JOIN reading r ON r.meter_id = m.id AND r.measured_at >= %(lower)s AND r.measured_at < %(upper)s
    AND r.quality IN ('good', 'suspect')
GROUP BY 1
