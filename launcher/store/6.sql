-- Schema 6: less is written for a new job, for a claim and for an end.

-- The digests of the modules that decide a result are kilobytes, and thousands of jobs share them. Jobs
-- of older schemas keep them in `spec`.
CREATE TABLE sources (
    id     INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    body   TEXT NOT NULL                -- JSON: module -> digest of its code
) STRICT;
ALTER TABLE jobs ADD COLUMN sources INTEGER REFERENCES sources (id);    -- NULL: none, or they are in `spec`

-- The running jobs tell which attempts have not ended.
DROP INDEX attempts_open;

-- One statement instead of two.
DROP TRIGGER count_move;
CREATE TRIGGER count_move AFTER UPDATE OF state ON jobs WHEN old.state <> new.state BEGIN
    INSERT INTO counters VALUES (new.run, old.state, -1), (new.run, new.state, 1)
        ON CONFLICT (run, state) DO UPDATE SET n = n + excluded.n;
END;
