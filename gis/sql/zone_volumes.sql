SELECT s.installation::text AS installation, s.meter_id, r.*
FROM span s JOIN register_volume r USING (span_id)
