BEGIN TRANSACTION;
CREATE TABLE events (
    id TEXT PRIMARY KEY NOT NULL,
    node TEXT NOT NULL,
    source TEXT NOT NULL,
    label TEXT NOT NULL,
    onset REAL NOT NULL,
    offset REAL,
    score REAL NOT NULL,
    peak_score REAL NOT NULL,
    model TEXT NOT NULL,
    cause TEXT
) WITHOUT ROWID;
INSERT INTO "events" VALUES('01KAZZ3W7N8Q2V5T4R6Y9XBC0D','attic','mic','siren',1.79585122816551494596e+09,1.79585123216551494594e+09,0.9,0.95,'esc50',NULL);
CREATE INDEX events_onset ON events (onset);
CREATE INDEX events_label ON events (label, onset);
COMMIT;
PRAGMA user_version = 1;
