PRAGMA application_id = 1279350094;
PRAGMA user_version = 12;
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
INSERT INTO "attempts" VALUES(1,1,'00000000-0000-0000-0000-000000000000','cpu',1,1.79546173447161483763e+09,1.79546173467928719524e+09,'{"schema": 1, "ending": "done", "at": 1795461734.6792872, "result": {"files": 12}, "made": false}',30594,118753,NULL,0,NULL,'done',NULL,0.0);
INSERT INTO "attempts" VALUES(2,1,'00000000-0000-0000-0000-000000000000','cpu',1,1.79546173468497347828e+09,1.79546173473838829989e+09,'{"schema": 1, "ending": "done", "at": 1795461734.7383883, "result": {"seen": 2}, "made": true}',30594,118753,NULL,0,NULL,'done',NULL,0.0);
INSERT INTO "attempts" VALUES(3,1,'00000000-0000-0000-0000-000000000000','cpu',1,1.79546173476969265938e+09,1.79546173482733130454e+09,'{"schema": 1, "ending": "done", "at": 1795461734.8273313, "result": {"known": 1.0}, "made": true}',30594,118753,NULL,0,NULL,'done',NULL,0.0);
INSERT INTO "attempts" VALUES(4,1,'00000000-0000-0000-0000-000000000000','cpu',1,1.79546173598563313486e+09,1.79546173600055408475e+09,'{"schema": 1, "ending": "done", "at": 1795461736.000554, "result": {}}',30589,118725,NULL,0,NULL,'done',NULL,0.0);
INSERT INTO "attempts" VALUES(5,1,'00000000-0000-0000-0000-000000000000','cpu',1,1.79546173633419442177e+09,1.79546173654951119426e+09,'{"schema": 1, "ending": "failed", "at": 1795461736.5495112, "error": "ended with exit code 3: bad", "exit_code": 3, "signal": null}',30589,118725,NULL,0,NULL,'failed',NULL,0.0);
INSERT INTO "attempts" VALUES(6,1,'00000000-0000-0000-0000-000000000000','cpu',1,1.79546173760144352907e+09,1.79546173782069730753e+09,'{"schema": 1, "ending": "failed", "at": 1795461737.8206973, "error": "ended with exit code 1", "exit_code": 1, "signal": null}',30589,118725,NULL,0,NULL,'failed',NULL,0.0);
INSERT INTO "attempts" VALUES(9,1,'00000000-0000-0000-0000-000000000000','cpu',1,1.79546173897744870185e+09,1.79546173918763756751e+09,'{"schema": 1, "ending": "failed", "at": 1795461739.1876376, "error": "ended with exit code 1", "exit_code": 1, "signal": null}',30589,118725,NULL,0,NULL,'failed','{"retry": 1, "retries": 2, "pause_s": 120.0}',0.0);
INSERT INTO "attempts" VALUES(14,1,'00000000-0000-0000-0000-000000000000','cpu',1,1.79546174238947558402e+09,NULL,NULL,30589,118725,NULL,0,NULL,'',NULL,0.0);
INSERT INTO "attempts" VALUES(15,1,'00000000-0000-0000-0000-000000000000','cpu',1,1.79546174291250324253e+09,NULL,NULL,30618,118905,NULL,0,NULL,'',NULL,0.0);
CREATE TABLE code_changes (
    record INTEGER NOT NULL REFERENCES code_records (id) ON DELETE CASCADE,
    at     REAL NOT NULL,               -- since when its files differ so
    files  TEXT NOT NULL,               -- JSON: path -> digest of each file that differs; '' if it is gone
    PRIMARY KEY (record, at)
) STRICT, WITHOUT ROWID;
CREATE TABLE code_records (             -- files as they were, such as a script and its modules; many commands share one
    id     INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    body   TEXT NOT NULL                -- JSON: see launcher/store/queued_code.py
) STRICT;
CREATE TABLE contexts (                 -- what a job remembers of the shell that queued it
    id     INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    body   TEXT NOT NULL                -- JSON: folder, umask, interpreter, environment, affinity
) STRICT;
INSERT INTO "contexts" VALUES(1,'bb9d107ed3c990c59a63aef202f1d59f785b68c067e9b2dd4d382ed2704be24a','{"folder": "@PROJECT@", "umask": 18, "interpreter": "@PYTHON@", "environment": {"PATH": "/usr/bin:/bin", "HOME": "@FOLDER@", "LANG": "C.UTF-8", "LAUNCHER_HOME": "@HOME@", "LAUNCHER_CLAIMS": "@CLAIMS@", "PYTHONPATH": "@SITE@", "CUDA_VISIBLE_DEVICES": "", "LAUNCHER_CONFIG": "/dev/null"}, "affinity": [0, 1]}');
CREATE TABLE counters (
    run   INTEGER NOT NULL,
    state TEXT NOT NULL,
    n     INTEGER NOT NULL,
    PRIMARY KEY (run, state)
) STRICT, WITHOUT ROWID;
INSERT INTO "counters" VALUES(1,'done',3);
INSERT INTO "counters" VALUES(1,'queued',0);
INSERT INTO "counters" VALUES(1,'running',0);
INSERT INTO "counters" VALUES(2,'cancelled',1);
INSERT INTO "counters" VALUES(2,'done',1);
INSERT INTO "counters" VALUES(2,'failed',2);
INSERT INTO "counters" VALUES(2,'held',1);
INSERT INTO "counters" VALUES(2,'queued',4);
INSERT INTO "counters" VALUES(2,'running',2);
INSERT INTO "counters" VALUES(2,'skipped',1);
INSERT INTO "counters" VALUES(3,'queued',2);
CREATE TABLE "events" (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    at     REAL NOT NULL,
    job    INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    state  TEXT NOT NULL,
    reason TEXT NOT NULL
, reason_code TEXT NOT NULL DEFAULT '', reason_data TEXT) STRICT;
INSERT INTO "events" VALUES(1,1.79546173349108242984e+09,1,'queued','new','new',NULL);
INSERT INTO "events" VALUES(2,1.79546173349108242984e+09,2,'queued','new','new',NULL);
INSERT INTO "events" VALUES(3,1.79546173349108242984e+09,3,'queued','new','new',NULL);
INSERT INTO "events" VALUES(4,1.79546173447161483763e+09,1,'running','on the CPU with 1 core','started',NULL);
INSERT INTO "events" VALUES(5,1.79546173468057680125e+09,1,'done','done','done',NULL);
INSERT INTO "events" VALUES(6,1.79546173468497347828e+09,2,'running','on the CPU with 1 core','started',NULL);
INSERT INTO "events" VALUES(7,1.79546173476805806155e+09,2,'done','done','done',NULL);
INSERT INTO "events" VALUES(8,1.79546173476969265938e+09,3,'running','on the CPU with 1 core','started',NULL);
INSERT INTO "events" VALUES(9,1.79546173485162854194e+09,3,'done','done','done',NULL);
INSERT INTO "events" VALUES(10,1.79546173597401618961e+09,4,'queued','new','new',NULL);
INSERT INTO "events" VALUES(11,1.79546173598563313486e+09,4,'running','on the CPU with 1 core','started',NULL);
INSERT INTO "events" VALUES(12,1.79546173600123667719e+09,4,'done','done','done',NULL);
INSERT INTO "events" VALUES(13,1.79546173632735538488e+09,5,'queued','new','new',NULL);
INSERT INTO "events" VALUES(14,1.79546173633419442177e+09,5,'running','on the CPU with 1 core','started',NULL);
INSERT INTO "events" VALUES(15,1.79546173655089759827e+09,5,'failed','ended with exit code 3: bad','failed',NULL);
INSERT INTO "events" VALUES(16,1.79546173689264965058e+09,6,'held','held by its owner','held',NULL);
INSERT INTO "events" VALUES(17,1.79546173728337860107e+09,7,'queued','new','new',NULL);
INSERT INTO "events" VALUES(18,1.79546173758887314796e+09,6,'queued','released','released',NULL);
INSERT INTO "events" VALUES(19,1.79546173760144352907e+09,6,'running','on the CPU with 1 core','started',NULL);
INSERT INTO "events" VALUES(20,1.79546173782194876675e+09,6,'failed','ended with exit code 1','failed',NULL);
INSERT INTO "events" VALUES(21,1.79546173782194876675e+09,7,'skipped','needs command/above, which failed','need-failed','{"need": 6, "state": "failed"}');
INSERT INTO "events" VALUES(22,1.795461738158750534e+09,8,'held','held by its owner','held',NULL);
INSERT INTO "events" VALUES(23,1.79546173859073448187e+09,8,'cancelled','cancelled by its owner','cancelled',NULL);
INSERT INTO "events" VALUES(24,1.79546173896212434765e+09,9,'queued','new','new',NULL);
INSERT INTO "events" VALUES(25,1.79546173897744870185e+09,9,'running','on the CPU with 1 core','started',NULL);
INSERT INTO "events" VALUES(26,1.79546173918902444836e+09,9,'queued','retry 1 of 2 after 2 m: ended with exit code 1','failed','{"retry": 1, "retries": 2, "pause_s": 120.0}');
INSERT INTO "events" VALUES(27,1.79546173948687934869e+09,10,'held','held by its owner','held',NULL);
INSERT INTO "events" VALUES(28,1.79546173991076803209e+09,11,'queued','new','new',NULL);
INSERT INTO "events" VALUES(29,1.79546174058210134504e+09,12,'queued','new','new',NULL);
INSERT INTO "events" VALUES(30,1.79546174112176346775e+09,13,'queued','new','new',NULL);
INSERT INTO "events" VALUES(31,1.79546174236973333357e+09,14,'queued','new','new',NULL);
INSERT INTO "events" VALUES(32,1.79546174238947558402e+09,14,'running','on the CPU with 1 core','started',NULL);
INSERT INTO "events" VALUES(33,1.79546174289596652991e+09,15,'queued','new','new',NULL);
INSERT INTO "events" VALUES(34,1.79546174291250324253e+09,15,'running','on the CPU with 1 core','started',NULL);
INSERT INTO "events" VALUES(35,1.7954617452466471195e+09,16,'queued','new','new',NULL);
INSERT INTO "events" VALUES(36,1.7954617452466471195e+09,17,'queued','new','new',NULL);
INSERT INTO "events" VALUES(37,1.79546174639502787587e+09,15,'running','paused since 2026-11-23 19:22:26','paused','{"since": 1795461746.3950279}');
CREATE TABLE groups (
    name  TEXT PRIMARY KEY,
    slots INTEGER NOT NULL                -- how many of its jobs may run at once
, paused REAL) STRICT, WITHOUT ROWID;
INSERT INTO "groups" VALUES('few',1,NULL);
INSERT INTO "groups" VALUES('later',2,1700000000.0);
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
    ended     REAL, lane INTEGER NOT NULL DEFAULT 0, rank REAL NOT NULL DEFAULT 0, failures INTEGER NOT NULL DEFAULT 0, lost INTEGER NOT NULL DEFAULT 0, excused INTEGER NOT NULL DEFAULT 0, reason_code TEXT NOT NULL DEFAULT '', reason_data TEXT, sources INTEGER REFERENCES sources (id), paused REAL, note TEXT NOT NULL DEFAULT '', code INTEGER,
    UNIQUE (run, name)
) STRICT;
INSERT INTO "jobs" VALUES(1,1,'toyshapes/toys','toyshapes','done',0,0,'','bfd8a5361381acad63add2f7345aba70b8bde9d675a9dbddcadf302d1f62fec7','{"name": "toyshapes/toys", "kind": "toyshapes", "role": "data", "run": "toys", "root": "@PROJECT@", "entry": "toylab:shapes", "argv": ["python", "-m", "toylab", "toyshapes", "toys"], "settings": {"data_root": "toys", "size": 1}, "outputs": ["@PROJECT@/toys", "@PROJECT@/toys/.finished"], "hash": "bfd8a5361381acad63add2f7345aba70b8bde9d675a9dbddcadf302d1f62fec7", "signature": "toyshapes b354c059bb6f7f3b"}',1,1,'done','{"@PROJECT@/toys": [0, 0], "@PROJECT@/toys/.finished": [0, 1795461734644082467]}',1.79546173349108242984e+09,1.79546173468057680125e+09,1,1.79546173349108242984e+09,0,0,0,'done',NULL,1,NULL,'',NULL);
INSERT INTO "jobs" VALUES(2,1,'toytrain/dot:pre','toytrain','done',0,0,'','288c8e24feb19800c732637d062dde782d72f5c2d56460673331bd3f33810e53','{"name": "toytrain/dot:pre", "kind": "toytrain", "role": "train", "run": "toys", "root": "@PROJECT@", "entry": "toylab:train", "argv": ["python", "-m", "toylab", "toytrain", "dot:pre"], "model": "dot:pre", "data": "dot:pre", "images": "dot:pre&real:pre", "settings": {"data_root": "toys", "sleep_s": 0.0, "lr": 0.1, "epochs": 1, "optimizer": "sgd", "scale": 1.0, "frozen": false, "model": "tiny", "threads": 1, "fail": ""}, "needs": ["toyshapes/toys"], "outputs": ["@PROJECT@/runs/toys/dot:pre/model.json"], "log_link": "@PROJECT@/runs/toys/dot:pre/toytrain_dot:pre.log", "resources": {"cpus": 1, "min_vram": null, "device": "auto", "accelerated": true, "ram": null, "gpus": 1, "exclusive": false}, "hash": "288c8e24feb19800c732637d062dde782d72f5c2d56460673331bd3f33810e53", "signature": "toytrain 6a8f1b9dd11fe740"}',1,1,'done','{"@PROJECT@/runs/toys/dot:pre/model.json": [37, 1795461734712490670]}',1.79546173349108242984e+09,1.79546173476805806155e+09,2,1.79546173349108242984e+09,0,0,0,'done',NULL,1,NULL,'',NULL);
INSERT INTO "jobs" VALUES(3,1,'toytest/dot:pre/dot:pre','toytest','done',0,0,'','67b37fe041e3dfd0a9b1b00f629e0af5dec212161781d00c657e1ec39401df84','{"name": "toytest/dot:pre/dot:pre", "kind": "toytest", "role": "test", "run": "toys", "root": "@PROJECT@", "entry": "toylab:test", "argv": ["python", "-m", "toylab", "toytest", "dot:pre"], "model": "dot:pre", "data": "dot:pre", "images": "dot:pre", "settings": {"data_root": "toys", "sleep_s": 0.0, "crops": 1, "haze": "none", "tilt": 0}, "needs": ["toyshapes/toys", "toytrain/dot:pre"], "outputs": ["@PROJECT@/runs/toys/dot:pre/scores/dot:pre.json"], "log_link": "@PROJECT@/runs/toys/dot:pre/toytest_dot:pre_dot:pre.log", "resources": {"cpus": 1, "min_vram": null, "device": "auto", "accelerated": true, "ram": null, "gpus": 1, "exclusive": false}, "hash": "67b37fe041e3dfd0a9b1b00f629e0af5dec212161781d00c657e1ec39401df84", "signature": "toytest 47ab4ff8a9d50f57"}',1,1,'done','{"@PROJECT@/runs/toys/dot:pre/scores/dot:pre.json": [14, 1795461734804082463]}',1.79546173349108242984e+09,1.79546173485162854194e+09,3,1.79546173349108242984e+09,0,0,0,'done',NULL,1,NULL,'',NULL);
INSERT INTO "jobs" VALUES(4,2,'command/ok','command','done',0,0,'','','{"name": "command/ok", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["echo", "ok"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "signature": "command bd2a81bec821d27f"}',1,1,'done','{}',1.79546173597401618961e+09,1.79546173600123667719e+09,4,1.79546173597401618961e+09,0,0,0,'done',NULL,NULL,NULL,'',NULL);
INSERT INTO "jobs" VALUES(5,2,'command/bad','command','failed',0,0,'','','{"name": "command/bad", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["sh", "-c", "echo bad; exit 3"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "signature": "command 8d296ae577b1b7f8"}',1,1,'ended with exit code 3: bad','{}',1.79546173632735538488e+09,1.79546173655089759827e+09,4,1.79546173632735538488e+09,1,0,0,'failed',NULL,NULL,NULL,'',NULL);
INSERT INTO "jobs" VALUES(6,2,'command/above','command','failed',0,0,'','','{"name": "command/above", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["sh", "-c", "exit 1"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "signature": "command 8dc2b8239103b77b"}',1,1,'ended with exit code 1','{}',1.79546173689264965058e+09,1.79546173782194876675e+09,4,1.79546173689264965058e+09,1,0,0,'failed',NULL,NULL,NULL,'',NULL);
INSERT INTO "jobs" VALUES(7,2,'command/skipped','command','skipped',0,1,'','','{"name": "command/skipped", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["true"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "signature": "command 91ddf64811ae5fc1"}',1,0,'needs command/above, which failed','{}',1.79546173728337860107e+09,1.79546173782194876675e+09,4,1.79546173728337860107e+09,0,0,0,'need-failed','{"need": 6, "state": "failed"}',NULL,NULL,'',NULL);
INSERT INTO "jobs" VALUES(8,2,'command/gone','command','cancelled',0,0,'','','{"name": "command/gone", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["true"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "signature": "command 91ddf64811ae5fc1"}',1,0,'cancelled by its owner','{}',1.795461738158750534e+09,1.79546173859073448187e+09,4,1.795461738158750534e+09,0,0,0,'cancelled',NULL,NULL,NULL,'',NULL);
INSERT INTO "jobs" VALUES(9,2,'command/flaky','command','queued',0,1,'','','{"name": "command/flaky", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["test", "-e", "go"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "terms": {"group": "", "not_before": null, "retries": 2, "backoff_s": 120.0, "time_limit_s": null, "warn_s": 0.0, "warn_signal": "SIGTERM", "grace_s": 30.0, "rerun": "again"}, "signature": "command e82e94e2a0c2a1fd"}',1,1,'retry 1 of 2 after 2 m: ended with exit code 1','{}',1.79546173896212434765e+09,NULL,4,1.79546173896212434765e+09,1,0,0,'failed','{"retry": 1, "retries": 2, "pause_s": 120.0}',NULL,NULL,'',NULL);
INSERT INTO "jobs" VALUES(10,2,'command/held','command','held',5,0,'','','{"name": "command/held", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["true"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "priority": 5, "signature": "command 91ddf64811ae5fc1"}',1,0,'held by its owner','{}',1.79546173948687934869e+09,NULL,4,1.79502973948687934873e+09,0,0,0,'held',NULL,NULL,NULL,'',NULL);
INSERT INTO "jobs" VALUES(11,2,'command/grouped','command','queued',0,1,'','','{"name": "command/grouped", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["true"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "terms": {"group": "few", "not_before": null, "retries": 0, "backoff_s": 10.0, "time_limit_s": null, "warn_s": 0.0, "warn_signal": "SIGTERM", "grace_s": 30.0, "rerun": "again"}, "signature": "command 91ddf64811ae5fc1"}',1,0,'new','{}',1.79546173991076803209e+09,NULL,5,1.79546173991076803209e+09,0,0,0,'new',NULL,NULL,NULL,'',NULL);
INSERT INTO "jobs" VALUES(12,2,'command/far','command','queued',0,1,'','','{"name": "command/far", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["true"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "terms": {"group": "", "not_before": 2095891200.0, "retries": 0, "backoff_s": 10.0, "time_limit_s": null, "warn_s": 0.0, "warn_signal": "SIGTERM", "grace_s": 30.0, "rerun": "again"}, "signature": "command 91ddf64811ae5fc1"}',1,0,'new','{}',1.79546174058210134504e+09,NULL,4,1.79546174058210134504e+09,0,0,0,'new',NULL,NULL,NULL,'',NULL);
INSERT INTO "jobs" VALUES(13,2,'command/behind','command','queued',0,1,'','','{"name": "command/behind", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["true"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "signature": "command 91ddf64811ae5fc1"}',1,0,'new','{}',1.79546174112176346775e+09,NULL,4,1.79546174112176346775e+09,0,0,0,'new',NULL,NULL,NULL,'',NULL);
INSERT INTO "jobs" VALUES(14,2,'command/unseen','command','running',0,0,'','','{"name": "command/unseen", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["sh", "-c", "while [ ! -e end ]; do sleep 0.1; done; echo ended"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "signature": "command 7e560f4449e6ea1e"}',1,1,'on the CPU with 1 core','{}',1.79546174236973333357e+09,NULL,4,1.79546174236973333357e+09,0,0,0,'started',NULL,NULL,NULL,'',NULL);
INSERT INTO "jobs" VALUES(15,2,'command/torn','command','running',0,0,'','','{"name": "command/torn", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["sh", "-c", "echo begun; while [ ! -e go ]; do sleep 0.1; done; echo again"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "signature": "command 2e7a529b94989d25"}',1,1,'paused since 2026-11-23 19:22:26','{}',1.79546174289596652991e+09,NULL,4,1.79546174289596652991e+09,0,0,0,'paused','{"since": 1795461746.3950279}',NULL,1.79546174639502787587e+09,'',NULL);
INSERT INTO "jobs" VALUES(16,3,'toytrain/line:pre','toytrain','queued',0,0,'','1bacbe3405f284eb38838183dd33ccefb4d4f270aa225ee10ec73cedc70e0e1c','{"name": "toytrain/line:pre", "kind": "toytrain", "role": "train", "run": "later", "root": "@PROJECT@", "entry": "toylab:train", "argv": ["python", "-m", "toylab", "toytrain", "line:pre"], "model": "line:pre", "data": "line:pre", "images": "line:pre&real:pre", "settings": {"data_root": "toys", "sleep_s": 0.0, "lr": 0.1, "epochs": 1, "optimizer": "sgd", "scale": 1.0, "frozen": false, "model": "tiny", "threads": 1, "fail": ""}, "outputs": ["@PROJECT@/runs/later/line:pre/model.json"], "log_link": "@PROJECT@/runs/later/line:pre/toytrain_line:pre.log", "resources": {"cpus": 1, "min_vram": null, "device": "auto", "accelerated": true, "ram": null, "gpus": 1, "exclusive": false}, "hash": "1bacbe3405f284eb38838183dd33ccefb4d4f270aa225ee10ec73cedc70e0e1c", "signature": "toytrain 6a8f1b9dd11fe740"}',1,0,'new','{}',1.7954617452466471195e+09,NULL,2,1.7954617452466471195e+09,0,0,0,'new',NULL,1,NULL,'',NULL);
INSERT INTO "jobs" VALUES(17,3,'toytest/line:pre/line:pre','toytest','queued',0,1,'','c521a143c6aa97c0024273e72f7aec83e5bca810907b8731e766e5eb9104ee0f','{"name": "toytest/line:pre/line:pre", "kind": "toytest", "role": "test", "run": "later", "root": "@PROJECT@", "entry": "toylab:test", "argv": ["python", "-m", "toylab", "toytest", "line:pre"], "model": "line:pre", "data": "line:pre", "images": "line:pre", "settings": {"data_root": "toys", "sleep_s": 0.0, "crops": 1, "haze": "none", "tilt": 0}, "needs": ["toytrain/line:pre"], "outputs": ["@PROJECT@/runs/later/line:pre/scores/line:pre.json"], "log_link": "@PROJECT@/runs/later/line:pre/toytest_line:pre_line:pre.log", "resources": {"cpus": 1, "min_vram": null, "device": "auto", "accelerated": true, "ram": null, "gpus": 1, "exclusive": false}, "hash": "c521a143c6aa97c0024273e72f7aec83e5bca810907b8731e766e5eb9104ee0f", "signature": "toytest 47ab4ff8a9d50f57"}',1,0,'new','{}',1.7954617452466471195e+09,NULL,3,1.7954617452466471195e+09,0,0,0,'new',NULL,1,NULL,'',NULL);
CREATE TABLE lanes (
    id     INTEGER PRIMARY KEY,
    key    TEXT NOT NULL UNIQUE,          -- JSON: see launcher/store/rows.py
    reason TEXT NOT NULL DEFAULT ''       -- why the first job of the lane waits, in one line
, reason_code TEXT NOT NULL DEFAULT '', reason_data TEXT) STRICT;
INSERT INTO "lanes" VALUES(1,'{"breed": ["@PYTHON@", ["launcher.kinds"], "@SITE@"], "group": "", "resources": {"accelerated": false, "cpus": 1, "device": "auto", "exclusive": false, "gpus": 1, "min_vram": null, "ram": null}}','its worker is being started','worker-starting',NULL);
INSERT INTO "lanes" VALUES(2,'{"breed": ["@PYTHON@", ["launcher.kinds"], "@SITE@"], "group": "", "resources": {"accelerated": true, "cpus": 1, "device": "auto", "exclusive": false, "gpus": 1, "min_vram": null, "ram": null}, "signature": "toytrain 6a8f1b9dd11fe740", "visible": []}','needs 1 core, 0 of 2 free','no-room',NULL);
INSERT INTO "lanes" VALUES(3,'{"breed": ["@PYTHON@", ["launcher.kinds"], "@SITE@"], "group": "", "resources": {"accelerated": true, "cpus": 1, "device": "auto", "exclusive": false, "gpus": 1, "min_vram": null, "ram": null}, "signature": "toytest 47ab4ff8a9d50f57", "visible": []}','','',NULL);
INSERT INTO "lanes" VALUES(4,'{"breed": ["", [], ""], "group": "", "resources": {"accelerated": false, "cpus": 1, "device": "cpu", "exclusive": false, "gpus": 1, "min_vram": null, "ram": null}}','','',NULL);
INSERT INTO "lanes" VALUES(5,'{"breed": ["", [], ""], "group": "few", "resources": {"accelerated": false, "cpus": 1, "device": "cpu", "exclusive": false, "gpus": 1, "min_vram": null, "ram": null}}','','',NULL);
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
INSERT INTO "needs" VALUES(3,2,0);
INSERT INTO "needs" VALUES(7,6,0);
INSERT INTO "needs" VALUES(11,10,0);
INSERT INTO "needs" VALUES(13,10,1);
INSERT INTO "needs" VALUES(17,16,0);
CREATE TABLE output_paths (
    folder TEXT NOT NULL,               -- as the spec spells it, with a slash at the end; '' in a path without a slash
    name   TEXT NOT NULL,
    job    INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    PRIMARY KEY (folder, name, job)
) STRICT, WITHOUT ROWID;
CREATE TABLE queued_code (              -- one row for all jobs of a command
    id      INTEGER PRIMARY KEY,
    digest  TEXT NOT NULL UNIQUE,
    at      REAL NOT NULL,              -- when a person queued or retried the jobs
    body    TEXT NOT NULL,              -- JSON, as above
    records TEXT                        -- JSON: script, file or function -> its row in code_records; NULL: not recorded yet
) STRICT;
CREATE TABLE results (
    job  INTEGER PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    at   REAL NOT NULL,
    body TEXT NOT NULL                             -- JSON object that the kind's entry returned
) STRICT;
INSERT INTO "results" VALUES(1,1.79546173467928719524e+09,'{"files": 12}');
INSERT INTO "results" VALUES(2,1.79546173473838829989e+09,'{"seen": 2}');
INSERT INTO "results" VALUES(3,1.79546173482733130454e+09,'{"known": 1.0}');
CREATE TABLE runs (
    id     INTEGER PRIMARY KEY,
    name   TEXT NOT NULL,
    root   TEXT NOT NULL, share REAL NOT NULL DEFAULT 1, vtime REAL NOT NULL DEFAULT 0, used REAL NOT NULL DEFAULT 0, used_at REAL NOT NULL DEFAULT 0, notify TEXT,               -- absolute; results lie in <root>/runs/<name>
    UNIQUE (root, name)
) STRICT;
INSERT INTO "runs" VALUES(1,'toys','@PROJECT@',1.0,1.99203640222549438476e-02,1.99203462244957052451e-02,1.79546173482733130454e+09,NULL);
INSERT INTO "runs" VALUES(2,'add','@HOME@',1.0,4.12300229072570800781e-02,4.12295639751688036689e-02,1.79546173918763756751e+09,NULL);
INSERT INTO "runs" VALUES(3,'later','@PROJECT@',3.0,0.0,0.0,0.0,NULL);
CREATE TABLE sources (
    id     INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    body   TEXT NOT NULL                -- JSON: module -> digest of its code
) STRICT;
INSERT INTO "sources" VALUES(1,'d88e6e3ea72822becd862ad11870d5893e84d0b5d96f7ffc49f1312b5faf30df','{"launcher.ids": "cb6ae980a0aac5d9", "toylab": "0f3a251ff13dfbe6"}');
CREATE TABLE tags (
    job INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    tag TEXT NOT NULL,
    PRIMARY KEY (job, tag)
) STRICT, WITHOUT ROWID;
INSERT INTO "tags" VALUES(10,'review');
CREATE TABLE timers (
    job   INTEGER PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    at    REAL NOT NULL,
    since REAL                            -- when a pause began; NULL: the owner named the time
) STRICT;
INSERT INTO "timers" VALUES(9,1.79546185918902444838e+09,1.79546173918902444836e+09);
INSERT INTO "timers" VALUES(12,2095891200.0,NULL);
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
CREATE INDEX jobs_by_lane ON jobs (lane);
CREATE INDEX output_paths_by_job ON output_paths (job);
CREATE VIEW program_outputs AS
    SELECT folder, substr(path, length(folder) + 1) AS name, job FROM (
        SELECT rtrim(value, replace(value, '/', '')) AS folder, value AS path, jobs.id AS job
        FROM jobs CROSS JOIN json_each(CASE WHEN json_valid(spec) THEN spec ELSE '{}' END, '$.outputs') AS listed
        WHERE jobs.kind = 'command' AND instr(spec, '"outputs"') AND listed.type = 'text'
    );
CREATE TRIGGER list_outputs AFTER INSERT ON jobs WHEN new.kind = 'command' AND instr(new.spec, '"outputs"') BEGIN
    INSERT OR IGNORE INTO output_paths SELECT * FROM program_outputs WHERE job = new.id;
END;
CREATE TRIGGER list_changed_outputs AFTER UPDATE OF spec ON jobs
    WHEN new.kind = 'command' AND new.spec <> old.spec AND (instr(old.spec, '"outputs"') OR instr(new.spec, '"outputs"')) BEGIN
    DELETE FROM output_paths WHERE job = new.id;
    INSERT OR IGNORE INTO output_paths SELECT * FROM program_outputs WHERE job = new.id;
END;
CREATE INDEX jobs_failed ON jobs (run, submitted, ended) WHERE state = 'failed';
CREATE INDEX events_of_releases ON events (at) WHERE reason_code = 'released';
CREATE INDEX queued_code_unrecorded ON queued_code (id) WHERE records IS NULL;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('events',37);
INSERT INTO "sqlite_sequence" VALUES('jobs',17);
COMMIT;
