-- The volume that passed each register of `asked` within [lower, upper), from readings of counting registers.
--
-- asked(span_id, meter_id, lower, upper, starts, ends, modulus_m3) is put in front as a common table expression; the
-- result is the common table expression `computed`. `starts` and `ends` bound the readings that belong to this
-- installation.
--
-- A fall of the register is a rollover (near a known modulus, and plausible against the meter's own history), a little
-- backflow, or a break (reset, exchange without record): breaks count nothing and are not covered. A single reading
-- that stands out against both its neighbours is a misread and is passed over; so is a last reading far beyond the
-- meter's own pace (six times it, and 100 m³), until another one confirms it. Estimates never count.
, raw AS (
    SELECT s.span_id, s.lower, s.upper, s.modulus_m3, r.measured_at AS at, r.value_m3::float8 AS v
    FROM asked s
    CROSS JOIN LATERAL (
        (
            SELECT b.measured_at, b.value_m3 FROM reading b
            WHERE b.meter_id = s.meter_id AND b.measured_at <= s.lower AND b.measured_at > s.lower - interval '400 days'
              AND b.measured_at >= s.starts AND b.value_m3 IS NOT NULL AND b.quality IN ('good', 'suspect')
            ORDER BY b.measured_at DESC LIMIT 4
        )
        UNION ALL
        SELECT b.measured_at, b.value_m3 FROM reading b
        WHERE b.meter_id = s.meter_id AND b.measured_at > s.lower AND b.measured_at < s.upper
          AND b.measured_at >= s.starts AND b.measured_at <= s.ends
          AND b.value_m3 IS NOT NULL AND b.quality IN ('good', 'suspect')
        UNION ALL
        (
            SELECT b.measured_at, b.value_m3 FROM reading b
            WHERE b.meter_id = s.meter_id AND b.measured_at >= s.upper AND b.measured_at < s.upper + interval '400 days'
              AND b.measured_at <= s.ends AND b.value_m3 IS NOT NULL AND b.quality IN ('good', 'suspect')
            -- a misread beyond the window shows by the reading after it
            ORDER BY b.measured_at LIMIT 3
        )
    ) r
),
marked AS (
    SELECT raw.*, lag(v) OVER w AS before, lead(v) OVER w AS after
    FROM raw WINDOW w AS (PARTITION BY span_id ORDER BY at)
),
step AS (
    SELECT span_id, lower, upper, modulus_m3, at, v, lag(at) OVER w AS since, lag(v) OVER w AS previous,
           count(*) OVER (PARTITION BY span_id) - row_number() OVER w AS later
    FROM marked
    WHERE NOT coalesce(after >= before AND (v > after + 1 OR v < before - 1), false)
    WINDOW w AS (PARTITION BY span_id ORDER BY at)
),
paced AS (
    SELECT step.*, extract(epoch FROM at - since)::float8 AS length_s,
           -- the meter's own history, for the plausibility of a rollover
           count(*) FILTER (WHERE v >= previous) OVER h AS steps,
           sum(v - previous) FILTER (WHERE v >= previous) OVER h
               / nullif(sum(extract(epoch FROM at - since)) FILTER (WHERE v >= previous) OVER h, 0)::float8 AS m3_per_s,
           count(*) FILTER (WHERE v >= previous AND later > 0) OVER h AS confirmed,
           sum(v - previous) FILTER (WHERE v >= previous AND later > 0) OVER h
               / nullif(sum(extract(epoch FROM at - since)) FILTER (WHERE v >= previous AND later > 0) OVER h, 0)::float8
               AS confirmed_m3_per_s
    FROM step WINDOW h AS (PARTITION BY span_id)
),
passed AS (
    SELECT paced.*,
           CASE
               WHEN v >= previous THEN v - previous
               WHEN modulus_m3 IS NOT NULL AND previous > modulus_m3 / 2 AND v - previous + modulus_m3 <=
                    CASE WHEN steps >= 2 THEN 10 * m3_per_s * length_s + 10 ELSE modulus_m3 / 10 END
                   THEN v - previous + modulus_m3
               WHEN previous - v <= 1 THEN v - previous
           END AS m3,
           greatest(0, extract(epoch FROM least(at, upper) - greatest(since, lower)))::float8 AS inside_s
    FROM paced
    WHERE since IS NOT NULL AND NOT coalesce(
        later = 0 AND confirmed >= 3
            AND v - previous > 6 * confirmed_m3_per_s * extract(epoch FROM at - since)::float8 + 100,
        false
    )
),
computed AS (
    SELECT span_id,
           coalesce(sum(m3 * inside_s / length_s), 0)::float8 AS volume_m3,
           -- what was spread over the edge of the window, so that its share inside is an estimate
           coalesce(sum(m3 * inside_s / length_s) FILTER (WHERE since < lower OR at > upper), 0)::float8 AS straddling_m3,
           coalesce(sum(inside_s) FILTER (WHERE m3 IS NOT NULL), 0)::float8 AS covered_s,
           count(*) FILTER (WHERE m3 IS NULL AND inside_s > 0) AS breaks,
           min(since) FILTER (WHERE m3 IS NOT NULL AND inside_s > 0) AS first_at,
           max(at) FILTER (WHERE m3 IS NOT NULL AND inside_s > 0) AS last_at,
           max(at) AS newest_at,
           -- the rate that stands for a missing tail: the last three read-to-read volumes
           (sum(m3) FILTER (WHERE later < 3) / nullif(sum(length_s) FILTER (WHERE later < 3 AND m3 IS NOT NULL), 0))
               ::float8 AS recent_m3_per_s
    FROM passed
    GROUP BY span_id
)
