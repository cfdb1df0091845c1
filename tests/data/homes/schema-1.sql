-- A queue as schema 1 left it: five jobs in five states, one of which needs another.
PRAGMA application_id = 1279350094;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE attempts (
    job     INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    number  INTEGER NOT NULL,
    boot    TEXT NOT NULL,                         -- boot id of the claim: after a reboot nothing of it lives
    device  TEXT NOT NULL,                         -- 'cpu' or a GPU's UUID
    cpus    INTEGER NOT NULL,
    claimed REAL NOT NULL,
    ended   REAL,
    outcome TEXT,                                  -- JSON: see launcher/states.py
    PRIMARY KEY (job, number)
) STRICT, WITHOUT ROWID;
INSERT INTO "attempts" VALUES(1,1,'00000000-0000-0000-0000-000000000001','cpu',1,1.79517137984853219993e+09,1.79517137999357032779e+09,'{"schema": 1, "ending": "done", "at": 1795171379.9935703, "result": {}}');
INSERT INTO "attempts" VALUES(2,1,'00000000-0000-0000-0000-000000000001','cpu',1,1.7951713799604966641e+09,1.79517137999511599538e+09,'{"schema": 1, "ending": "failed", "at": 1795171379.995116, "error": "ended with exit code 3", "exit_code": 3, "signal": null}');
INSERT INTO "attempts" VALUES(3,1,'00000000-0000-0000-0000-000000000001','cpu',2,1795171380.07235,1.7951713825479843616e+09,'{"schema": 1, "ending": "stopped", "at": 1795171382.5479844}');
CREATE TABLE contexts (                 -- what a job remembers of the shell that queued it
    id     INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    body   TEXT NOT NULL                -- JSON: folder, umask, interpreter, environment, affinity
) STRICT;
INSERT INTO "contexts" VALUES(1,'d1','{"folder": "/", "umask": 18, "interpreter": "/usr/bin/python3", "environment": {"PATH": "/usr/bin:/bin"}, "affinity": [0]}');
CREATE TABLE counters (
    run   INTEGER NOT NULL,
    state TEXT NOT NULL,
    n     INTEGER NOT NULL,
    PRIMARY KEY (run, state)
) STRICT, WITHOUT ROWID;
INSERT INTO "counters" VALUES(1,'cancelled',1);
INSERT INTO "counters" VALUES(1,'done',1);
INSERT INTO "counters" VALUES(1,'failed',1);
INSERT INTO "counters" VALUES(1,'queued',2);
INSERT INTO "counters" VALUES(1,'running',0);
CREATE TABLE events (
    id     INTEGER PRIMARY KEY,
    at     REAL NOT NULL,
    job    INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    state  TEXT NOT NULL,
    reason TEXT NOT NULL
) STRICT;
INSERT INTO "events" VALUES(1,1.79517137969536733632e+09,1,'queued','new');
INSERT INTO "events" VALUES(2,1.79517137984853219993e+09,1,'running','on the CPU with 1 core');
INSERT INTO "events" VALUES(3,1.79517137995898032193e+09,2,'queued','new');
INSERT INTO "events" VALUES(4,1.7951713799604966641e+09,2,'running','on the CPU with 1 core');
INSERT INTO "events" VALUES(5,1795171379.99763,1,'done','done');
INSERT INTO "events" VALUES(6,1.7951713799985289573e+09,2,'failed','ended with exit code 3');
INSERT INTO "events" VALUES(7,1.7951713800708658695e+09,3,'queued','new');
INSERT INTO "events" VALUES(8,1795171380.07235,3,'running','on the CPU with 2 cores');
INSERT INTO "events" VALUES(9,1.79517138221219205856e+09,4,'queued','new');
INSERT INTO "events" VALUES(10,1.79517138232756662372e+09,5,'queued','new');
INSERT INTO "events" VALUES(11,1.79517138243364405636e+09,5,'cancelled','cancelled by its owner');
INSERT INTO "events" VALUES(12,1.79517138255060744282e+09,3,'queued','stopped, goes on later');
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
    ended     REAL,
    UNIQUE (run, name)
) STRICT;
INSERT INTO "jobs" VALUES(1,1,'command/ok','command','done',0,0,'','','{"name": "command/ok", "kind": "command", "role": "plain", "run": "add", "root": "/home/ada/.local/state/launcher", "entry": "", "preload": [], "argv": ["echo", "hello"], "model": null, "base": null, "data": null, "images": null, "settings": {}, "needs": [], "outputs": [], "sources": {}, "log_link": null, "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false}, "priority": 0, "hash": ""}',1,1,'done','{}',1.79517137969536733632e+09,1795171379.99763);
INSERT INTO "jobs" VALUES(2,1,'command/bad','command','failed',0,0,'','','{"name": "command/bad", "kind": "command", "role": "plain", "run": "add", "root": "/home/ada/.local/state/launcher", "entry": "", "preload": [], "argv": ["sh", "-c", "exit 3"], "model": null, "base": null, "data": null, "images": null, "settings": {}, "needs": [], "outputs": [], "sources": {}, "log_link": null, "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false}, "priority": 0, "hash": ""}',1,1,'ended with exit code 3','{}',1.79517137995898032193e+09,1.7951713799985289573e+09);
INSERT INTO "jobs" VALUES(3,1,'command/long','command','queued',5,0,'','','{"name": "command/long", "kind": "command", "role": "plain", "run": "add", "root": "/home/ada/.local/state/launcher", "entry": "", "preload": [], "argv": ["sleep", "600"], "model": null, "base": null, "data": null, "images": null, "settings": {}, "needs": [], "outputs": [], "sources": {}, "log_link": null, "resources": {"cpus": 2, "min_vram": null, "device": "cpu", "accelerated": false}, "priority": 5, "hash": ""}',1,1,'stopped, goes on later','{}',1.7951713800708658695e+09,NULL);
INSERT INTO "jobs" VALUES(4,1,'command/later','command','queued',0,1,'','','{"name": "command/later", "kind": "command", "role": "plain", "run": "add", "root": "/home/ada/.local/state/launcher", "entry": "", "preload": [], "argv": ["true"], "model": null, "base": null, "data": null, "images": null, "settings": {}, "needs": [], "outputs": [], "sources": {}, "log_link": null, "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false}, "priority": 0, "hash": ""}',1,0,'needs 1 core, 0 of 2 free','{}',1.79517138221219205856e+09,NULL);
INSERT INTO "jobs" VALUES(5,1,'command/gone','command','cancelled',0,0,'','','{"name": "command/gone", "kind": "command", "role": "plain", "run": "add", "root": "/home/ada/.local/state/launcher", "entry": "", "preload": [], "argv": ["true"], "model": null, "base": null, "data": null, "images": null, "settings": {}, "needs": [], "outputs": [], "sources": {}, "log_link": null, "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false}, "priority": 0, "hash": ""}',1,0,'cancelled by its owner','{}',1.79517138232756662372e+09,1.79517138243364405636e+09);
CREATE TABLE needs (
    job  INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    need INTEGER NOT NULL REFERENCES jobs (id),
    PRIMARY KEY (job, need)
) STRICT, WITHOUT ROWID;
INSERT INTO "needs" VALUES(4,3);
CREATE TABLE results (
    job  INTEGER PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    at   REAL NOT NULL,
    body TEXT NOT NULL                             -- JSON object that the kind's entry returned
) STRICT;
INSERT INTO "results" VALUES(1,1.79517137999357032779e+09,'{}');
CREATE TABLE runs (
    id     INTEGER PRIMARY KEY,
    name   TEXT NOT NULL,
    root   TEXT NOT NULL,               -- absolute; results lie in <root>/runs/<name>
    UNIQUE (root, name)
) STRICT;
INSERT INTO "runs" VALUES(1,'add','/home/ada/.local/state/launcher');
CREATE INDEX jobs_ready ON jobs (state, waits, priority DESC, id);
CREATE INDEX needs_by_need ON needs (need);
CREATE INDEX attempts_open ON attempts (job) WHERE outcome IS NULL;
CREATE INDEX events_by_job ON events (job);
CREATE TRIGGER count_new AFTER INSERT ON jobs BEGIN
    INSERT INTO counters VALUES (new.run, new.state, 1)
        ON CONFLICT (run, state) DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER count_gone AFTER DELETE ON jobs BEGIN
    UPDATE counters SET n = n - 1 WHERE run = old.run AND state = old.state;
END;
CREATE TRIGGER count_move AFTER UPDATE OF state ON jobs WHEN old.state <> new.state BEGIN
    UPDATE counters SET n = n - 1 WHERE run = old.run AND state = old.state;
    INSERT INTO counters VALUES (new.run, new.state, 1)
        ON CONFLICT (run, state) DO UPDATE SET n = n + 1;
END;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('jobs',5);
COMMIT;
