-- One row an event, with the columns of the event log (tagger/history/log.py), so that the same queries read both.
-- `began` and `ended` are the same times for other programs, which know timestamps.
CREATE TABLE events (
    id text PRIMARY KEY,
    node text NOT NULL,
    source text NOT NULL,
    label text NOT NULL,
    onset double precision NOT NULL,
    "offset" double precision,
    score double precision NOT NULL,
    peak_score double precision NOT NULL,
    model text NOT NULL,
    cause text,
    began timestamptz NOT NULL GENERATED ALWAYS AS (to_timestamp(onset)) STORED,
    ended timestamptz GENERATED ALWAYS AS (to_timestamp("offset")) STORED
);
CREATE INDEX events_onset ON events (onset);
CREATE INDEX events_label ON events (label, onset);
CREATE INDEX events_source ON events (node, source, onset);
CREATE INDEX events_began ON events (began);
