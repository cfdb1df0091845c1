-- Schema 9: what a run's owner wants to be told of it.

ALTER TABLE runs ADD COLUMN notify TEXT;                        -- JSON: see launcher/job_options/notifications.py; NULL: as config.toml has it
