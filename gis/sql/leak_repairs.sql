-- Leaks of the asked zones that crews stopped, and that ran within a window: the times and the flow of each.
SELECT o.number, o.opened_at, o.ended_at, o.completion -> 'answers' AS answers, o.details
FROM work_order o
LEFT JOIN service_point p ON p.id = o.service_point
WHERE o.type IN ('leak_repair', 'service_repair') AND o.status IN ('completed', 'closed')
  AND o.completion ->> 'code' IN ('repaired', 'replaced', 'temporary')
  AND o.ended_at >= %(lower)s AND o.opened_at < %(upper)s
  AND coalesce(o.zone, p.zone) = ANY(%(zones)s)
ORDER BY o.ended_at, o.number
