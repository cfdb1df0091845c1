-- Schema 9: running programs can be paused; jobs have tags and a note; runs say what is to be told of them.

ALTER TABLE jobs ADD COLUMN paused REAL;                            -- since when its running program is paused; NULL: it is not
ALTER TABLE attempts ADD COLUMN paused REAL NOT NULL DEFAULT 0;     -- seconds of its pauses that are over

ALTER TABLE jobs ADD COLUMN note TEXT NOT NULL DEFAULT '';          -- what its owner wrote down of it
CREATE TABLE tags (
    job INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    tag TEXT NOT NULL,
    PRIMARY KEY (job, tag)
) STRICT, WITHOUT ROWID;
CREATE INDEX tags_by_name ON tags (tag, job);

ALTER TABLE runs ADD COLUMN notify TEXT;                        -- JSON: see launcher/job_options/notifications.py; NULL: as config.toml has it
