-- Schema 1: the queue. Written by the command line and the scheduler only; times are seconds since
-- 1970 UTC. The files that follow say what later versions changed.

CREATE TABLE contexts (                 -- what a job remembers of the shell that queued it
    id     INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    body   TEXT NOT NULL                -- JSON: folder, umask, interpreter, environment, affinity
) STRICT;

CREATE TABLE runs (
    id     INTEGER PRIMARY KEY,
    name   TEXT NOT NULL,
    root   TEXT NOT NULL,               -- absolute; results lie in <root>/runs/<name>
    UNIQUE (root, name)
) STRICT;

CREATE TABLE jobs (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,   -- never reused: attempt folders carry it
    run       INTEGER NOT NULL REFERENCES runs (id),
    name      TEXT NOT NULL,
    kind      TEXT NOT NULL,
    state     TEXT NOT NULL,
    priority  INTEGER NOT NULL DEFAULT 0,
    waits     INTEGER NOT NULL DEFAULT 0,          -- needs that are not done yet
    wish      TEXT NOT NULL DEFAULT '',            -- 'cancel' or 'requeue': what its owner asked of a running job
    hash      TEXT NOT NULL,
    spec      TEXT NOT NULL,                       -- JSON: see launcher/specs.py
    context   INTEGER NOT NULL REFERENCES contexts (id),
    attempts  INTEGER NOT NULL DEFAULT 0,
    reason    TEXT NOT NULL DEFAULT '',            -- why it is in its state, in one line
    outputs   TEXT NOT NULL DEFAULT '{}',          -- JSON: path -> [size, mtime_ns] when it was done
    submitted REAL NOT NULL,
    ended     REAL,
    UNIQUE (run, name)
) STRICT;

-- One composite index serves the claim and every listing by state. A second index that begins with
-- `state` makes the planner sort instead: 0.02 ms becomes 90 ms at a million rows.
CREATE INDEX jobs_ready ON jobs (state, waits, priority DESC, id);

CREATE TABLE needs (
    job  INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    need INTEGER NOT NULL REFERENCES jobs (id),
    PRIMARY KEY (job, need)
) STRICT, WITHOUT ROWID;
CREATE INDEX needs_by_need ON needs (need);

CREATE TABLE attempts (
    job     INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    number  INTEGER NOT NULL,
    boot    TEXT NOT NULL,                         -- boot id of the claim: after a reboot nothing of it lives
    device  TEXT NOT NULL,                         -- 'cpu' or a GPU's UUID
    cpus    INTEGER NOT NULL,
    claimed REAL NOT NULL,
    ended   REAL,
    outcome TEXT,                                  -- JSON: see launcher/states.py
    PRIMARY KEY (job, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX attempts_open ON attempts (job) WHERE outcome IS NULL;

CREATE TABLE events (
    id     INTEGER PRIMARY KEY,
    at     REAL NOT NULL,
    job    INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    state  TEXT NOT NULL,
    reason TEXT NOT NULL
) STRICT;
CREATE INDEX events_by_job ON events (job);

CREATE TABLE results (
    job  INTEGER PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    at   REAL NOT NULL,
    body TEXT NOT NULL                             -- JSON object that the kind's entry returned
) STRICT;

-- Kept by triggers, so that no screen ever counts rows.
CREATE TABLE counters (
    run   INTEGER NOT NULL,
    state TEXT NOT NULL,
    n     INTEGER NOT NULL,
    PRIMARY KEY (run, state)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER count_new AFTER INSERT ON jobs BEGIN
    INSERT INTO counters VALUES (new.run, new.state, 1)
        ON CONFLICT (run, state) DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER count_gone AFTER DELETE ON jobs BEGIN
    UPDATE counters SET n = n - 1 WHERE run = old.run AND state = old.state;
END;
CREATE TRIGGER count_move AFTER UPDATE OF state ON jobs WHEN old.state <> new.state BEGIN
    UPDATE counters SET n = n - 1 WHERE run = old.run AND state = old.state;
    INSERT INTO counters VALUES (new.run, new.state, 1)
        ON CONFLICT (run, state) DO UPDATE SET n = n + 1;
END;
