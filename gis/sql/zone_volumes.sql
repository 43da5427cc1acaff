SELECT * FROM register_volume
