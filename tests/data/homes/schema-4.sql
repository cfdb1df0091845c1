PRAGMA application_id = 1279350094;
PRAGMA user_version = 4;
BEGIN TRANSACTION;
CREATE TABLE attempts (
    job     INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    number  INTEGER NOT NULL,
    boot    TEXT NOT NULL,                         -- boot id of the claim: after a reboot nothing of it lives
    device  TEXT NOT NULL,                         -- 'cpu' or a GPU's UUID
    cpus    INTEGER NOT NULL,
    claimed REAL NOT NULL,
    ended   REAL,
    outcome TEXT, pid INTEGER NOT NULL DEFAULT 0, start_ticks INTEGER NOT NULL DEFAULT 0, claim INTEGER, lone INTEGER NOT NULL DEFAULT 0, peak INTEGER, reason_code TEXT NOT NULL DEFAULT '', reason_data TEXT,                                  -- JSON: see launcher/states.py
    PRIMARY KEY (job, number)
) STRICT, WITHOUT ROWID;
INSERT INTO "attempts" VALUES(1,1,'00000000-0000-0000-0000-000000000000','cpu',1,1.79546168572398471838e+09,1.79546168586648368834e+09,'{"schema": 1, "ending": "done", "at": 1795461685.8664837, "result": {"files": 12}}',29356,113878,NULL,0,NULL,'done',NULL);
INSERT INTO "attempts" VALUES(2,1,'00000000-0000-0000-0000-000000000000','cpu',1,1.79546168588744187348e+09,1.79546168593239331245e+09,'{"schema": 1, "ending": "done", "at": 1795461685.9323933, "result": {"seen": 2}}',29356,113878,NULL,0,NULL,'done',NULL);
INSERT INTO "attempts" VALUES(3,1,'00000000-0000-0000-0000-000000000000','cpu',1,1.79546168593503308293e+09,1.79546168598251962658e+09,'{"schema": 1, "ending": "done", "at": 1795461685.9825196, "result": {"known": 1.0}}',29356,113878,NULL,0,NULL,'done',NULL);
INSERT INTO "attempts" VALUES(4,1,'00000000-0000-0000-0000-000000000000','cpu',1,1.79546168686515855792e+09,1.79546168687539720531e+09,'{"schema": 1, "ending": "done", "at": 1795461686.8753972, "result": {}}',29355,113859,NULL,0,NULL,'done',NULL);
INSERT INTO "attempts" VALUES(5,1,'00000000-0000-0000-0000-000000000000','cpu',1,1.79546168742924237252e+09,1.79546168763243222232e+09,'{"schema": 1, "ending": "failed", "at": 1795461687.6324322, "error": "ended with exit code 3: bad", "exit_code": 3, "signal": null}',29355,113859,NULL,0,NULL,'failed',NULL);
INSERT INTO "attempts" VALUES(6,1,'00000000-0000-0000-0000-000000000000','cpu',1,1.79546168896958780293e+09,1.79546168917700171472e+09,'{"schema": 1, "ending": "failed", "at": 1795461689.1770017, "error": "ended with exit code 1", "exit_code": 1, "signal": null}',29355,113859,NULL,0,NULL,'failed',NULL);
INSERT INTO "attempts" VALUES(9,1,'00000000-0000-0000-0000-000000000000','cpu',1,1.79546169041696882244e+09,1.79546169062703967096e+09,'{"schema": 1, "ending": "failed", "at": 1795461690.6270397, "error": "ended with exit code 1", "exit_code": 1, "signal": null}',29355,113859,NULL,0,NULL,'failed','{"retry": 1, "retries": 2, "pause_s": 120.0}');
INSERT INTO "attempts" VALUES(13,1,'00000000-0000-0000-0000-000000000000','cpu',1,1.79546169238919401172e+09,NULL,NULL,29355,113859,NULL,0,NULL,'',NULL);
INSERT INTO "attempts" VALUES(14,1,'00000000-0000-0000-0000-000000000000','cpu',1,1.79546169319619774822e+09,NULL,NULL,29380,113994,NULL,0,NULL,'',NULL);
CREATE TABLE contexts (                 -- what a job remembers of the shell that queued it
    id     INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    body   TEXT NOT NULL                -- JSON: folder, umask, interpreter, environment, affinity
) STRICT;
INSERT INTO "contexts" VALUES(1,'8bcb8a34b95758240830c852ad488c5084d6361d034d702197d8aff83213d791','{"folder": "@PROJECT@", "umask": 18, "interpreter": "@PYTHON@", "environment": {"PATH": "/usr/bin:/bin", "HOME": "@FOLDER@", "LANG": "C.UTF-8", "LAUNCHER_HOME": "@HOME@", "LAUNCHER_CLAIMS": "@CLAIMS@", "PYTHONPATH": "@SITE@", "CUDA_VISIBLE_DEVICES": "", "LAUNCHER_CONFIG": "/dev/null"}, "affinity": [0, 1]}');
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
INSERT INTO "counters" VALUES(2,'queued',3);
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
INSERT INTO "events" VALUES(1,1.79546168467804026598e+09,1,'queued','new','new',NULL);
INSERT INTO "events" VALUES(2,1.79546168467804026598e+09,2,'queued','new','new',NULL);
INSERT INTO "events" VALUES(3,1.79546168467804026598e+09,3,'queued','new','new',NULL);
INSERT INTO "events" VALUES(4,1.79546168572398471838e+09,1,'running','on the CPU with 1 core','started',NULL);
INSERT INTO "events" VALUES(5,1.79546168587740826612e+09,1,'done','done','done',NULL);
INSERT INTO "events" VALUES(6,1.79546168588744187348e+09,2,'running','on the CPU with 1 core','started',NULL);
INSERT INTO "events" VALUES(7,1.79546168593438124658e+09,2,'done','done','done',NULL);
INSERT INTO "events" VALUES(8,1.79546168593503308293e+09,3,'running','on the CPU with 1 core','started',NULL);
INSERT INTO "events" VALUES(9,1.79546168598860025403e+09,3,'done','done','done',NULL);
INSERT INTO "events" VALUES(10,1.79546168685571074482e+09,4,'queued','new','new',NULL);
INSERT INTO "events" VALUES(11,1.79546168686515855792e+09,4,'running','on the CPU with 1 core','started',NULL);
INSERT INTO "events" VALUES(12,1.79546168688839387892e+09,4,'done','done','done',NULL);
INSERT INTO "events" VALUES(13,1.79546168741910743709e+09,5,'queued','new','new',NULL);
INSERT INTO "events" VALUES(14,1.79546168742924237252e+09,5,'running','on the CPU with 1 core','started',NULL);
INSERT INTO "events" VALUES(15,1.79546168764078807825e+09,5,'failed','ended with exit code 3: bad','failed',NULL);
INSERT INTO "events" VALUES(16,1.79546168810058426852e+09,6,'held','held by its owner','held',NULL);
INSERT INTO "events" VALUES(17,1.79546168858046555514e+09,7,'queued','new','new',NULL);
INSERT INTO "events" VALUES(18,1.7954616889583055973e+09,6,'queued','released','released',NULL);
INSERT INTO "events" VALUES(19,1.79546168896958780293e+09,6,'running','on the CPU with 1 core','started',NULL);
INSERT INTO "events" VALUES(20,1.79546168918092727663e+09,6,'failed','ended with exit code 1','failed',NULL);
INSERT INTO "events" VALUES(21,1.79546168918092727663e+09,7,'skipped','needs command/above, which failed','need-failed','{"need": 6, "state": "failed"}');
INSERT INTO "events" VALUES(22,1.79546168983006215096e+09,8,'held','held by its owner','held',NULL);
INSERT INTO "events" VALUES(23,1.79546169004740905758e+09,8,'cancelled','cancelled by its owner','cancelled',NULL);
INSERT INTO "events" VALUES(24,1.79546169040637826914e+09,9,'queued','new','new',NULL);
INSERT INTO "events" VALUES(25,1.79546169041696882244e+09,9,'running','on the CPU with 1 core','started',NULL);
INSERT INTO "events" VALUES(26,1.7954616906306021213e+09,9,'queued','retry 1 of 2 after 2 m: ended with exit code 1','failed','{"retry": 1, "retries": 2, "pause_s": 120.0}');
INSERT INTO "events" VALUES(27,1.79546169102587866786e+09,10,'held','held by its owner','held',NULL);
INSERT INTO "events" VALUES(28,1.79546169144539761539e+09,11,'queued','new','new',NULL);
INSERT INTO "events" VALUES(29,1.79546169184979891777e+09,12,'queued','new','new',NULL);
INSERT INTO "events" VALUES(30,1.79546169236740589146e+09,13,'queued','new','new',NULL);
INSERT INTO "events" VALUES(31,1.79546169238919401172e+09,13,'running','on the CPU with 1 core','started',NULL);
INSERT INTO "events" VALUES(32,1.79546169317997026445e+09,14,'queued','new','new',NULL);
INSERT INTO "events" VALUES(33,1.79546169319619774822e+09,14,'running','on the CPU with 1 core','started',NULL);
INSERT INTO "events" VALUES(34,1.79546169481809806821e+09,15,'queued','new','new',NULL);
INSERT INTO "events" VALUES(35,1.79546169481809806821e+09,16,'queued','new','new',NULL);
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
    ended     REAL, lane INTEGER NOT NULL DEFAULT 0, rank REAL NOT NULL DEFAULT 0, failures INTEGER NOT NULL DEFAULT 0, lost INTEGER NOT NULL DEFAULT 0, excused INTEGER NOT NULL DEFAULT 0, reason_code TEXT NOT NULL DEFAULT '', reason_data TEXT,
    UNIQUE (run, name)
) STRICT;
INSERT INTO "jobs" VALUES(1,1,'toyshapes/toys','toyshapes','done',0,0,'','1dd4a1e986f5a9f1045c10b88fb0ace31374219bcaf9fce54f30f1833f144144','{"name": "toyshapes/toys", "kind": "toyshapes", "role": "data", "run": "toys", "root": "@PROJECT@", "entry": "toylab:shapes", "argv": ["python", "-m", "toylab", "toyshapes", "toys"], "settings": {"data_root": "toys", "size": 1}, "outputs": ["@PROJECT@/toys", "@PROJECT@/toys/.finished"], "sources": {"launcher.ids": "cb6ae980a0aac5d9", "toylab": "598ebb8fbaf4a124"}, "hash": "1dd4a1e986f5a9f1045c10b88fb0ace31374219bcaf9fce54f30f1833f144144", "signature": "toyshapes b354c059bb6f7f3b"}',1,1,'done','{"@PROJECT@/toys": [0, 0], "@PROJECT@/toys/.finished": [0, 1795461685848083688]}',1.79546168467804026598e+09,1.79546168587740826612e+09,1,1.79546168467804026598e+09,0,0,0,'done',NULL);
INSERT INTO "jobs" VALUES(2,1,'toytrain/dot:pre','toytrain','done',0,0,'','a4bcc851b64a94f50b7be23f52e01a8f808f74fafa43c23da34a1381cc72b156','{"name": "toytrain/dot:pre", "kind": "toytrain", "role": "train", "run": "toys", "root": "@PROJECT@", "entry": "toylab:train", "argv": ["python", "-m", "toylab", "toytrain", "dot:pre"], "model": "dot:pre", "data": "dot:pre", "images": "dot:pre&real:pre", "settings": {"data_root": "toys", "sleep_s": 0.0, "lr": 0.1, "epochs": 1, "optimizer": "sgd", "scale": 1.0, "frozen": false, "model": "tiny", "threads": 1, "fail": ""}, "needs": ["toyshapes/toys"], "outputs": ["@PROJECT@/runs/toys/dot:pre/model.json"], "sources": {"launcher.ids": "cb6ae980a0aac5d9", "toylab": "598ebb8fbaf4a124"}, "log_link": "@PROJECT@/runs/toys/dot:pre/toytrain_dot:pre.log", "resources": {"cpus": 1, "min_vram": null, "device": "auto", "accelerated": true, "ram": null, "gpus": 1, "exclusive": false}, "hash": "a4bcc851b64a94f50b7be23f52e01a8f808f74fafa43c23da34a1381cc72b156", "signature": "toytrain 6a8f1b9dd11fe740"}',1,1,'done','{"@PROJECT@/runs/toys/dot:pre/model.json": [37, 1795461685916118062]}',1.79546168467804026598e+09,1.79546168593438124658e+09,2,1.79546168467804026598e+09,0,0,0,'done',NULL);
INSERT INTO "jobs" VALUES(3,1,'toytest/dot:pre/dot:pre','toytest','done',0,0,'','67df73804ecd40ff3fd8bdbcae6cc8e84529d9c5f24caa354d1272eeb678ec7b','{"name": "toytest/dot:pre/dot:pre", "kind": "toytest", "role": "test", "run": "toys", "root": "@PROJECT@", "entry": "toylab:test", "argv": ["python", "-m", "toylab", "toytest", "dot:pre"], "model": "dot:pre", "data": "dot:pre", "images": "dot:pre", "settings": {"data_root": "toys", "sleep_s": 0.0, "crops": 1}, "needs": ["toyshapes/toys", "toytrain/dot:pre"], "outputs": ["@PROJECT@/runs/toys/dot:pre/scores/dot:pre.json"], "sources": {"launcher.ids": "cb6ae980a0aac5d9", "toylab": "598ebb8fbaf4a124"}, "log_link": "@PROJECT@/runs/toys/dot:pre/toytest_dot:pre_dot:pre.log", "resources": {"cpus": 1, "min_vram": null, "device": "auto", "accelerated": true, "ram": null, "gpus": 1, "exclusive": false}, "hash": "67df73804ecd40ff3fd8bdbcae6cc8e84529d9c5f24caa354d1272eeb678ec7b", "signature": "toytest 47ab4ff8a9d50f57"}',1,1,'done','{"@PROJECT@/runs/toys/dot:pre/scores/dot:pre.json": [14, 1795461685960083685]}',1.79546168467804026598e+09,1.79546168598860025403e+09,3,1.79546168467804026598e+09,0,0,0,'done',NULL);
INSERT INTO "jobs" VALUES(4,2,'command/ok','command','done',0,0,'','','{"name": "command/ok", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["echo", "ok"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "signature": "command bd2a81bec821d27f"}',1,1,'done','{}',1.79546168685571074482e+09,1.79546168688839387892e+09,4,1.79546168685571074482e+09,0,0,0,'done',NULL);
INSERT INTO "jobs" VALUES(5,2,'command/bad','command','failed',0,0,'','','{"name": "command/bad", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["sh", "-c", "echo bad; exit 3"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "signature": "command 8d296ae577b1b7f8"}',1,1,'ended with exit code 3: bad','{}',1.79546168741910743709e+09,1.79546168764078807825e+09,4,1.79546168741910743709e+09,1,0,0,'failed',NULL);
INSERT INTO "jobs" VALUES(6,2,'command/above','command','failed',0,0,'','','{"name": "command/above", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["sh", "-c", "exit 1"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "signature": "command 8dc2b8239103b77b"}',1,1,'ended with exit code 1','{}',1.79546168810058426852e+09,1.79546168918092727663e+09,4,1.79546168810058426852e+09,1,0,0,'failed',NULL);
INSERT INTO "jobs" VALUES(7,2,'command/skipped','command','skipped',0,1,'','','{"name": "command/skipped", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["true"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "signature": "command 91ddf64811ae5fc1"}',1,0,'needs command/above, which failed','{}',1.79546168858046555514e+09,1.79546168918092727663e+09,4,1.79546168858046555514e+09,0,0,0,'need-failed','{"need": 6, "state": "failed"}');
INSERT INTO "jobs" VALUES(8,2,'command/gone','command','cancelled',0,0,'','','{"name": "command/gone", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["true"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "signature": "command 91ddf64811ae5fc1"}',1,0,'cancelled by its owner','{}',1.79546168983006215096e+09,1.79546169004740905758e+09,4,1.79546168983006215096e+09,0,0,0,'cancelled',NULL);
INSERT INTO "jobs" VALUES(9,2,'command/flaky','command','queued',0,1,'','','{"name": "command/flaky", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["test", "-e", "go"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "terms": {"group": "", "not_before": null, "retries": 2, "backoff_s": 120.0, "time_limit_s": null, "warn_s": 0.0, "warn_signal": "SIGTERM", "grace_s": 30.0, "rerun": "again"}, "signature": "command e82e94e2a0c2a1fd"}',1,1,'retry 1 of 2 after 2 m: ended with exit code 1','{}',1.79546169040637826914e+09,NULL,4,1.79546169040637826914e+09,1,0,0,'failed','{"retry": 1, "retries": 2, "pause_s": 120.0}');
INSERT INTO "jobs" VALUES(10,2,'command/held','command','held',5,0,'','','{"name": "command/held", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["true"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "priority": 5, "signature": "command 91ddf64811ae5fc1"}',1,0,'held by its owner','{}',1.79546169102587866786e+09,NULL,4,1.79502969102587866786e+09,0,0,0,'held',NULL);
INSERT INTO "jobs" VALUES(11,2,'command/grouped','command','queued',0,1,'','','{"name": "command/grouped", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["true"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "terms": {"group": "few", "not_before": null, "retries": 0, "backoff_s": 10.0, "time_limit_s": null, "warn_s": 0.0, "warn_signal": "SIGTERM", "grace_s": 30.0, "rerun": "again"}, "signature": "command 91ddf64811ae5fc1"}',1,0,'new','{}',1.79546169144539761539e+09,NULL,5,1.79546169144539761539e+09,0,0,0,'new',NULL);
INSERT INTO "jobs" VALUES(12,2,'command/far','command','queued',0,1,'','','{"name": "command/far", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["true"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "terms": {"group": "", "not_before": 2095891200.0, "retries": 0, "backoff_s": 10.0, "time_limit_s": null, "warn_s": 0.0, "warn_signal": "SIGTERM", "grace_s": 30.0, "rerun": "again"}, "signature": "command 91ddf64811ae5fc1"}',1,0,'new','{}',1.79546169184979891777e+09,NULL,4,1.79546169184979891777e+09,0,0,0,'new',NULL);
INSERT INTO "jobs" VALUES(13,2,'command/unseen','command','running',0,0,'','','{"name": "command/unseen", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["sh", "-c", "while [ ! -e end ]; do sleep 0.1; done; echo ended"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "signature": "command 7e560f4449e6ea1e"}',1,1,'on the CPU with 1 core','{}',1.79546169236740589146e+09,NULL,4,1.79546169236740589146e+09,0,0,0,'started',NULL);
INSERT INTO "jobs" VALUES(14,2,'command/torn','command','running',0,0,'','','{"name": "command/torn", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["sh", "-c", "echo begun; while [ ! -e go ]; do sleep 0.1; done; echo again"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "signature": "command 2e7a529b94989d25"}',1,1,'on the CPU with 1 core','{}',1.79546169317997026445e+09,NULL,4,1.79546169317997026445e+09,0,0,0,'started',NULL);
INSERT INTO "jobs" VALUES(15,3,'toytrain/line:pre','toytrain','queued',0,0,'','3b7105ef5e0d6d12ac70c34b3797cee34729ead0f1397173882cdc16cd016370','{"name": "toytrain/line:pre", "kind": "toytrain", "role": "train", "run": "later", "root": "@PROJECT@", "entry": "toylab:train", "argv": ["python", "-m", "toylab", "toytrain", "line:pre"], "model": "line:pre", "data": "line:pre", "images": "line:pre&real:pre", "settings": {"data_root": "toys", "sleep_s": 0.0, "lr": 0.1, "epochs": 1, "optimizer": "sgd", "scale": 1.0, "frozen": false, "model": "tiny", "threads": 1, "fail": ""}, "outputs": ["@PROJECT@/runs/later/line:pre/model.json"], "sources": {"launcher.ids": "cb6ae980a0aac5d9", "toylab": "598ebb8fbaf4a124"}, "log_link": "@PROJECT@/runs/later/line:pre/toytrain_line:pre.log", "resources": {"cpus": 1, "min_vram": null, "device": "auto", "accelerated": true, "ram": null, "gpus": 1, "exclusive": false}, "hash": "3b7105ef5e0d6d12ac70c34b3797cee34729ead0f1397173882cdc16cd016370", "signature": "toytrain 6a8f1b9dd11fe740"}',1,0,'new','{}',1.79546169481809806821e+09,NULL,2,1.79546169481809806821e+09,0,0,0,'new',NULL);
INSERT INTO "jobs" VALUES(16,3,'toytest/line:pre/line:pre','toytest','queued',0,1,'','ca8788d57df14362099471a640a9b2583cc8545606f55b6d8beff57ddcf0a32f','{"name": "toytest/line:pre/line:pre", "kind": "toytest", "role": "test", "run": "later", "root": "@PROJECT@", "entry": "toylab:test", "argv": ["python", "-m", "toylab", "toytest", "line:pre"], "model": "line:pre", "data": "line:pre", "images": "line:pre", "settings": {"data_root": "toys", "sleep_s": 0.0, "crops": 1}, "needs": ["toytrain/line:pre"], "outputs": ["@PROJECT@/runs/later/line:pre/scores/line:pre.json"], "sources": {"launcher.ids": "cb6ae980a0aac5d9", "toylab": "598ebb8fbaf4a124"}, "log_link": "@PROJECT@/runs/later/line:pre/toytest_line:pre_line:pre.log", "resources": {"cpus": 1, "min_vram": null, "device": "auto", "accelerated": true, "ram": null, "gpus": 1, "exclusive": false}, "hash": "ca8788d57df14362099471a640a9b2583cc8545606f55b6d8beff57ddcf0a32f", "signature": "toytest 47ab4ff8a9d50f57"}',1,0,'new','{}',1.79546169481809806821e+09,NULL,3,1.79546169481809806821e+09,0,0,0,'new',NULL);
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
) STRICT;
CREATE TABLE needs (
    job  INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    need INTEGER NOT NULL REFERENCES jobs (id),
    PRIMARY KEY (job, need)
) STRICT, WITHOUT ROWID;
INSERT INTO "needs" VALUES(2,1);
INSERT INTO "needs" VALUES(3,1);
INSERT INTO "needs" VALUES(3,2);
INSERT INTO "needs" VALUES(7,6);
INSERT INTO "needs" VALUES(11,10);
INSERT INTO "needs" VALUES(16,15);
CREATE TABLE results (
    job  INTEGER PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    at   REAL NOT NULL,
    body TEXT NOT NULL                             -- JSON object that the kind's entry returned
) STRICT;
INSERT INTO "results" VALUES(1,1.79546168586648368834e+09,'{"files": 12}');
INSERT INTO "results" VALUES(2,1.79546168593239331245e+09,'{"seen": 2}');
INSERT INTO "results" VALUES(3,1.79546168598251962658e+09,'{"known": 1.0}');
CREATE TABLE runs (
    id     INTEGER PRIMARY KEY,
    name   TEXT NOT NULL,
    root   TEXT NOT NULL,               -- absolute; results lie in <root>/runs/<name>
    UNIQUE (root, name)
) STRICT;
INSERT INTO "runs" VALUES(1,'toys','@PROJECT@');
INSERT INTO "runs" VALUES(2,'add','@HOME@');
INSERT INTO "runs" VALUES(3,'later','@PROJECT@');
CREATE TABLE timers (
    job   INTEGER PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    at    REAL NOT NULL,
    since REAL                            -- when a pause began; NULL: the owner named the time
) STRICT;
INSERT INTO "timers" VALUES(9,1.79546181063060212136e+09,1.7954616906306021213e+09);
INSERT INTO "timers" VALUES(12,2095891200.0,NULL);
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
CREATE INDEX lessons_by_signature ON lessons (signature, id);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('events',35);
INSERT INTO "sqlite_sequence" VALUES('jobs',16);
COMMIT;
