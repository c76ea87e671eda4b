"""The tables of a PostgreSQL database: one file of SQL for each version, applied in the order of their names."""
