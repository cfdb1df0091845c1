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
INSERT INTO "attempts" VALUES(1,1,'00000000-0000-0000-0000-000000000000','cpu',1,1.79572152384842681884e+09,1.79572152420770668988e+09,'{"schema": 1, "ending": "done", "at": 1795721524.2077067, "result": {"files": 12}, "made": false}',16133,193290,NULL,0,NULL,'done',NULL,0.0);
INSERT INTO "attempts" VALUES(2,1,'00000000-0000-0000-0000-000000000000','cpu',1,1.79572152427377247814e+09,NULL,NULL,16133,193290,NULL,0,NULL,'',NULL,0.0);
INSERT INTO "attempts" VALUES(3,1,'00000000-0000-0000-0000-000000000000','cpu',1,1.79572152429406690595e+09,NULL,NULL,16131,193288,NULL,0,NULL,'',NULL,0.0);
CREATE TABLE contexts (                 -- what a job remembers of the shell that queued it
    id     INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    body   TEXT NOT NULL                -- JSON: folder, umask, interpreter, environment, affinity
) STRICT;
INSERT INTO "contexts" VALUES(1,'3aeb2df0677c6721517f80855ad18dc2ff61d76c54a54281b75a8df78b42ff42','{"folder": "@PROJECT@", "umask": 18, "interpreter": "@PYTHON@", "environment": {"PATH": "/usr/bin:/bin", "HOME": "@FOLDER@", "LANG": "C.UTF-8", "LAUNCHER_HOME": "@HOME@", "LAUNCHER_CLAIMS": "@CLAIMS@", "PYTHONPATH": "@SITE@", "CUDA_VISIBLE_DEVICES": "", "LAUNCHER_CONFIG": "/dev/null"}, "affinity": [0, 1]}');
CREATE TABLE counters (
    run   INTEGER NOT NULL,
    state TEXT NOT NULL,
    n     INTEGER NOT NULL,
    PRIMARY KEY (run, state)
) STRICT, WITHOUT ROWID;
INSERT INTO "counters" VALUES(1,'done',1);
INSERT INTO "counters" VALUES(1,'queued',0);
INSERT INTO "counters" VALUES(1,'running',2);
CREATE TABLE "events" (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    at     REAL NOT NULL,
    job    INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    state  TEXT NOT NULL,
    reason TEXT NOT NULL
, reason_code TEXT NOT NULL DEFAULT '', reason_data TEXT) STRICT;
INSERT INTO "events" VALUES(1,1.79572152095650076865e+09,1,'queued','new','new',NULL);
INSERT INTO "events" VALUES(2,1.79572152095650076865e+09,2,'queued','new','new',NULL);
INSERT INTO "events" VALUES(3,1.79572152095650076865e+09,3,'queued','new','new',NULL);
INSERT INTO "events" VALUES(4,1.79572152384842681884e+09,1,'running','on the CPU with 1 core','started',NULL);
INSERT INTO "events" VALUES(5,1.79572152423097419738e+09,1,'done','done','done',NULL);
INSERT INTO "events" VALUES(6,1.79572152427377247814e+09,2,'running','on the CPU with 1 core','started',NULL);
INSERT INTO "events" VALUES(7,1.79572152429406690595e+09,3,'running','on the CPU with 1 core','started',NULL);
CREATE TABLE groups (
    name  TEXT PRIMARY KEY,
    slots INTEGER NOT NULL                -- how many of its jobs may run at once
) STRICT, WITHOUT ROWID;
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
INSERT INTO "jobs" VALUES(1,1,'toyshapes/toys','toyshapes','done',0,0,'','a39256a589bc19a52fa15e772c2c3d941865c5aaf826befee9352266bc6405a3','{"name": "toyshapes/toys", "kind": "toyshapes", "role": "data", "run": "toys", "root": "@PROJECT@", "entry": "toylab:shapes", "argv": ["python", "-m", "toylab", "toyshapes", "toys"], "settings": {"data_root": "toys", "size": 1}, "outputs": ["@PROJECT@/toys", "@PROJECT@/toys/.finished"], "hash": "a39256a589bc19a52fa15e772c2c3d941865c5aaf826befee9352266bc6405a3", "signature": "toyshapes b354c059bb6f7f3b"}',1,1,'done','{"@PROJECT@/toys": [0, 0], "@PROJECT@/toys/.finished": [0, 1795721524151838942]}',1.79572152095650076865e+09,1.79572152423097419738e+09,1,1.79572152095650076865e+09,0,0,0,'done',NULL,1,NULL,'');
INSERT INTO "jobs" VALUES(2,1,'toytrain/dot:pre','toytrain','running',0,0,'','65ebf6dfdc96ce3b54c0e50c5bb253af98f7d0203c94ebc2c742d480b710fd39','{"name": "toytrain/dot:pre", "kind": "toytrain", "role": "train", "run": "toys", "root": "@PROJECT@", "entry": "toylab:train", "argv": ["python", "-m", "toylab", "toytrain", "dot:pre"], "model": "dot:pre", "data": "dot:pre", "images": "dot:pre&real:pre", "settings": {"data_root": "toys", "sleep_s": 0.0, "lr": 0.1, "epochs": 1, "optimizer": "sgd", "scale": 1.0, "frozen": false, "model": "tiny", "threads": 1, "fail": ""}, "needs": ["toyshapes/toys"], "outputs": ["@PROJECT@/runs/toys/dot:pre/model.json"], "log_link": "@PROJECT@/runs/toys/dot:pre/toytrain_dot:pre.log", "resources": {"cpus": 1, "min_vram": null, "device": "auto", "accelerated": true, "ram": null, "gpus": 1, "exclusive": false}, "hash": "65ebf6dfdc96ce3b54c0e50c5bb253af98f7d0203c94ebc2c742d480b710fd39", "signature": "toytrain 6a8f1b9dd11fe740"}',1,1,'on the CPU with 1 core','{}',1.79572152095650076865e+09,NULL,2,1.79572152095650076865e+09,0,0,0,'started',NULL,2,NULL,'');
INSERT INTO "jobs" VALUES(3,1,'toytrain/line:pre','toytrain','running',0,0,'','327de57793f896cf702fd90d149fa9dd4738ffa9a64bb2f0384e87d6d0d0da29','{"name": "toytrain/line:pre", "kind": "toytrain", "role": "train", "run": "toys", "root": "@PROJECT@", "entry": "toylab:train", "argv": ["python", "-m", "toylab", "toytrain", "line:pre"], "model": "line:pre", "data": "line:pre", "images": "line:pre&real:pre", "settings": {"data_root": "toys", "sleep_s": 0.0, "lr": 0.1, "epochs": 1, "optimizer": "sgd", "scale": 1.0, "frozen": false, "model": "tiny", "threads": 1, "fail": ""}, "needs": ["toyshapes/toys"], "outputs": ["@PROJECT@/runs/toys/line:pre/model.json"], "log_link": "@PROJECT@/runs/toys/line:pre/toytrain_line:pre.log", "resources": {"cpus": 1, "min_vram": null, "device": "auto", "accelerated": true, "ram": null, "gpus": 1, "exclusive": false}, "terms": {"group": "", "not_before": null, "retries": 1, "backoff_s": 0.0, "time_limit_s": null, "warn_s": 0.0, "warn_signal": "SIGTERM", "grace_s": 30.0, "rerun": "again"}, "hash": "327de57793f896cf702fd90d149fa9dd4738ffa9a64bb2f0384e87d6d0d0da29", "signature": "toytrain 6a8f1b9dd11fe740"}',1,1,'on the CPU with 1 core','{}',1.79572152095650076865e+09,NULL,2,1.79572152095650076865e+09,0,0,0,'started',NULL,2,NULL,'');
CREATE TABLE lanes (
    id     INTEGER PRIMARY KEY,
    key    TEXT NOT NULL UNIQUE,          -- JSON: see launcher/store/rows.py
    reason TEXT NOT NULL DEFAULT ''       -- why the first job of the lane waits, in one line
, reason_code TEXT NOT NULL DEFAULT '', reason_data TEXT) STRICT;
INSERT INTO "lanes" VALUES(1,'{"breed": ["@PYTHON@", ["launcher.kinds"], "@SITE@"], "group": "", "resources": {"accelerated": false, "cpus": 1, "device": "auto", "exclusive": false, "gpus": 1, "min_vram": null, "ram": null}}','its worker is being started','worker-starting',NULL);
INSERT INTO "lanes" VALUES(2,'{"breed": ["@PYTHON@", ["launcher.kinds"], "@SITE@"], "group": "", "resources": {"accelerated": true, "cpus": 1, "device": "auto", "exclusive": false, "gpus": 1, "min_vram": null, "ram": null}, "signature": "toytrain 6a8f1b9dd11fe740", "visible": []}','the GPUs are being looked at','no-gpu',NULL);
CREATE TABLE lessons (
    id        INTEGER PRIMARY KEY,
    signature TEXT NOT NULL,
    at        REAL NOT NULL,
    seconds   REAL,                                                 -- NULL: it did not come to its end
    peak      INTEGER                                               -- bytes, on one GPU; NULL: not measured
, shared REAL, slowdown REAL, sm REAL, machine TEXT NOT NULL DEFAULT '', numbers TEXT) STRICT;
CREATE TABLE needs (
    job  INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    need INTEGER NOT NULL REFERENCES jobs (id), any_end INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (job, need)
) STRICT, WITHOUT ROWID;
INSERT INTO "needs" VALUES(2,1,0);
INSERT INTO "needs" VALUES(3,1,0);
CREATE TABLE results (
    job  INTEGER PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    at   REAL NOT NULL,
    body TEXT NOT NULL                             -- JSON object that the kind's entry returned
) STRICT;
INSERT INTO "results" VALUES(1,1.79572152420770668988e+09,'{"files": 12}');
CREATE TABLE runs (
    id     INTEGER PRIMARY KEY,
    name   TEXT NOT NULL,
    root   TEXT NOT NULL, share REAL NOT NULL DEFAULT 1, vtime REAL NOT NULL DEFAULT 0, used REAL NOT NULL DEFAULT 0, used_at REAL NOT NULL DEFAULT 0, notify TEXT,               -- absolute; results lie in <root>/runs/<name>
    UNIQUE (root, name)
) STRICT;
INSERT INTO "runs" VALUES(1,'toys','@PROJECT@',1.0,2.24549919366836547851e-02,2.24549919366836547851e-02,1.79572152420770668988e+09,NULL);
CREATE TABLE sources (
    id     INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    body   TEXT NOT NULL                -- JSON: module -> digest of its code
) STRICT;
INSERT INTO "sources" VALUES(1,'c2b259bdfb5116134b37d0ac2ebad7f3a12bd62bc6adb1bc9775dfbb663fa94c','{"": "3ce65fe996bdce23eee8e21358f3567e", "launcher.ids": "14c44484", "toylab": "b445081f"}');
INSERT INTO "sources" VALUES(2,'4a8ee4169de5d3642fdcd2bd74c32bf93a6688a33a8d07adde67b369e94ed729','{"": "de01c7792bb0bfa2b95718019ed532f5", "launcher.ids": "14c44484", "toylab": "b445081f"}');
CREATE TABLE tags (
    job INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    tag TEXT NOT NULL,
    PRIMARY KEY (job, tag)
) STRICT, WITHOUT ROWID;
CREATE TABLE timers (
    job   INTEGER PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    at    REAL NOT NULL,
    since REAL                            -- when a pause began; NULL: the owner named the time
) STRICT;
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
INSERT INTO "sqlite_sequence" VALUES('events',7);
INSERT INTO "sqlite_sequence" VALUES('jobs',3);
COMMIT;
