-- Schema 8: runs have a share of the machine, and what they used of it lately is on record.

ALTER TABLE runs ADD COLUMN share REAL NOT NULL DEFAULT 1;      -- of two runs that wait, one with 3 gets three times as much
ALTER TABLE runs ADD COLUMN vtime REAL NOT NULL DEFAULT 0;      -- card-seconds that it had for a share of 1; the least goes first
ALTER TABLE runs ADD COLUMN used REAL NOT NULL DEFAULT 0;       -- card-seconds that it had lately: old ones count less and less
ALTER TABLE runs ADD COLUMN used_at REAL NOT NULL DEFAULT 0;    -- when `used` was as much

-- The first jobs of each run, and of each lane in it, are found without looking at the others.
DROP INDEX jobs_ready;
CREATE INDEX jobs_ready ON jobs (state, waits, priority, run, lane, rank, id);
