-- Bench tests by class of premises: of each meter the one nearest to an instant, no more than ten years from it. What a
-- test finds was so before it too.
SELECT coalesce(t.premise_class, '') AS premise_class, count(*)::int AS tests,
       avg(1 - t.accuracy_pct / 100)::float8 AS under_registration,
       stddev_samp(1 - t.accuracy_pct / 100)::float8 AS deviation,
       max(t.tested_on) AS newest
FROM (
    SELECT DISTINCT ON (x.serial) x.serial, x.tested_on, x.accuracy_pct, p.premise_class
    FROM meter_test x
    JOIN meter_installation i ON i.serial = x.serial
    JOIN service_point p ON p.id = i.service_point
    WHERE abs(x.tested_on - (%(until)s AT TIME ZONE %(time_zone)s)::date) < 3653 AND x.accuracy_pct > 0
    ORDER BY x.serial, abs(x.tested_on - (%(until)s AT TIME ZONE %(time_zone)s)::date), x.tested_on DESC,
             i.installed_at DESC
) t
GROUP BY 1
