-- Every register at the edge of a zone within a window; a meter's registers share its installation.
SELECT i.id::text AS installation, m.id AS meter_id, i.serial, m.register,
       i.zone, i.direction, i.to_zone, m.error_pct::float8 AS error_pct, m.purpose,
       greatest(i.installed_at, %(lower)s) AS lower, least(coalesce(i.removed_at, 'infinity'), %(upper)s) AS upper
FROM meter_installation i
JOIN meter m ON m.serial = i.serial
WHERE i.zone IS NOT NULL AND m.register <> 'alarm'
  AND i.installed_at < %(upper)s AND coalesce(i.removed_at, 'infinity') > %(lower)s
ORDER BY i.serial, i.installed_at, m.register
