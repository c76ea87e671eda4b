BEGIN TRANSACTION;
CREATE TABLE begun (id TEXT PRIMARY KEY);
INSERT INTO "begun" VALUES('01KAZZ3W7N8Q2V5T4R6Y9XBC0D');
CREATE TABLE components (id TEXT PRIMARY KEY, platform TEXT NOT NULL);
CREATE TABLE messages (
    number INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, payload TEXT NOT NULL);
INSERT INTO "messages" VALUES(1,'tagger/attic/mic/event','{"schema": 1, "id": "01KAZZ3W7N8Q2V5T4R6Y9XBC0D", "type": "begin", "label": "siren", "score": 0.9, "peak_score": 0.95, "onset": "2026-11-28T07:33:48.165+00:00", "offset": null, "duration_s": null, "published": "2026-11-28T07:33:53.195+00:00", "node": "attic", "source": "mic", "model": "esc50"}');
CREATE TABLE retained (topic TEXT PRIMARY KEY);
INSERT INTO "retained" VALUES('tagger/attic/mic/siren/state');
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('messages',1);
COMMIT;
PRAGMA user_version = 1;
