-- Schema 7: a lesson tells where its attempt ran, beside whom, and with which numbers.

ALTER TABLE lessons ADD COLUMN shared REAL;                         -- seconds during which it shared a card; NULL: unknown
ALTER TABLE lessons ADD COLUMN slowdown REAL;                       -- so many times as long it took meanwhile, >= 1; NULL: unknown
ALTER TABLE lessons ADD COLUMN sm REAL;                             -- mean use of the multiprocessors while alone, 0 to 1; NULL: unknown
ALTER TABLE lessons ADD COLUMN machine TEXT NOT NULL DEFAULT '';    -- card and driver, as `launcher.gpu.snapshot` writes them; '': unknown
ALTER TABLE lessons ADD COLUMN numbers TEXT;                        -- JSON: those that its signature leaves out; NULL: unknown
