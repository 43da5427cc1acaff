-- Every span is worked out anew; goes between a `span` and register_volumes.sql.
, asked AS (SELECT * FROM span)
