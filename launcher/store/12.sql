-- Schema 12: the code with which jobs were queued, and how it changed afterwards.

CREATE TABLE code_records (             -- files as they were, such as a script and its modules; many commands share one
    id     INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    body   TEXT NOT NULL                -- JSON: see launcher/store/queued_code.py
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

ALTER TABLE jobs ADD COLUMN code INTEGER;          -- of queued_code; NULL: unknown
