-- The queue. Only the command line and the scheduler write it. Times are seconds since 1970 UTC.

CREATE TABLE contexts (                 -- the shell that queued a job
    id     INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    body   TEXT NOT NULL                -- JSON: folder, umask, interpreter, environment, affinity
) STRICT;

-- The digests of the modules that decide a result are kilobytes, and thousands of jobs share them.
CREATE TABLE sources (
    id     INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    body   TEXT NOT NULL                -- JSON: module -> digest of its code
) STRICT;

CREATE TABLE runs (
    id      INTEGER PRIMARY KEY,
    name    TEXT NOT NULL,
    root    TEXT NOT NULL,                  -- absolute; the folder of the results is <root>/runs/<name>
    share   REAL NOT NULL DEFAULT 1,        -- a run with 3 gets three times as much as one with 1
    vtime   REAL NOT NULL DEFAULT 0,        -- card-seconds used, divided by the share; the smallest starts first
    used    REAL NOT NULL DEFAULT 0,        -- card-seconds used lately; older use counts less and less
    used_at REAL NOT NULL DEFAULT 0,        -- time for which `used` was computed
    notify  TEXT,                           -- JSON: see launcher/queue/job_options/notifications.py; NULL: as in config.toml
    UNIQUE (root, name)
) STRICT;

-- Jobs of a lane request the same resources: when the first of them cannot start, none of them can. So
-- the scheduler reads a few jobs of each lane, and no lane hides another, however long it is.
CREATE TABLE lanes (
    id          INTEGER PRIMARY KEY,
    key         TEXT NOT NULL UNIQUE,       -- JSON: see launcher/queue/store/lanes.py
    reason      TEXT NOT NULL DEFAULT '',   -- why the first job of the lane waits, in one line
    reason_code TEXT NOT NULL DEFAULT '',   -- see ReasonCode in launcher/queue/jobs/states.py
    reason_data TEXT                        -- JSON object; NULL: none
) STRICT;

CREATE TABLE groups (
    name   TEXT PRIMARY KEY,
    slots  INTEGER NOT NULL,            -- largest number of its jobs that run at once
    paused REAL                         -- since when none of its jobs starts; NULL: it is not paused
) STRICT, WITHOUT ROWID;

CREATE TABLE jobs (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,  -- never reused, because it is part of the names of attempt folders
    run         INTEGER NOT NULL REFERENCES runs (id),
    name        TEXT NOT NULL,
    kind        TEXT NOT NULL,
    state       TEXT NOT NULL,
    priority    INTEGER NOT NULL DEFAULT 0,
    waits       INTEGER NOT NULL DEFAULT 0,         -- needs that are not met yet, and a timer
    wish        TEXT NOT NULL DEFAULT '',           -- 'cancel', 'requeue' or 'prune': the request of its owner or search while it runs
    hash        TEXT NOT NULL,
    spec        TEXT NOT NULL,                      -- JSON: see launcher/queue/jobs/stored_specs.py
    context     INTEGER NOT NULL REFERENCES contexts (id),
    attempts    INTEGER NOT NULL DEFAULT 0,
    reason      TEXT NOT NULL DEFAULT '',           -- why it is in its state, in one line
    outputs     TEXT NOT NULL DEFAULT '{}',         -- JSON: path -> [size, mtime_ns] when it was done
    submitted   REAL NOT NULL,
    ended       REAL,
    lane        INTEGER NOT NULL DEFAULT 0,
    rank        REAL NOT NULL DEFAULT 0,            -- the smallest starts first
    failures    INTEGER NOT NULL DEFAULT 0,         -- since its owner last queued it
    lost        INTEGER NOT NULL DEFAULT 0,         -- lost attempts since then
    excused     INTEGER NOT NULL DEFAULT 0,         -- attempts since then that failed without its fault
    reason_code TEXT NOT NULL DEFAULT '',           -- the reason for programs: see ReasonCode in launcher/queue/jobs/states.py
    reason_data TEXT,                               -- JSON object; NULL: none
    sources     INTEGER REFERENCES sources (id),    -- NULL: none
    paused      REAL,                               -- since when its running program is paused; NULL: it is not
    note        TEXT NOT NULL DEFAULT '',           -- written by its owner
    code        INTEGER,                            -- row of queued_code; NULL: unknown
    UNIQUE (run, name)
) STRICT;

-- The first jobs of each run, and of each lane in it, are found without reading the others. The index
-- serves the claim and every listing by state. A second index that begins with `state` makes the planner
-- sort instead: 0.02 ms becomes 90 ms at a million rows.
CREATE INDEX jobs_ready ON jobs (state, waits, priority, run, lane, rank, id);
CREATE INDEX jobs_ended ON jobs (ended) WHERE ended IS NOT NULL;
CREATE INDEX jobs_by_lane ON jobs (lane);                                           -- the jobs of a group
CREATE INDEX jobs_failed ON jobs (run, submitted, ended) WHERE state = 'failed';    -- those that one command queued

CREATE TABLE needs (
    job     INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    need    INTEGER NOT NULL REFERENCES jobs (id),
    any_end INTEGER NOT NULL DEFAULT 0,     -- 0: `need` must be done; 1: it must have ended, done or not; 2: see output_conflicts.py
    PRIMARY KEY (job, need)
) STRICT, WITHOUT ROWID;
CREATE INDEX needs_by_need ON needs (need);

-- A job with a timer does not start before it. The timer counts as one of the job's `waits`.
CREATE TABLE timers (
    job   INTEGER PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    at    REAL NOT NULL,
    since REAL                          -- when a pause began; NULL: the owner named the time
) STRICT;
CREATE INDEX timers_by_time ON timers (at);
CREATE INDEX timers_by_start ON timers (since);

CREATE TABLE attempts (
    job         INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    number      INTEGER NOT NULL,
    boot        TEXT NOT NULL,                      -- boot ID of the claim: after a reboot, none of its processes lives
    device      TEXT NOT NULL,                      -- 'cpu' or a GPU's UUID
    cpus        INTEGER NOT NULL,
    claimed     REAL NOT NULL,
    ended       REAL,
    outcome     TEXT,                               -- JSON: see launcher/queue/jobs/states.py
    pid         INTEGER NOT NULL DEFAULT 0,         -- its supervisor, recorded before it starts
    start_ticks INTEGER NOT NULL DEFAULT 0,
    vram        INTEGER,                            -- bytes reserved on each GPU; NULL: estimated, or exclusive
    exclusive   INTEGER NOT NULL DEFAULT 0,         -- 1: it shares its GPUs with none of our jobs
    peak        INTEGER,                            -- largest memory in bytes that it used on a GPU; NULL: not measured
    reason_code TEXT NOT NULL DEFAULT '',           -- '' until it has ended
    reason_data TEXT,
    paused      REAL NOT NULL DEFAULT 0,            -- seconds of its pauses that are over
    PRIMARY KEY (job, number)
) STRICT, WITHOUT ROWID;

-- A program that waits for news asks for events after a number: no number may be used twice.
CREATE TABLE events (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    at          REAL NOT NULL,
    job         INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    state       TEXT NOT NULL,
    reason      TEXT NOT NULL,
    reason_code TEXT NOT NULL DEFAULT '',
    reason_data TEXT
) STRICT;
CREATE INDEX events_by_job ON events (job);
CREATE INDEX events_of_releases ON events (at) WHERE reason_code = 'released';

CREATE TABLE results (
    job  INTEGER PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    at   REAL NOT NULL,
    body TEXT NOT NULL                  -- JSON object that the entry of the job type returned
) STRICT;

CREATE TABLE tags (
    job INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    tag TEXT NOT NULL,
    PRIMARY KEY (job, tag)
) STRICT, WITHOUT ROWID;
CREATE INDEX tags_by_name ON tags (tag, job);

-- The newest few attempts of each signature: duration, and memory on a GPU.
CREATE TABLE lessons (
    id        INTEGER PRIMARY KEY,
    signature TEXT NOT NULL,
    at        REAL NOT NULL,
    seconds   REAL,                     -- NULL: it did not come to its end
    peak      INTEGER,                  -- bytes, on one GPU; NULL: not measured
    shared    REAL,                     -- seconds during which it shared a card; NULL: unknown
    slowdown  REAL,                     -- factor of its duration meanwhile, at least 1; NULL: unknown
    sm        REAL,                     -- mean use of the multiprocessors without others, 0 to 1; NULL: unknown
    machine   TEXT NOT NULL DEFAULT '', -- card and driver, as `launcher.queue.gpu.snapshot` writes them; '': unknown
    numbers   TEXT                      -- JSON: the numbers that its signature leaves out; NULL: unknown
) STRICT;
CREATE INDEX lessons_by_signature ON lessons (signature, id);

-- Jobs by run and state, so that no screen counts rows. New jobs are counted by the command that inserts
-- them, many at once: a trigger took a quarter of the time.
CREATE TABLE counters (
    run   INTEGER NOT NULL,
    state TEXT NOT NULL,
    n     INTEGER NOT NULL,
    PRIMARY KEY (run, state)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER count_gone AFTER DELETE ON jobs BEGIN
    UPDATE counters SET n = n - 1 WHERE run = old.run AND state = old.state;
END;
CREATE TRIGGER count_move AFTER UPDATE OF state ON jobs WHEN old.state <> new.state BEGIN
    INSERT INTO counters VALUES (new.run, old.state, -1), (new.run, new.state, 1)
        ON CONFLICT (run, state) DO UPDATE SET n = n + excluded.n;
END;

-- Programs are found by the paths that they write.
CREATE TABLE output_paths (
    folder TEXT NOT NULL,               -- as the spec spells it, with a slash at the end; '' in a path without a slash
    name   TEXT NOT NULL,
    job    INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    PRIMARY KEY (folder, name, job)
) STRICT, WITHOUT ROWID;
CREATE INDEX output_paths_by_job ON output_paths (job);

CREATE VIEW program_outputs AS
    SELECT folder, substr(path, length(folder) + 1) AS name, job FROM (
        SELECT rtrim(value, replace(value, '/', '')) AS folder, value AS path, jobs.id AS job
        FROM jobs CROSS JOIN json_each(CASE WHEN json_valid(spec) THEN spec ELSE '{}' END, '$.outputs') AS listed
        WHERE jobs.kind = 'command' AND instr(spec, '"outputs"') AND listed.type = 'text'
    );

CREATE TRIGGER list_outputs AFTER INSERT ON jobs WHEN new.kind = 'command' AND instr(new.spec, '"outputs"') BEGIN
    INSERT OR IGNORE INTO output_paths SELECT * FROM program_outputs WHERE job = new.id;
END;
CREATE TRIGGER list_changed_outputs AFTER UPDATE OF spec ON jobs
    WHEN new.kind = 'command' AND new.spec <> old.spec AND (instr(old.spec, '"outputs"') OR instr(new.spec, '"outputs"')) BEGIN
    DELETE FROM output_paths WHERE job = new.id;
    INSERT OR IGNORE INTO output_paths SELECT * FROM program_outputs WHERE job = new.id;
END;

CREATE TABLE code_records (             -- files as they were, such as a script and its modules; many commands share one
    id     INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    body   TEXT NOT NULL                -- JSON: see launcher/queue/store/queued_code.py
) STRICT;

CREATE TABLE queued_code (              -- one row for all jobs of a command
    id      INTEGER PRIMARY KEY,
    digest  TEXT NOT NULL UNIQUE,
    at      REAL NOT NULL,              -- when a person queued or retried the jobs
    body    TEXT NOT NULL,              -- JSON, as above
    records TEXT                        -- JSON: script, file or function -> its row in code_records; NULL: not recorded yet
) STRICT;
CREATE INDEX queued_code_unrecorded ON queued_code (id) WHERE records IS NULL;

CREATE TABLE code_changes (
    record INTEGER NOT NULL REFERENCES code_records (id) ON DELETE CASCADE,
    at     REAL NOT NULL,               -- since when its files differ so
    files  TEXT NOT NULL,               -- JSON: path -> digest of each file that differs; '' if it is gone
    PRIMARY KEY (record, at)
) STRICT, WITHOUT ROWID;

-- Searches choose the values of their next jobs themselves. A run with a search in state 'running' or 'paused' has not ended.
CREATE TABLE searches (
    id         INTEGER PRIMARY KEY,
    run        INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    name       TEXT NOT NULL,               -- name of its jobs before the values; '' if they have numbers
    state      TEXT NOT NULL,               -- 'running', 'paused' or 'ended'
    reason     TEXT NOT NULL DEFAULT '',    -- why it ended, or what its owner should know
    failed     INTEGER NOT NULL DEFAULT 0,  -- 1: it ended because something is wrong
    body       TEXT NOT NULL,               -- JSON: see launcher/experiments/search/definition.py
    context    INTEGER NOT NULL REFERENCES contexts (id),
    created    REAL NOT NULL,
    progress   TEXT NOT NULL DEFAULT '{}',  -- JSON: see launcher/experiments/search/standing.py
    UNIQUE (run, name)
) STRICT;

-- A trial has one job, or one for each seed: these share the number and the values.
CREATE TABLE trials (
    search INTEGER NOT NULL REFERENCES searches (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    repeat INTEGER NOT NULL,                -- which of the seeds, from 0
    job    INTEGER NOT NULL UNIQUE REFERENCES jobs (id) ON DELETE CASCADE,
    chosen TEXT NOT NULL,                   -- JSON: parameter -> value
    attrs  TEXT NOT NULL DEFAULT '{}',      -- JSON: notes of the sampler
    told   INTEGER NOT NULL,                -- results that were known when its values were chosen
    PRIMARY KEY (search, number, repeat)
) STRICT, WITHOUT ROWID;
