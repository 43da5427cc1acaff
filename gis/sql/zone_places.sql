-- Places and dwellings by class of premises, and mains by material, of the asked zones at the end of a window; behind members.sql.
SELECT 'places' AS what, coalesce(p.premise_class, '') AS name, count(*)::float8 AS amount
FROM member k JOIN service_point p ON p.id = k.service_point
GROUP BY 2
UNION ALL
SELECT 'dwellings', coalesce(p.premise_class, ''), sum(coalesce(nullif(p.units, 0), 1))::float8
FROM member k JOIN service_point p ON p.id = k.service_point
GROUP BY 2
UNION ALL
SELECT 'mains', coalesce(m.material, ''), sum(ST_Length(m.geometry::geography)) / 1000
FROM main m
WHERE EXISTS (SELECT FROM zone z WHERE z.code = ANY(%(zones)s::text[]) AND ST_Intersects(z.geometry, m.geometry))
GROUP BY 2
