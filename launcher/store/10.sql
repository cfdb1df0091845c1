-- Schema 10: groups can be paused, and name their jobs.

ALTER TABLE groups ADD COLUMN paused REAL;                      -- since when none of its jobs starts; NULL: it is not paused
CREATE INDEX jobs_by_lane ON jobs (lane);                       -- the jobs of a group
