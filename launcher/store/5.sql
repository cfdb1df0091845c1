-- Schema 5: a job may wait for the end of another one, however that ends.

ALTER TABLE needs ADD COLUMN any_end INTEGER NOT NULL DEFAULT 0;    -- 0: `need` must be done; 1: it must have ended, done or not
