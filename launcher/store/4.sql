-- Schema 4: why a job is in its state and how an attempt ended, for programs: a code of a small
-- vocabulary, and its data, beside the text for people.

ALTER TABLE jobs ADD COLUMN reason_code TEXT NOT NULL DEFAULT '';      -- see ReasonCode in launcher/states.py
ALTER TABLE jobs ADD COLUMN reason_data TEXT;                          -- JSON object; NULL: none
ALTER TABLE events ADD COLUMN reason_code TEXT NOT NULL DEFAULT '';
ALTER TABLE events ADD COLUMN reason_data TEXT;
ALTER TABLE lanes ADD COLUMN reason_code TEXT NOT NULL DEFAULT '';
ALTER TABLE lanes ADD COLUMN reason_data TEXT;
ALTER TABLE attempts ADD COLUMN reason_code TEXT NOT NULL DEFAULT '';  -- '' until it has ended
ALTER TABLE attempts ADD COLUMN reason_data TEXT;
