-- Schema 2: lanes, groups and times to wait for; failures and lost attempts are counted; who supervises
-- an attempt is on record before it starts.

-- Jobs of a lane ask for the same: when the first of them cannot start, none of them can. So the
-- scheduler looks at a few jobs of each lane, and no lane hides another, however long it is.
CREATE TABLE lanes (
    id     INTEGER PRIMARY KEY,
    key    TEXT NOT NULL UNIQUE,          -- JSON: see launcher/store/rows.py
    reason TEXT NOT NULL DEFAULT ''       -- why the first job of the lane waits, in one line
) STRICT;

CREATE TABLE groups (
    name  TEXT PRIMARY KEY,
    slots INTEGER NOT NULL                -- how many of its jobs may run at once
) STRICT, WITHOUT ROWID;

-- A job with a timer does not start before it; the timer counts as one of the job's `waits`.
CREATE TABLE timers (
    job   INTEGER PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    at    REAL NOT NULL,
    since REAL                            -- when a pause began; NULL: the owner named the time
) STRICT;
CREATE INDEX timers_by_time ON timers (at);
CREATE INDEX timers_by_start ON timers (since);

ALTER TABLE jobs ADD COLUMN lane INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN rank REAL NOT NULL DEFAULT 0;          -- the smallest starts first
ALTER TABLE jobs ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;   -- since its owner last queued it
ALTER TABLE jobs ADD COLUMN lost INTEGER NOT NULL DEFAULT 0;       -- likewise
ALTER TABLE attempts ADD COLUMN pid INTEGER NOT NULL DEFAULT 0;    -- its supervisor
ALTER TABLE attempts ADD COLUMN start_ticks INTEGER NOT NULL DEFAULT 0;

-- Who waits for news asks for events after a number: no number may be given twice.
CREATE TABLE happened (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    at     REAL NOT NULL,
    job    INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    state  TEXT NOT NULL,
    reason TEXT NOT NULL
) STRICT;
INSERT INTO happened SELECT id, at, job, state, reason FROM events;
DROP TABLE events;
ALTER TABLE happened RENAME TO events;
CREATE INDEX events_by_job ON events (job);

-- New jobs are counted by who puts them in, many at once: a trigger took a quarter of the time.
DROP TRIGGER count_new;

DROP INDEX jobs_ready;
CREATE INDEX jobs_ready ON jobs (state, waits, lane, rank, id);
CREATE INDEX jobs_ended ON jobs (ended) WHERE ended IS NOT NULL;
