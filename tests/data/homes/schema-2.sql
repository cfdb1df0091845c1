-- A queue as schema 2 left it: done, failed, held, grouped, timed, waiting for another, cancelled.
PRAGMA application_id = 1279350094;
PRAGMA user_version = 2;
BEGIN TRANSACTION;
CREATE TABLE attempts (
    job     INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    number  INTEGER NOT NULL,
    boot    TEXT NOT NULL,                         -- boot id of the claim: after a reboot nothing of it lives
    device  TEXT NOT NULL,                         -- 'cpu' or a GPU's UUID
    cpus    INTEGER NOT NULL,
    claimed REAL NOT NULL,
    ended   REAL,
    outcome TEXT, pid INTEGER NOT NULL DEFAULT 0, start_ticks INTEGER NOT NULL DEFAULT 0,                                  -- JSON: see launcher/states.py
    PRIMARY KEY (job, number)
) STRICT, WITHOUT ROWID;
INSERT INTO "attempts" VALUES(1,1,'00000000-0000-0000-0000-000000000001','cpu',1,1.79524892861806821824e+09,1.79524892863695287705e+09,'{"schema": 1, "ending": "done", "at": 1795248928.6369529, "result": {}}',992,249075);
INSERT INTO "attempts" VALUES(2,1,'00000000-0000-0000-0000-000000000001','cpu',1,1.79524892907422089572e+09,1.79524892908113336566e+09,'{"schema": 1, "ending": "failed", "at": 1795248929.0811334, "error": "ended with exit code 3", "exit_code": 3, "signal": null}',992,249075);
CREATE TABLE contexts (                 -- what a job remembers of the shell that queued it
    id     INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    body   TEXT NOT NULL                -- JSON: folder, umask, interpreter, environment, affinity
) STRICT;
INSERT INTO "contexts" VALUES(1,'a19ec8a7962ce48de8142e2951cc257c8e0fad71b83ea963d41250833c81a417','{"folder": "/", "umask": 18, "interpreter": "/usr/bin/python3", "environment": {"PATH": "/usr/bin:/bin", "LAUNCHER_HOME": "/home/somebody/queue", "PYTHONPATH": "/home/somebody/lib", "HOME": "/home/somebody", "XDG_CONFIG_HOME": "/home/somebody/c", "LC_CTYPE": "C.UTF-8"}, "affinity": [0, 1]}');
CREATE TABLE counters (
    run   INTEGER NOT NULL,
    state TEXT NOT NULL,
    n     INTEGER NOT NULL,
    PRIMARY KEY (run, state)
) STRICT, WITHOUT ROWID;
INSERT INTO "counters" VALUES(1,'cancelled',1);
INSERT INTO "counters" VALUES(1,'done',1);
INSERT INTO "counters" VALUES(1,'failed',1);
INSERT INTO "counters" VALUES(1,'held',3);
INSERT INTO "counters" VALUES(1,'queued',2);
INSERT INTO "counters" VALUES(1,'running',0);
CREATE TABLE "events" (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    at     REAL NOT NULL,
    job    INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    state  TEXT NOT NULL,
    reason TEXT NOT NULL
) STRICT;
INSERT INTO "events" VALUES(1,1.79524892826656413081e+09,1,'queued','new');
INSERT INTO "events" VALUES(2,1.79524892861806821824e+09,1,'running','on the CPU with 1 core');
INSERT INTO "events" VALUES(3,1.7952489286486284733e+09,1,'done','done');
INSERT INTO "events" VALUES(4,1.79524892906925916669e+09,2,'queued','new');
INSERT INTO "events" VALUES(5,1.79524892907422089572e+09,2,'running','on the CPU with 1 core');
INSERT INTO "events" VALUES(6,1.79524892908866691584e+09,2,'failed','ended with exit code 3');
INSERT INTO "events" VALUES(7,1.79524892938818383218e+09,3,'held','held by its owner');
INSERT INTO "events" VALUES(8,1.79524892956839847565e+09,4,'held','held by its owner');
INSERT INTO "events" VALUES(9,1.79524892971988868708e+09,5,'queued','new');
INSERT INTO "events" VALUES(10,1.79524892987847733494e+09,6,'queued','new');
INSERT INTO "events" VALUES(11,1.79524893021102046968e+09,7,'held','held by its owner');
INSERT INTO "events" VALUES(12,1.79524893037895035743e+09,7,'cancelled','cancelled by its owner');
INSERT INTO "events" VALUES(13,1.79524893054364752774e+09,8,'held','held by its owner');
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
    ended     REAL, lane INTEGER NOT NULL DEFAULT 0, rank REAL NOT NULL DEFAULT 0, failures INTEGER NOT NULL DEFAULT 0, lost INTEGER NOT NULL DEFAULT 0,
    UNIQUE (run, name)
) STRICT;
INSERT INTO "jobs" VALUES(1,1,'command/ok','command','done',0,0,'','','{"name": "command/ok", "kind": "command", "role": "plain", "run": "add", "root": "/home/somebody/queue", "argv": ["true"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null}}',1,1,'done','{}',1.79524892826656413081e+09,1.7952489286486284733e+09,1,1.79524892826656413081e+09,0,0);
INSERT INTO "jobs" VALUES(2,1,'command/bad','command','failed',0,0,'','','{"name": "command/bad", "kind": "command", "role": "plain", "run": "add", "root": "/home/somebody/queue", "argv": ["sh", "-c", "exit 3"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null}}',1,1,'ended with exit code 3','{}',1.79524892906925916669e+09,1.79524892908866691584e+09,1,1.79524892906925916669e+09,1,0);
INSERT INTO "jobs" VALUES(3,1,'command/held','command','held',0,0,'','','{"name": "command/held", "kind": "command", "role": "plain", "run": "add", "root": "/home/somebody/queue", "argv": ["sleep", "600"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null}}',1,0,'held by its owner','{}',1.79524892938818383218e+09,NULL,1,1.79524892938818383218e+09,0,0);
INSERT INTO "jobs" VALUES(4,1,'command/grouped','command','held',5,0,'','','{"name": "command/grouped", "kind": "command", "role": "plain", "run": "add", "root": "/home/somebody/queue", "argv": ["true"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null}, "terms": {"group": "few", "not_before": null, "retries": 2, "backoff_s": 10.0, "time_limit_s": 28800.0, "warn_s": 0.0, "warn_signal": "SIGTERM", "grace_s": 30.0, "rerun": "again"}, "priority": 5}',1,0,'held by its owner','{}',1.79524892956839847565e+09,NULL,2,1.79481692956839847565e+09,0,0);
INSERT INTO "jobs" VALUES(5,1,'command/later','command','queued',0,1,'','','{"name": "command/later", "kind": "command", "role": "plain", "run": "add", "root": "/home/somebody/queue", "argv": ["true"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null}, "terms": {"group": "", "not_before": 2082758400.0, "retries": 0, "backoff_s": 10.0, "time_limit_s": null, "warn_s": 0.0, "warn_signal": "SIGTERM", "grace_s": 30.0, "rerun": "again"}}',1,0,'new','{}',1.79524892971988868708e+09,NULL,1,1.79524892971988868708e+09,0,0);
INSERT INTO "jobs" VALUES(6,1,'command/below','command','queued',0,1,'','','{"name": "command/below", "kind": "command", "role": "plain", "run": "add", "root": "/home/somebody/queue", "argv": ["true"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null}}',1,0,'new','{}',1.79524892987847733494e+09,NULL,1,1.79524892987847733494e+09,0,0);
INSERT INTO "jobs" VALUES(7,1,'command/gone','command','cancelled',0,0,'','','{"name": "command/gone", "kind": "command", "role": "plain", "run": "add", "root": "/home/somebody/queue", "argv": ["true"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null}}',1,0,'cancelled by its owner','{}',1.79524893021102046968e+09,1.79524893037895035743e+09,1,1.79524893021102046968e+09,0,0);
INSERT INTO "jobs" VALUES(8,1,'command/hurried','command','held',-2,0,'','','{"name": "command/hurried", "kind": "command", "role": "plain", "run": "add", "root": "/home/somebody/queue", "argv": ["true"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": 1073741824}, "priority": -2}',1,0,'held by its owner','{}',1.79524893054364752774e+09,NULL,3,1.79542173054364752769e+09,0,0);
CREATE TABLE lanes (
    id     INTEGER PRIMARY KEY,
    key    TEXT NOT NULL UNIQUE,          -- JSON: see launcher/store/rows.py
    reason TEXT NOT NULL DEFAULT ''       -- why the first job of the lane waits, in one line
) STRICT;
INSERT INTO "lanes" VALUES(1,'{"breed": ["", [], ""], "group": "", "resources": {"accelerated": false, "cpus": 1, "device": "cpu", "min_vram": null, "ram": null}}','');
INSERT INTO "lanes" VALUES(2,'{"breed": ["", [], ""], "group": "few", "resources": {"accelerated": false, "cpus": 1, "device": "cpu", "min_vram": null, "ram": null}}','');
INSERT INTO "lanes" VALUES(3,'{"breed": ["", [], ""], "group": "", "resources": {"accelerated": false, "cpus": 1, "device": "cpu", "min_vram": null, "ram": 1073741824}}','');
CREATE TABLE needs (
    job  INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    need INTEGER NOT NULL REFERENCES jobs (id),
    PRIMARY KEY (job, need)
) STRICT, WITHOUT ROWID;
INSERT INTO "needs" VALUES(6,4);
CREATE TABLE results (
    job  INTEGER PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    at   REAL NOT NULL,
    body TEXT NOT NULL                             -- JSON object that the kind's entry returned
) STRICT;
CREATE TABLE runs (
    id     INTEGER PRIMARY KEY,
    name   TEXT NOT NULL,
    root   TEXT NOT NULL,               -- absolute; results lie in <root>/runs/<name>
    UNIQUE (root, name)
) STRICT;
INSERT INTO "runs" VALUES(1,'add','/home/somebody/queue');
CREATE TABLE timers (
    job   INTEGER PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    at    REAL NOT NULL,
    since REAL                            -- when a pause began; NULL: the owner named the time
) STRICT;
INSERT INTO "timers" VALUES(5,2082758400.0,NULL);
CREATE INDEX needs_by_need ON needs (need);
CREATE INDEX attempts_open ON attempts (job) WHERE outcome IS NULL;
CREATE TRIGGER count_gone AFTER DELETE ON jobs BEGIN
    UPDATE counters SET n = n - 1 WHERE run = old.run AND state = old.state;
END;
CREATE TRIGGER count_move AFTER UPDATE OF state ON jobs WHEN old.state <> new.state BEGIN
    UPDATE counters SET n = n - 1 WHERE run = old.run AND state = old.state;
    INSERT INTO counters VALUES (new.run, new.state, 1)
        ON CONFLICT (run, state) DO UPDATE SET n = n + 1;
END;
CREATE INDEX timers_by_time ON timers (at);
CREATE INDEX timers_by_start ON timers (since);
CREATE INDEX events_by_job ON events (job);
CREATE INDEX jobs_ready ON jobs (state, waits, lane, rank, id);
CREATE INDEX jobs_ended ON jobs (ended) WHERE ended IS NOT NULL;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('events',13);
INSERT INTO "sqlite_sequence" VALUES('jobs',8);
COMMIT;
