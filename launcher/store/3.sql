-- Schema 3: what attempts are promised and take of a GPU's memory, and what is learned from that.

ALTER TABLE attempts ADD COLUMN claim INTEGER;                      -- bytes promised on each GPU; NULL: none of ours comes beside it
ALTER TABLE attempts ADD COLUMN lone INTEGER NOT NULL DEFAULT 0;    -- 1: it shares its GPUs with none of ours
UPDATE attempts SET lone = 1 WHERE outcome IS NULL AND device <> 'cpu';   -- nobody wrote down what they need
ALTER TABLE attempts ADD COLUMN peak INTEGER;                       -- bytes it took on a GPU at most; NULL: not measured
ALTER TABLE jobs ADD COLUMN excused INTEGER NOT NULL DEFAULT 0;     -- attempts that failed without its fault, since it was queued

-- The newest few attempts of each signature: how long they took, and how much memory of a GPU.
CREATE TABLE lessons (
    id        INTEGER PRIMARY KEY,
    signature TEXT NOT NULL,
    at        REAL NOT NULL,
    seconds   REAL,                                                 -- NULL: it did not come to its end
    peak      INTEGER                                               -- bytes, on one GPU; NULL: not measured
) STRICT;
CREATE INDEX lessons_by_signature ON lessons (signature, id);
