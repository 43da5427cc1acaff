-- The volume that passed each register of `span` within [lower, upper), from readings of counting registers.
--
-- span(span_id, meter_id, lower, upper, starts, ends, modulus_m3) is put in front as a common table expression; the
-- result is the common table expression `register_volume`. `starts` and `ends` bound the readings that belong to this
-- installation, and the span lies within them.
--
-- A fall of the register is a rollover (near a known modulus, and plausible against the meter's own history), a little
-- backflow, or a break (reset, exchange without record): breaks count nothing and are not covered. A single reading
-- that stands out against both its neighbours is a misread and is passed over; so is a last reading far beyond the
-- meter's own pace (six times it, and 100 m³), until another one confirms it. Estimates never count.
--
-- `newest_at` is the last believed reading, `upper` where there is one behind it; `recent_m3_per_s` is given where it
-- is earlier than that.
--
-- While a register only rises, what lies between two of its readings decides nothing: the volume is the difference of
-- its stands (see docs/decisions/0008). A register of which roll-ups and suspect readings tell nothing else is read
-- beside the ends of its span. Of the others, the readings within are looked at from the first instant on at which it
-- fell, a reading is suspect or something is not rolled up; of those before it only the first two and the last four.
, unquiet AS (
    SELECT span_id, min(at) AS at FROM (
        SELECT s.span_id, f.at FROM span s
        JOIN register_fall f ON f.meter_id = s.meter_id AND f.at > s.lower AND f.at <= s.upper
        UNION ALL
        SELECT s.span_id, r.measured_at FROM span s
        JOIN reading r ON r.meter_id = s.meter_id AND r.measured_at >= s.lower AND r.measured_at <= s.upper
            AND r.quality = 'suspect'
        UNION ALL
        SELECT s.span_id, d.lower FROM span s
        JOIN (
            SELECT u.* FROM consumption_due d, unnest(d.meter_ids, d.lowers, d.uppers) u (meter_id, lower, upper)
        ) d ON d.meter_id = s.meter_id AND d.upper >= s.lower AND d.lower <= s.upper
        UNION ALL
        -- what arrives for a time that was archived is never rolled up
        SELECT s.span_id, s.lower FROM span s
        WHERE s.lower < (
            SELECT (max(month) + interval '1 month 1 day') AT TIME ZONE 'UTC' FROM archived_month
            WHERE table_name = 'reading'
        )
    ) u
    GROUP BY span_id
),
asked AS (
    SELECT s.span_id, s.meter_id, s.lower, s.upper, s.modulus_m3,
           greatest(s.starts, s.lower - interval '400 days') AS earliest,
           least(s.ends, s.upper + interval '400 days') AS latest,
           u.at IS NULL AS quiet, greatest(s.lower, least(u.at, s.upper)) AS quiet_until
    FROM span s LEFT JOIN unquiet u USING (span_id)
),
-- the two readings before and the two after, and those next to them within unless one lies on the very end
beside AS (
    SELECT s.span_id, s.lower, s.upper, b.ats[1] AS before_at, b.vs[1] AS before, b.vs[2] AS earlier,
           a.ats[1] AS after_at, a.vs[1] AS after, a.vs[2] AS later, i.at AS first_at, i.v AS first,
           l.at AS last_at, l.v AS last
    FROM asked s
    CROSS JOIN LATERAL (
        SELECT array_agg(at) AS ats, array_agg(v) AS vs FROM (
            SELECT measured_at AS at, value_m3::float8 AS v FROM reading
            WHERE meter_id = s.meter_id AND measured_at <= s.lower AND measured_at >= s.earliest
              AND value_m3 IS NOT NULL AND quality IN ('good', 'suspect')
            ORDER BY measured_at DESC LIMIT 2
        ) r
    ) b
    CROSS JOIN LATERAL (
        SELECT array_agg(at) AS ats, array_agg(v) AS vs FROM (
            SELECT measured_at AS at, value_m3::float8 AS v FROM reading
            WHERE meter_id = s.meter_id AND measured_at >= s.upper AND measured_at <= s.latest
              AND value_m3 IS NOT NULL AND quality IN ('good', 'suspect')
            ORDER BY measured_at LIMIT 2
        ) r
    ) a
    LEFT JOIN LATERAL (
        SELECT measured_at AS at, value_m3::float8 AS v FROM reading
        WHERE b.ats[1] < s.lower AND meter_id = s.meter_id AND measured_at > s.lower AND measured_at < s.upper
          AND value_m3 IS NOT NULL AND quality IN ('good', 'suspect')
        ORDER BY measured_at LIMIT 1
    ) i ON true
    LEFT JOIN LATERAL (
        SELECT measured_at AS at, value_m3::float8 AS v FROM reading
        WHERE a.ats[1] > s.upper AND meter_id = s.meter_id AND measured_at > s.lower AND measured_at < s.upper
          AND value_m3 IS NOT NULL AND quality IN ('good', 'suspect')
        ORDER BY measured_at DESC LIMIT 1
    ) l ON true
    WHERE s.quiet
),
plain AS (
    SELECT span_id, lower, upper, before_at, after_at, coalesce(first, after) AS first, coalesce(last, before) AS last,
           before_at < lower AND after_at > upper AND first IS NULL AS one_step,
           CASE WHEN before_at = lower THEN before
                ELSE before + (coalesce(first, after) - before) * date_part('epoch', lower - before_at)
                         / date_part('epoch', coalesce(first_at, after_at) - before_at) END AS begins,
           CASE WHEN after_at = upper THEN after
                ELSE after - (after - coalesce(last, before)) * date_part('epoch', after_at - upper)
                         / date_part('epoch', after_at - coalesce(last_at, before_at)) END AS ends
    FROM beside
    WHERE before >= coalesce(earlier, before) AND before <= coalesce(first, after) AND after >= coalesce(last, before)
      AND after <= later AND lower < upper
),
-- readings in order of time: of instants `ats` the first `b` lie not after `lower`, those from the `e`th on not before
-- `upper`
register AS (
    SELECT s.span_id, s.lower, s.upper, s.modulus_m3, r.ats, r.vs, r.n, r.b, r.e,
           r.n >= 2 AND r.b < r.n AND r.e > 1 AND r.vs = r.sorted AND NOT coalesce(
               r.n >= 5 AND vs[n] - vs[n - 1] > 100 + 6 * (vs[n - 1] - vs[1]) * date_part('epoch', ats[n] - ats[n - 1])
                                                        / date_part('epoch', ats[n - 1] - ats[1]),
               false
           ) AS rises
    FROM (SELECT * FROM asked s WHERE NOT EXISTS (SELECT FROM plain p WHERE p.span_id = s.span_id)) s
    CROSS JOIN LATERAL (
        SELECT array_agg(at) AS ats, array_agg(v) AS vs, array_agg(v ORDER BY v) AS sorted, count(*)::int AS n,
               (count(*) FILTER (WHERE at <= s.lower))::int AS b, (1 + count(*) FILTER (WHERE at < s.upper))::int AS e
        FROM (
            SELECT DISTINCT ON (measured_at) measured_at AS at, value_m3::float8 AS v
            FROM (
                (
                    SELECT measured_at, value_m3 FROM reading
                    WHERE meter_id = s.meter_id AND measured_at <= s.lower AND measured_at >= s.earliest
                      AND value_m3 IS NOT NULL AND quality IN ('good', 'suspect')
                    ORDER BY measured_at DESC LIMIT 4
                )
                UNION ALL
                (
                    SELECT measured_at, value_m3 FROM reading
                    WHERE meter_id = s.meter_id AND measured_at > s.lower AND measured_at < s.quiet_until
                      AND value_m3 IS NOT NULL AND quality IN ('good', 'suspect')
                    ORDER BY measured_at LIMIT 2
                )
                UNION ALL
                (
                    SELECT measured_at, value_m3 FROM reading
                    WHERE meter_id = s.meter_id AND measured_at > s.lower AND measured_at < s.quiet_until
                      AND value_m3 IS NOT NULL AND quality IN ('good', 'suspect')
                    ORDER BY measured_at DESC LIMIT 4
                )
                UNION ALL
                SELECT measured_at, value_m3 FROM reading
                WHERE meter_id = s.meter_id AND measured_at > s.lower AND measured_at >= s.quiet_until
                  AND measured_at < s.upper AND value_m3 IS NOT NULL AND quality IN ('good', 'suspect')
                UNION ALL
                (
                    SELECT measured_at, value_m3 FROM reading
                    WHERE meter_id = s.meter_id AND measured_at >= s.upper AND measured_at <= s.latest
                      AND value_m3 IS NOT NULL AND quality IN ('good', 'suspect')
                    -- a misread beyond the window shows by the reading after it
                    ORDER BY measured_at LIMIT 3
                )
            ) around
            ORDER BY measured_at
        ) point
    ) r
),
stands AS (
    SELECT span_id, lower, upper, ats, vs, n, b, e,
           CASE WHEN b = 0 THEN vs[1]
                ELSE vs[b] + (vs[b + 1] - vs[b]) * date_part('epoch', lower - ats[b])
                                                 / date_part('epoch', ats[b + 1] - ats[b]) END AS begins,
           CASE WHEN e > n THEN vs[n]
                ELSE vs[e - 1] + (vs[e] - vs[e - 1]) * date_part('epoch', upper - ats[e - 1])
                                                     / date_part('epoch', ats[e] - ats[e - 1]) END AS ends
    FROM register WHERE rises
),
risen AS (
    SELECT span_id, greatest(0, ends - begins) AS volume_m3,
           CASE WHEN one_step THEN greatest(0, ends - begins)
                ELSE CASE WHEN before_at < lower THEN first - begins ELSE 0 END
                   + CASE WHEN after_at > upper THEN ends - last ELSE 0 END END AS straddling_m3,
           date_part('epoch', upper - lower) AS covered_s, 0::bigint AS breaks, before_at AS first_at,
           after_at AS last_at, upper AS newest_at, NULL::float8 AS recent_m3_per_s
    FROM plain
    UNION ALL
    SELECT span_id, greatest(0, ends - begins) AS volume_m3,
           CASE WHEN e > b + 1
                THEN CASE WHEN ats[b] < lower THEN vs[b + 1] - begins ELSE 0 END
                   + CASE WHEN ats[e] > upper THEN ends - vs[e - 1] ELSE 0 END
                WHEN ats[b] < lower OR ats[e] > upper THEN greatest(0, ends - begins)
                ELSE 0 END AS straddling_m3,
           date_part('epoch', least(upper, ats[n]) - greatest(lower, ats[1])) AS covered_s, 0::bigint AS breaks,
           ats[greatest(b, 1)] AS first_at, ats[least(e, n)] AS last_at, least(ats[n], upper),
           CASE WHEN ats[n] < upper
                THEN (vs[n] - vs[greatest(1, n - 3)]) / date_part('epoch', ats[n] - ats[greatest(1, n - 3)]) END
    FROM stands
),
-- all others are gone through reading by reading
marked AS (
    SELECT r.span_id, r.lower, r.upper, r.modulus_m3, u.at, u.v, lag(v) OVER w AS before, lead(v) OVER w AS after
    FROM register r, unnest(r.ats, r.vs) AS u (at, v)
    WHERE NOT r.rises
    WINDOW w AS (PARTITION BY r.span_id ORDER BY u.at)
),
step AS (
    SELECT span_id, lower, upper, modulus_m3, at, v, lag(at) OVER w AS since, lag(v) OVER w AS previous,
           lead(at) OVER w IS NULL AS newest, lead(at, 3) OVER w IS NULL AS recent
    FROM marked
    WHERE NOT coalesce(after >= before AND (v > after + 1 OR v < before - 1), false)
    WINDOW w AS (PARTITION BY span_id ORDER BY at)
),
timed AS (
    SELECT step.*, v - previous AS rise, date_part('epoch', at - since) AS length_s FROM step
),
paced AS (
    SELECT timed.*,
           -- the meter's own history, for the plausibility of a rollover
           count(*) FILTER (WHERE rise >= 0) OVER h AS steps,
           sum(rise) FILTER (WHERE rise >= 0) OVER h / nullif(sum(length_s) FILTER (WHERE rise >= 0) OVER h, 0)
               AS m3_per_s,
           count(*) FILTER (WHERE rise >= 0 AND NOT newest) OVER h AS confirmed,
           sum(rise) FILTER (WHERE rise >= 0 AND NOT newest) OVER h
               / nullif(sum(length_s) FILTER (WHERE rise >= 0 AND NOT newest) OVER h, 0) AS confirmed_m3_per_s
    FROM timed WINDOW h AS (PARTITION BY span_id)
),
passed AS (
    SELECT paced.*,
           CASE
               WHEN rise >= 0 THEN rise
               WHEN modulus_m3 IS NOT NULL AND previous > modulus_m3 / 2 AND rise + modulus_m3 <=
                    CASE WHEN steps >= 2 THEN 10 * m3_per_s * length_s + 10 ELSE modulus_m3 / 10 END
                   THEN rise + modulus_m3
               WHEN rise >= -1 THEN rise
           END AS m3,
           greatest(0, date_part('epoch', least(at, upper) - greatest(since, lower))) AS inside_s
    FROM paced
    WHERE since IS NOT NULL
      AND NOT coalesce(newest AND confirmed >= 3 AND rise > 6 * confirmed_m3_per_s * length_s + 100, false)
),
register_volume AS (
    SELECT * FROM risen
    UNION ALL
    SELECT span_id,
           coalesce(sum(m3 * inside_s / length_s), 0)::float8 AS volume_m3,
           -- what was spread over the edge of the window, so that its share inside is an estimate
           coalesce(sum(m3 * inside_s / length_s) FILTER (WHERE since < lower OR at > upper), 0) AS straddling_m3,
           coalesce(sum(inside_s) FILTER (WHERE m3 IS NOT NULL), 0) AS covered_s,
           count(*) FILTER (WHERE m3 IS NULL AND inside_s > 0) AS breaks,
           min(since) FILTER (WHERE m3 IS NOT NULL AND inside_s > 0) AS first_at,
           max(at) FILTER (WHERE m3 IS NOT NULL AND inside_s > 0) AS last_at,
           least(max(at), upper) AS newest_at,
           -- the rate that stands for a missing tail: the last three read-to-read volumes
           CASE WHEN max(at) < upper
                THEN sum(m3) FILTER (WHERE recent) / nullif(sum(length_s) FILTER (WHERE recent AND m3 IS NOT NULL), 0)
           END AS recent_m3_per_s
    FROM passed
    GROUP BY span_id, upper
)
