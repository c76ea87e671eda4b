-- Where the extension TimescaleDB is, events are a hypertable, in chunks of a week. A unique key of a hypertable must hold
-- its time, and not every message of an event must be believed to bring the same onset. So the time is the one in the id,
-- a ULID: it depends on nothing but the id, and the key (id, made) lets each id in once, as (id) does.
DO $migration$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_proc WHERE proname = 'create_hypertable') THEN
        RETURN;
    END IF;
    CREATE FUNCTION tagger_made(id text) RETURNS timestamptz LANGUAGE sql IMMUTABLE STRICT AS $$
        SELECT to_timestamp(sum(
            (strpos('0123456789ABCDEFGHJKMNPQRSTVWXYZ', substr(id, place, 1)) - 1) * 32::numeric ^ (10 - place)
        )::double precision / 1000) FROM generate_series(1, 10) AS place
    $$;
    ALTER TABLE events ADD COLUMN made timestamptz;
    UPDATE events SET made = tagger_made(id);
    ALTER TABLE events ALTER COLUMN made SET NOT NULL;
    ALTER TABLE events DROP CONSTRAINT events_pkey;
    ALTER TABLE events ADD PRIMARY KEY (id, made);
    PERFORM create_hypertable('events', 'made', chunk_time_interval => interval '7 days', migrate_data => true);
END
$migration$;
