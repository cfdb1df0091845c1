-- A queue as schema 9 left it: done, failed, held, grouped, timed, waiting for another and for the end of one that failed, on a GPU, cancelled, with a tag and a note.
PRAGMA application_id = 1279350094;
PRAGMA user_version = 9;
BEGIN TRANSACTION;
CREATE TABLE attempts (
    job     INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    number  INTEGER NOT NULL,
    boot    TEXT NOT NULL,                         -- boot id of the claim: after a reboot nothing of it lives
    device  TEXT NOT NULL,                         -- 'cpu' or a GPU's UUID
    cpus    INTEGER NOT NULL,
    claimed REAL NOT NULL,
    ended   REAL,
    outcome TEXT, pid INTEGER NOT NULL DEFAULT 0, start_ticks INTEGER NOT NULL DEFAULT 0, claim INTEGER, lone INTEGER NOT NULL DEFAULT 0, peak INTEGER, reason_code TEXT NOT NULL DEFAULT '', reason_data TEXT, paused REAL NOT NULL DEFAULT 0,                                  -- JSON: see launcher/states.py
    PRIMARY KEY (job, number)
) STRICT, WITHOUT ROWID;
INSERT INTO "attempts" VALUES(1,1,'00000000-0000-0000-0000-000000000001','cpu',1,1.79524890635810565947e+09,1.79524890638238739971e+09,'{"schema": 1, "ending": "done", "at": 1795248906.3823874, "result": {}}',719,246849,NULL,0,NULL,'done',NULL,0.0);
INSERT INTO "attempts" VALUES(2,1,'00000000-0000-0000-0000-000000000001','cpu',1,1.79524890712539172176e+09,1.79524890714070940018e+09,'{"schema": 1, "ending": "failed", "at": 1795248907.1407094, "error": "ended with exit code 3", "exit_code": 3, "signal": null}',719,246849,NULL,0,NULL,'failed',NULL,0.0);
CREATE TABLE contexts (                 -- what a job remembers of the shell that queued it
    id     INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    body   TEXT NOT NULL                -- JSON: folder, umask, interpreter, environment, affinity
) STRICT;
INSERT INTO "contexts" VALUES(1,'1b894cff1e13d721fe113c1f8e80c86852392944c0b168c87ac8e86c1b08dfb7','{"folder": "/", "umask": 18, "interpreter": "/usr/bin/python3", "environment": {"PATH": "/usr/bin:/bin", "LAUNCHER_HOME": "/home/somebody/queue", "PYTHONPATH": "/home/somebody/lib", "HOME": "/home/somebody", "XDG_CONFIG_HOME": "/home/somebody/c", "LC_CTYPE": "C.UTF-8"}, "affinity": [0, 1]}');
CREATE TABLE counters (
    run   INTEGER NOT NULL,
    state TEXT NOT NULL,
    n     INTEGER NOT NULL,
    PRIMARY KEY (run, state)
) STRICT, WITHOUT ROWID;
INSERT INTO "counters" VALUES(1,'cancelled',1);
INSERT INTO "counters" VALUES(1,'done',1);
INSERT INTO "counters" VALUES(1,'failed',1);
INSERT INTO "counters" VALUES(1,'held',4);
INSERT INTO "counters" VALUES(1,'queued',2);
INSERT INTO "counters" VALUES(1,'running',0);
CREATE TABLE "events" (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    at     REAL NOT NULL,
    job    INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    state  TEXT NOT NULL,
    reason TEXT NOT NULL
, reason_code TEXT NOT NULL DEFAULT '', reason_data TEXT) STRICT;
INSERT INTO "events" VALUES(1,1.79524890565777897836e+09,1,'queued','new','new',NULL);
INSERT INTO "events" VALUES(2,1.79524890635810565947e+09,1,'running','on the CPU with 1 core','started',NULL);
INSERT INTO "events" VALUES(3,1.79524890639681982988e+09,1,'done','done','done',NULL);
INSERT INTO "events" VALUES(4,1.79524890710732221597e+09,2,'queued','new','new',NULL);
INSERT INTO "events" VALUES(5,1.79524890712539172176e+09,2,'running','on the CPU with 1 core','started',NULL);
INSERT INTO "events" VALUES(6,1.79524890715684485439e+09,2,'failed','ended with exit code 3','failed',NULL);
INSERT INTO "events" VALUES(7,1.79524890773059487341e+09,3,'held','held by its owner','held',NULL);
INSERT INTO "events" VALUES(8,1.79524890808912491796e+09,4,'held','held by its owner','held',NULL);
INSERT INTO "events" VALUES(9,1.79524890843157315257e+09,5,'queued','new','new',NULL);
INSERT INTO "events" VALUES(10,1.79524890876369905474e+09,6,'queued','new','new',NULL);
INSERT INTO "events" VALUES(11,1.79524890914529681204e+09,7,'held','held by its owner','held',NULL);
INSERT INTO "events" VALUES(12,1.79524890943294978141e+09,8,'held','held by its owner','held',NULL);
INSERT INTO "events" VALUES(13,1.79524890974571776393e+09,8,'cancelled','cancelled by its owner','cancelled',NULL);
INSERT INTO "events" VALUES(14,1.795248910020537138e+09,9,'held','held by its owner','held',NULL);
CREATE TABLE groups (
    name  TEXT PRIMARY KEY,
    slots INTEGER NOT NULL                -- how many of its jobs may run at once
) STRICT, WITHOUT ROWID;
INSERT INTO "groups" VALUES('few',1);
CREATE TABLE jobs (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,   -- never reused: attempt folders carry it
    run       INTEGER NOT NULL REFERENCES runs (id),
    name      TEXT NOT NULL,
    kind      TEXT NOT NULL,
    state     TEXT NOT NULL,
    priority  INTEGER NOT NULL DEFAULT 0,
    waits     INTEGER NOT NULL DEFAULT 0,          -- needs that are not done yet
    wish      TEXT NOT NULL DEFAULT '',            -- 'cancel' or 'requeue': what its owner asked of a running job
    hash      TEXT NOT NULL,
    spec      TEXT NOT NULL,                       -- JSON: see launcher/specs.py
    context   INTEGER NOT NULL REFERENCES contexts (id),
    attempts  INTEGER NOT NULL DEFAULT 0,
    reason    TEXT NOT NULL DEFAULT '',            -- why it is in its state, in one line
    outputs   TEXT NOT NULL DEFAULT '{}',          -- JSON: path -> [size, mtime_ns] when it was done
    submitted REAL NOT NULL,
    ended     REAL, lane INTEGER NOT NULL DEFAULT 0, rank REAL NOT NULL DEFAULT 0, failures INTEGER NOT NULL DEFAULT 0, lost INTEGER NOT NULL DEFAULT 0, excused INTEGER NOT NULL DEFAULT 0, reason_code TEXT NOT NULL DEFAULT '', reason_data TEXT, sources INTEGER REFERENCES sources (id), paused REAL, note TEXT NOT NULL DEFAULT '',
    UNIQUE (run, name)
) STRICT;
INSERT INTO "jobs" VALUES(1,1,'command/ok','command','done',0,0,'','','{"name": "command/ok", "kind": "command", "role": "plain", "run": "add", "root": "/home/somebody/queue", "argv": ["true"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "signature": "command 91ddf64811ae5fc1"}',1,1,'done','{}',1.79524890565777897836e+09,1.79524890639681982988e+09,1,1.79524890565777897836e+09,0,0,0,'done',NULL,NULL,NULL,'the first of the table');
INSERT INTO "jobs" VALUES(2,1,'command/bad','command','failed',0,0,'','','{"name": "command/bad", "kind": "command", "role": "plain", "run": "add", "root": "/home/somebody/queue", "argv": ["sh", "-c", "exit 3"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "signature": "command 8dc2b8239103b77b"}',1,1,'ended with exit code 3','{}',1.79524890710732221597e+09,1.79524890715684485439e+09,1,1.79524890710732221597e+09,1,0,0,'failed',NULL,NULL,NULL,'');
INSERT INTO "jobs" VALUES(3,1,'command/held','command','held',0,0,'','','{"name": "command/held", "kind": "command", "role": "plain", "run": "add", "root": "/home/somebody/queue", "argv": ["sleep", "600"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "signature": "command a9d057cdbb615d62"}',1,0,'held by its owner','{}',1.79524890773059487341e+09,NULL,1,1.79524890773059487341e+09,0,0,0,'held',NULL,NULL,NULL,'');
INSERT INTO "jobs" VALUES(4,1,'command/grouped','command','held',5,0,'','','{"name": "command/grouped", "kind": "command", "role": "plain", "run": "add", "root": "/home/somebody/queue", "argv": ["true"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "terms": {"group": "few", "not_before": null, "retries": 2, "backoff_s": 10.0, "time_limit_s": 28800.0, "warn_s": 0.0, "warn_signal": "SIGTERM", "grace_s": 30.0, "rerun": "again"}, "priority": 5, "signature": "command 91ddf64811ae5fc1"}',1,0,'held by its owner','{}',1.79524890808912491796e+09,NULL,2,1.79481690808912491795e+09,0,0,0,'held',NULL,NULL,NULL,'');
INSERT INTO "jobs" VALUES(5,1,'command/later','command','queued',0,1,'','','{"name": "command/later", "kind": "command", "role": "plain", "run": "add", "root": "/home/somebody/queue", "argv": ["true"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "terms": {"group": "", "not_before": 2082758400.0, "retries": 0, "backoff_s": 10.0, "time_limit_s": null, "warn_s": 0.0, "warn_signal": "SIGTERM", "grace_s": 30.0, "rerun": "again"}, "signature": "command 91ddf64811ae5fc1"}',1,0,'new','{}',1.79524890843157315257e+09,NULL,1,1.79524890843157315257e+09,0,0,0,'new',NULL,NULL,NULL,'');
INSERT INTO "jobs" VALUES(6,1,'command/below','command','queued',0,1,'','','{"name": "command/below", "kind": "command", "role": "plain", "run": "add", "root": "/home/somebody/queue", "argv": ["true"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "signature": "command 91ddf64811ae5fc1"}',1,0,'new','{}',1.79524890876369905474e+09,NULL,1,1.79524890876369905474e+09,0,0,0,'new',NULL,NULL,NULL,'');
INSERT INTO "jobs" VALUES(7,1,'command/gpu','command','held',0,0,'','','{"name": "command/gpu", "kind": "command", "role": "plain", "run": "add", "root": "/home/somebody/queue", "argv": ["true"], "resources": {"cpus": 1, "min_vram": 10737418240, "device": "cuda", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "signature": "command 91ddf64811ae5fc1"}',1,0,'held by its owner','{}',1.79524890914529681204e+09,NULL,3,1.79524890914529681204e+09,0,0,0,'held',NULL,NULL,NULL,'');
INSERT INTO "jobs" VALUES(8,1,'command/gone','command','cancelled',0,0,'','','{"name": "command/gone", "kind": "command", "role": "plain", "run": "add", "root": "/home/somebody/queue", "argv": ["true"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "signature": "command 91ddf64811ae5fc1"}',1,0,'cancelled by its owner','{}',1.79524890943294978141e+09,1.79524890974571776393e+09,1,1.79524890943294978141e+09,0,0,0,'cancelled',NULL,NULL,NULL,'');
INSERT INTO "jobs" VALUES(9,1,'command/hurried','command','held',-2,0,'','','{"name": "command/hurried", "kind": "command", "role": "plain", "run": "add", "root": "/home/somebody/queue", "argv": ["true"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": 1073741824, "gpus": 1, "exclusive": false}, "priority": -2, "signature": "command 91ddf64811ae5fc1"}',1,0,'held by its owner','{}',1.795248910020537138e+09,NULL,4,1.79542171002053713799e+09,0,0,0,'held',NULL,NULL,NULL,'');
CREATE TABLE lanes (
    id     INTEGER PRIMARY KEY,
    key    TEXT NOT NULL UNIQUE,          -- JSON: see launcher/store/rows.py
    reason TEXT NOT NULL DEFAULT ''       -- why the first job of the lane waits, in one line
, reason_code TEXT NOT NULL DEFAULT '', reason_data TEXT) STRICT;
INSERT INTO "lanes" VALUES(1,'{"breed": ["", [], ""], "group": "", "resources": {"accelerated": false, "cpus": 1, "device": "cpu", "exclusive": false, "gpus": 1, "min_vram": null, "ram": null}}','','',NULL);
INSERT INTO "lanes" VALUES(2,'{"breed": ["", [], ""], "group": "few", "resources": {"accelerated": false, "cpus": 1, "device": "cpu", "exclusive": false, "gpus": 1, "min_vram": null, "ram": null}}','','',NULL);
INSERT INTO "lanes" VALUES(3,'{"breed": ["", [], ""], "group": "", "resources": {"accelerated": false, "cpus": 1, "device": "cuda", "exclusive": false, "gpus": 1, "min_vram": 10737418240, "ram": null}, "signature": "command 91ddf64811ae5fc1"}','','',NULL);
INSERT INTO "lanes" VALUES(4,'{"breed": ["", [], ""], "group": "", "resources": {"accelerated": false, "cpus": 1, "device": "cpu", "exclusive": false, "gpus": 1, "min_vram": null, "ram": 1073741824}}','','',NULL);
CREATE TABLE lessons (
    id        INTEGER PRIMARY KEY,
    signature TEXT NOT NULL,
    at        REAL NOT NULL,
    seconds   REAL,                                                 -- NULL: it did not come to its end
    peak      INTEGER, shared REAL, slowdown REAL, sm REAL, machine TEXT NOT NULL DEFAULT '', numbers TEXT                                               -- bytes, on one GPU; NULL: not measured
) STRICT;
INSERT INTO "lessons" VALUES(1,'command 91ddf64811ae5fc1',1.79524890639681982988e+09,61.5,4294967296,NULL,NULL,NULL,'NVIDIA A10, 24576 MiB, driver 550.54.15','["0.1"]');
CREATE TABLE needs (
    job  INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    need INTEGER NOT NULL REFERENCES jobs (id), any_end INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (job, need)
) STRICT, WITHOUT ROWID;
INSERT INTO "needs" VALUES(6,2,1);
INSERT INTO "needs" VALUES(6,4,0);
CREATE TABLE results (
    job  INTEGER PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    at   REAL NOT NULL,
    body TEXT NOT NULL                             -- JSON object that the kind's entry returned
) STRICT;
CREATE TABLE runs (
    id     INTEGER PRIMARY KEY,
    name   TEXT NOT NULL,
    root   TEXT NOT NULL, share REAL NOT NULL DEFAULT 1, vtime REAL NOT NULL DEFAULT 0, used REAL NOT NULL DEFAULT 0, used_at REAL NOT NULL DEFAULT 0, notify TEXT,               -- absolute; results lie in <root>/runs/<name>
    UNIQUE (root, name)
) STRICT;
INSERT INTO "runs" VALUES(1,'add','/home/somebody/queue',1.0,0.0,0.0,0.0,NULL);
CREATE TABLE sources (
    id     INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    body   TEXT NOT NULL                -- JSON: module -> digest of its code
) STRICT;
CREATE TABLE tags (
    job INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    tag TEXT NOT NULL,
    PRIMARY KEY (job, tag)
) STRICT, WITHOUT ROWID;
INSERT INTO "tags" VALUES(1,'paper');
CREATE TABLE timers (
    job   INTEGER PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    at    REAL NOT NULL,
    since REAL                            -- when a pause began; NULL: the owner named the time
) STRICT;
INSERT INTO "timers" VALUES(5,2082758400.0,NULL);
CREATE INDEX needs_by_need ON needs (need);
CREATE TRIGGER count_gone AFTER DELETE ON jobs BEGIN
    UPDATE counters SET n = n - 1 WHERE run = old.run AND state = old.state;
END;
CREATE INDEX timers_by_time ON timers (at);
CREATE INDEX timers_by_start ON timers (since);
CREATE INDEX events_by_job ON events (job);
CREATE INDEX jobs_ended ON jobs (ended) WHERE ended IS NOT NULL;
CREATE INDEX lessons_by_signature ON lessons (signature, id);
CREATE TRIGGER count_move AFTER UPDATE OF state ON jobs WHEN old.state <> new.state BEGIN
    INSERT INTO counters VALUES (new.run, old.state, -1), (new.run, new.state, 1)
        ON CONFLICT (run, state) DO UPDATE SET n = n + excluded.n;
END;
CREATE INDEX jobs_ready ON jobs (state, waits, priority, run, lane, rank, id);
CREATE INDEX tags_by_name ON tags (tag, job);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('events',14);
INSERT INTO "sqlite_sequence" VALUES('jobs',9);
COMMIT;
