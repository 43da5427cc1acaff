-- What register_volumes.sql worked out, as it is.
, register_volume AS (SELECT * FROM computed)
