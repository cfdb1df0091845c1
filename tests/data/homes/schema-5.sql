PRAGMA application_id = 1279350094;
PRAGMA user_version = 5;
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
INSERT INTO "attempts" VALUES(1,1,'00000000-0000-0000-0000-000000000000','cpu',1,1.79546169825941538808e+09,1.79546169836250901221e+09,'{"schema": 1, "ending": "done", "at": 1795461698.362509, "result": {"files": 12}}',29729,115132,NULL,0,NULL,'done',NULL);
INSERT INTO "attempts" VALUES(2,1,'00000000-0000-0000-0000-000000000000','cpu',1,1.79546169837167739861e+09,1.79546169844619894024e+09,'{"schema": 1, "ending": "done", "at": 1795461698.446199, "result": {"seen": 2}}',29729,115132,NULL,0,NULL,'done',NULL);
INSERT INTO "attempts" VALUES(3,1,'00000000-0000-0000-0000-000000000000','cpu',1,1.79546169844786620141e+09,1.79546169851788449292e+09,'{"schema": 1, "ending": "done", "at": 1795461698.5178845, "result": {"known": 1.0}}',29729,115132,NULL,0,NULL,'done',NULL);
INSERT INTO "attempts" VALUES(4,1,'00000000-0000-0000-0000-000000000000','cpu',1,1.79546169951228857045e+09,1.79546169952978491779e+09,'{"schema": 1, "ending": "done", "at": 1795461699.529785, "result": {}}',29728,115130,NULL,0,NULL,'done',NULL);
INSERT INTO "attempts" VALUES(5,1,'00000000-0000-0000-0000-000000000000','cpu',1,1.79546169992096781723e+09,1.79546170014137911798e+09,'{"schema": 1, "ending": "failed", "at": 1795461700.141379, "error": "ended with exit code 3: bad", "exit_code": 3, "signal": null}',29728,115130,NULL,0,NULL,'failed',NULL);
INSERT INTO "attempts" VALUES(6,1,'00000000-0000-0000-0000-000000000000','cpu',1,1795461700.94103,1.79546170114599156373e+09,'{"schema": 1, "ending": "failed", "at": 1795461701.1459916, "error": "ended with exit code 1", "exit_code": 1, "signal": null}',29728,115130,NULL,0,NULL,'failed',NULL);
INSERT INTO "attempts" VALUES(9,1,'00000000-0000-0000-0000-000000000000','cpu',1,1.79546170186903810504e+09,1.79546170208172202109e+09,'{"schema": 1, "ending": "failed", "at": 1795461702.081722, "error": "ended with exit code 1", "exit_code": 1, "signal": null}',29728,115130,NULL,0,NULL,'failed','{"retry": 1, "retries": 2, "pause_s": 120.0}');
INSERT INTO "attempts" VALUES(14,1,'00000000-0000-0000-0000-000000000000','cpu',1,1.79546170344497370719e+09,NULL,NULL,29728,115130,NULL,0,NULL,'',NULL);
INSERT INTO "attempts" VALUES(15,1,'00000000-0000-0000-0000-000000000000','cpu',1,1.79546170372351741786e+09,NULL,NULL,29755,115258,NULL,0,NULL,'',NULL);
CREATE TABLE contexts (                 -- what a job remembers of the shell that queued it
    id     INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    body   TEXT NOT NULL                -- JSON: folder, umask, interpreter, environment, affinity
) STRICT;
INSERT INTO "contexts" VALUES(1,'879c835888cc09e89a51a3849db5f6d5ae7e8cbd7caf00c406201719545d0298','{"folder": "@PROJECT@", "umask": 18, "interpreter": "@PYTHON@", "environment": {"PATH": "/usr/bin:/bin", "HOME": "@FOLDER@", "LANG": "C.UTF-8", "LAUNCHER_HOME": "@HOME@", "LAUNCHER_CLAIMS": "@CLAIMS@", "PYTHONPATH": "@SITE@", "CUDA_VISIBLE_DEVICES": "", "LAUNCHER_CONFIG": "/dev/null"}, "affinity": [0, 1]}');
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
INSERT INTO "events" VALUES(1,1.79546169769529581072e+09,1,'queued','new','new',NULL);
INSERT INTO "events" VALUES(2,1.79546169769529581072e+09,2,'queued','new','new',NULL);
INSERT INTO "events" VALUES(3,1.79546169769529581072e+09,3,'queued','new','new',NULL);
INSERT INTO "events" VALUES(4,1.79546169825941538808e+09,1,'running','on the CPU with 1 core','started',NULL);
INSERT INTO "events" VALUES(5,1.7954616983681824207e+09,1,'done','done','done',NULL);
INSERT INTO "events" VALUES(6,1.79546169837167739861e+09,2,'running','on the CPU with 1 core','started',NULL);
INSERT INTO "events" VALUES(7,1.79546169844712805749e+09,2,'done','done','done',NULL);
INSERT INTO "events" VALUES(8,1.79546169844786620141e+09,3,'running','on the CPU with 1 core','started',NULL);
INSERT INTO "events" VALUES(9,1.79546169852015113834e+09,3,'done','done','done',NULL);
INSERT INTO "events" VALUES(10,1.79546169949746203418e+09,4,'queued','new','new',NULL);
INSERT INTO "events" VALUES(11,1.79546169951228857045e+09,4,'running','on the CPU with 1 core','started',NULL);
INSERT INTO "events" VALUES(12,1.79546169953041338915e+09,4,'done','done','done',NULL);
INSERT INTO "events" VALUES(13,1.79546169990423369403e+09,5,'queued','new','new',NULL);
INSERT INTO "events" VALUES(14,1.79546169992096781723e+09,5,'running','on the CPU with 1 core','started',NULL);
INSERT INTO "events" VALUES(15,1.79546170014260601994e+09,5,'failed','ended with exit code 3: bad','failed',NULL);
INSERT INTO "events" VALUES(16,1.79546170038354706765e+09,6,'held','held by its owner','held',NULL);
INSERT INTO "events" VALUES(17,1.79546170073998594281e+09,7,'queued','new','new',NULL);
INSERT INTO "events" VALUES(18,1.79546170092943143843e+09,6,'queued','released','released',NULL);
INSERT INTO "events" VALUES(19,1795461700.94103,6,'running','on the CPU with 1 core','started',NULL);
INSERT INTO "events" VALUES(20,1.79546170115245747565e+09,6,'failed','ended with exit code 1','failed',NULL);
INSERT INTO "events" VALUES(21,1.79546170115245747565e+09,7,'skipped','needs command/above, which failed','need-failed','{"need": 6, "state": "failed"}');
INSERT INTO "events" VALUES(22,1.79546170136476802826e+09,8,'held','held by its owner','held',NULL);
INSERT INTO "events" VALUES(23,1.79546170166151070599e+09,8,'cancelled','cancelled by its owner','cancelled',NULL);
INSERT INTO "events" VALUES(24,1.79546170185504794115e+09,9,'queued','new','new',NULL);
INSERT INTO "events" VALUES(25,1.79546170186903810504e+09,9,'running','on the CPU with 1 core','started',NULL);
INSERT INTO "events" VALUES(26,1.79546170208257341383e+09,9,'queued','retry 1 of 2 after 2 m: ended with exit code 1','failed','{"retry": 1, "retries": 2, "pause_s": 120.0}');
INSERT INTO "events" VALUES(27,1.79546170243113017081e+09,10,'held','held by its owner','held',NULL);
INSERT INTO "events" VALUES(28,1.79546170264216136932e+09,11,'queued','new','new',NULL);
INSERT INTO "events" VALUES(29,1.79546170287822699548e+09,12,'queued','new','new',NULL);
INSERT INTO "events" VALUES(30,1.79546170314275217055e+09,13,'queued','new','new',NULL);
INSERT INTO "events" VALUES(31,1.79546170343081426621e+09,14,'queued','new','new',NULL);
INSERT INTO "events" VALUES(32,1.79546170344497370719e+09,14,'running','on the CPU with 1 core','started',NULL);
INSERT INTO "events" VALUES(33,1.79546170371420907969e+09,15,'queued','new','new',NULL);
INSERT INTO "events" VALUES(34,1.79546170372351741786e+09,15,'running','on the CPU with 1 core','started',NULL);
INSERT INTO "events" VALUES(35,1.79546170526329565051e+09,16,'queued','new','new',NULL);
INSERT INTO "events" VALUES(36,1.79546170526329565051e+09,17,'queued','new','new',NULL);
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
INSERT INTO "jobs" VALUES(1,1,'toyshapes/toys','toyshapes','done',0,0,'','bfd8a5361381acad63add2f7345aba70b8bde9d675a9dbddcadf302d1f62fec7','{"name": "toyshapes/toys", "kind": "toyshapes", "role": "data", "run": "toys", "root": "@PROJECT@", "entry": "toylab:shapes", "argv": ["python", "-m", "toylab", "toyshapes", "toys"], "settings": {"data_root": "toys", "size": 1}, "outputs": ["@PROJECT@/toys", "@PROJECT@/toys/.finished"], "sources": {"launcher.ids": "cb6ae980a0aac5d9", "toylab": "0f3a251ff13dfbe6"}, "hash": "bfd8a5361381acad63add2f7345aba70b8bde9d675a9dbddcadf302d1f62fec7", "signature": "toyshapes b354c059bb6f7f3b"}',1,1,'done','{"@PROJECT@/toys": [0, 0], "@PROJECT@/toys/.finished": [0, 1795461698334927239]}',1.79546169769529581072e+09,1.7954616983681824207e+09,1,1.79546169769529581072e+09,0,0,0,'done',NULL);
INSERT INTO "jobs" VALUES(2,1,'toytrain/dot:pre','toytrain','done',0,0,'','288c8e24feb19800c732637d062dde782d72f5c2d56460673331bd3f33810e53','{"name": "toytrain/dot:pre", "kind": "toytrain", "role": "train", "run": "toys", "root": "@PROJECT@", "entry": "toylab:train", "argv": ["python", "-m", "toylab", "toytrain", "dot:pre"], "model": "dot:pre", "data": "dot:pre", "images": "dot:pre&real:pre", "settings": {"data_root": "toys", "sleep_s": 0.0, "lr": 0.1, "epochs": 1, "optimizer": "sgd", "scale": 1.0, "frozen": false, "model": "tiny", "threads": 1, "fail": ""}, "needs": ["toyshapes/toys"], "outputs": ["@PROJECT@/runs/toys/dot:pre/model.json"], "sources": {"launcher.ids": "cb6ae980a0aac5d9", "toylab": "0f3a251ff13dfbe6"}, "log_link": "@PROJECT@/runs/toys/dot:pre/toytrain_dot:pre.log", "resources": {"cpus": 1, "min_vram": null, "device": "auto", "accelerated": true, "ram": null, "gpus": 1, "exclusive": false}, "hash": "288c8e24feb19800c732637d062dde782d72f5c2d56460673331bd3f33810e53", "signature": "toytrain 6a8f1b9dd11fe740"}',1,1,'done','{"@PROJECT@/runs/toys/dot:pre/model.json": [37, 1795461698428422488]}',1.79546169769529581072e+09,1.79546169844712805749e+09,2,1.79546169769529581072e+09,0,0,0,'done',NULL);
INSERT INTO "jobs" VALUES(3,1,'toytest/dot:pre/dot:pre','toytest','done',0,0,'','67b37fe041e3dfd0a9b1b00f629e0af5dec212161781d00c657e1ec39401df84','{"name": "toytest/dot:pre/dot:pre", "kind": "toytest", "role": "test", "run": "toys", "root": "@PROJECT@", "entry": "toylab:test", "argv": ["python", "-m", "toylab", "toytest", "dot:pre"], "model": "dot:pre", "data": "dot:pre", "images": "dot:pre", "settings": {"data_root": "toys", "sleep_s": 0.0, "crops": 1, "haze": "none", "tilt": 0}, "needs": ["toyshapes/toys", "toytrain/dot:pre"], "outputs": ["@PROJECT@/runs/toys/dot:pre/scores/dot:pre.json"], "sources": {"launcher.ids": "cb6ae980a0aac5d9", "toylab": "0f3a251ff13dfbe6"}, "log_link": "@PROJECT@/runs/toys/dot:pre/toytest_dot:pre_dot:pre.log", "resources": {"cpus": 1, "min_vram": null, "device": "auto", "accelerated": true, "ram": null, "gpus": 1, "exclusive": false}, "hash": "67b37fe041e3dfd0a9b1b00f629e0af5dec212161781d00c657e1ec39401df84", "signature": "toytest 47ab4ff8a9d50f57"}',1,1,'done','{"@PROJECT@/runs/toys/dot:pre/scores/dot:pre.json": [14, 1795461698503619094]}',1.79546169769529581072e+09,1.79546169852015113834e+09,3,1.79546169769529581072e+09,0,0,0,'done',NULL);
INSERT INTO "jobs" VALUES(4,2,'command/ok','command','done',0,0,'','','{"name": "command/ok", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["echo", "ok"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "signature": "command bd2a81bec821d27f"}',1,1,'done','{}',1.79546169949746203418e+09,1.79546169953041338915e+09,4,1.79546169949746203418e+09,0,0,0,'done',NULL);
INSERT INTO "jobs" VALUES(5,2,'command/bad','command','failed',0,0,'','','{"name": "command/bad", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["sh", "-c", "echo bad; exit 3"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "signature": "command 8d296ae577b1b7f8"}',1,1,'ended with exit code 3: bad','{}',1.79546169990423369403e+09,1.79546170014260601994e+09,4,1.79546169990423369403e+09,1,0,0,'failed',NULL);
INSERT INTO "jobs" VALUES(6,2,'command/above','command','failed',0,0,'','','{"name": "command/above", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["sh", "-c", "exit 1"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "signature": "command 8dc2b8239103b77b"}',1,1,'ended with exit code 1','{}',1.79546170038354706765e+09,1.79546170115245747565e+09,4,1.79546170038354706765e+09,1,0,0,'failed',NULL);
INSERT INTO "jobs" VALUES(7,2,'command/skipped','command','skipped',0,1,'','','{"name": "command/skipped", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["true"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "signature": "command 91ddf64811ae5fc1"}',1,0,'needs command/above, which failed','{}',1.79546170073998594281e+09,1.79546170115245747565e+09,4,1.79546170073998594281e+09,0,0,0,'need-failed','{"need": 6, "state": "failed"}');
INSERT INTO "jobs" VALUES(8,2,'command/gone','command','cancelled',0,0,'','','{"name": "command/gone", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["true"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "signature": "command 91ddf64811ae5fc1"}',1,0,'cancelled by its owner','{}',1.79546170136476802826e+09,1.79546170166151070599e+09,4,1.79546170136476802826e+09,0,0,0,'cancelled',NULL);
INSERT INTO "jobs" VALUES(9,2,'command/flaky','command','queued',0,1,'','','{"name": "command/flaky", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["test", "-e", "go"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "terms": {"group": "", "not_before": null, "retries": 2, "backoff_s": 120.0, "time_limit_s": null, "warn_s": 0.0, "warn_signal": "SIGTERM", "grace_s": 30.0, "rerun": "again"}, "signature": "command e82e94e2a0c2a1fd"}',1,1,'retry 1 of 2 after 2 m: ended with exit code 1','{}',1.79546170185504794115e+09,NULL,4,1.79546170185504794115e+09,1,0,0,'failed','{"retry": 1, "retries": 2, "pause_s": 120.0}');
INSERT INTO "jobs" VALUES(10,2,'command/held','command','held',5,0,'','','{"name": "command/held", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["true"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "priority": 5, "signature": "command 91ddf64811ae5fc1"}',1,0,'held by its owner','{}',1.79546170243113017081e+09,NULL,4,1.79502970243113017085e+09,0,0,0,'held',NULL);
INSERT INTO "jobs" VALUES(11,2,'command/grouped','command','queued',0,1,'','','{"name": "command/grouped", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["true"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "terms": {"group": "few", "not_before": null, "retries": 0, "backoff_s": 10.0, "time_limit_s": null, "warn_s": 0.0, "warn_signal": "SIGTERM", "grace_s": 30.0, "rerun": "again"}, "signature": "command 91ddf64811ae5fc1"}',1,0,'new','{}',1.79546170264216136932e+09,NULL,5,1.79546170264216136932e+09,0,0,0,'new',NULL);
INSERT INTO "jobs" VALUES(12,2,'command/far','command','queued',0,1,'','','{"name": "command/far", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["true"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "terms": {"group": "", "not_before": 2095891200.0, "retries": 0, "backoff_s": 10.0, "time_limit_s": null, "warn_s": 0.0, "warn_signal": "SIGTERM", "grace_s": 30.0, "rerun": "again"}, "signature": "command 91ddf64811ae5fc1"}',1,0,'new','{}',1.79546170287822699548e+09,NULL,4,1.79546170287822699548e+09,0,0,0,'new',NULL);
INSERT INTO "jobs" VALUES(13,2,'command/behind','command','queued',0,1,'','','{"name": "command/behind", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["true"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "signature": "command 91ddf64811ae5fc1"}',1,0,'new','{}',1.79546170314275217055e+09,NULL,4,1.79546170314275217055e+09,0,0,0,'new',NULL);
INSERT INTO "jobs" VALUES(14,2,'command/unseen','command','running',0,0,'','','{"name": "command/unseen", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["sh", "-c", "while [ ! -e end ]; do sleep 0.1; done; echo ended"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "signature": "command 7e560f4449e6ea1e"}',1,1,'on the CPU with 1 core','{}',1.79546170343081426621e+09,NULL,4,1.79546170343081426621e+09,0,0,0,'started',NULL);
INSERT INTO "jobs" VALUES(15,2,'command/torn','command','running',0,0,'','','{"name": "command/torn", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["sh", "-c", "echo begun; while [ ! -e go ]; do sleep 0.1; done; echo again"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "signature": "command 2e7a529b94989d25"}',1,1,'on the CPU with 1 core','{}',1.79546170371420907969e+09,NULL,4,1.79546170371420907969e+09,0,0,0,'started',NULL);
INSERT INTO "jobs" VALUES(16,3,'toytrain/line:pre','toytrain','queued',0,0,'','1bacbe3405f284eb38838183dd33ccefb4d4f270aa225ee10ec73cedc70e0e1c','{"name": "toytrain/line:pre", "kind": "toytrain", "role": "train", "run": "later", "root": "@PROJECT@", "entry": "toylab:train", "argv": ["python", "-m", "toylab", "toytrain", "line:pre"], "model": "line:pre", "data": "line:pre", "images": "line:pre&real:pre", "settings": {"data_root": "toys", "sleep_s": 0.0, "lr": 0.1, "epochs": 1, "optimizer": "sgd", "scale": 1.0, "frozen": false, "model": "tiny", "threads": 1, "fail": ""}, "outputs": ["@PROJECT@/runs/later/line:pre/model.json"], "sources": {"launcher.ids": "cb6ae980a0aac5d9", "toylab": "0f3a251ff13dfbe6"}, "log_link": "@PROJECT@/runs/later/line:pre/toytrain_line:pre.log", "resources": {"cpus": 1, "min_vram": null, "device": "auto", "accelerated": true, "ram": null, "gpus": 1, "exclusive": false}, "hash": "1bacbe3405f284eb38838183dd33ccefb4d4f270aa225ee10ec73cedc70e0e1c", "signature": "toytrain 6a8f1b9dd11fe740"}',1,0,'new','{}',1.79546170526329565051e+09,NULL,2,1.79546170526329565051e+09,0,0,0,'new',NULL);
INSERT INTO "jobs" VALUES(17,3,'toytest/line:pre/line:pre','toytest','queued',0,1,'','c521a143c6aa97c0024273e72f7aec83e5bca810907b8731e766e5eb9104ee0f','{"name": "toytest/line:pre/line:pre", "kind": "toytest", "role": "test", "run": "later", "root": "@PROJECT@", "entry": "toylab:test", "argv": ["python", "-m", "toylab", "toytest", "line:pre"], "model": "line:pre", "data": "line:pre", "images": "line:pre", "settings": {"data_root": "toys", "sleep_s": 0.0, "crops": 1, "haze": "none", "tilt": 0}, "needs": ["toytrain/line:pre"], "outputs": ["@PROJECT@/runs/later/line:pre/scores/line:pre.json"], "sources": {"launcher.ids": "cb6ae980a0aac5d9", "toylab": "0f3a251ff13dfbe6"}, "log_link": "@PROJECT@/runs/later/line:pre/toytest_line:pre_line:pre.log", "resources": {"cpus": 1, "min_vram": null, "device": "auto", "accelerated": true, "ram": null, "gpus": 1, "exclusive": false}, "hash": "c521a143c6aa97c0024273e72f7aec83e5bca810907b8731e766e5eb9104ee0f", "signature": "toytest 47ab4ff8a9d50f57"}',1,0,'new','{}',1.79546170526329565051e+09,NULL,3,1.79546170526329565051e+09,0,0,0,'new',NULL);
CREATE TABLE lanes (
    id     INTEGER PRIMARY KEY,
    key    TEXT NOT NULL UNIQUE,          -- JSON: see launcher/store/rows.py
    reason TEXT NOT NULL DEFAULT ''       -- why the first job of the lane waits, in one line
, reason_code TEXT NOT NULL DEFAULT '', reason_data TEXT) STRICT;
INSERT INTO "lanes" VALUES(1,'{"breed": ["@PYTHON@", ["launcher.kinds"], "@SITE@"], "group": "", "resources": {"accelerated": false, "cpus": 1, "device": "auto", "exclusive": false, "gpus": 1, "min_vram": null, "ram": null}}','','',NULL);
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
CREATE TABLE results (
    job  INTEGER PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    at   REAL NOT NULL,
    body TEXT NOT NULL                             -- JSON object that the kind's entry returned
) STRICT;
INSERT INTO "results" VALUES(1,1.79546169836250901221e+09,'{"files": 12}');
INSERT INTO "results" VALUES(2,1.79546169844619894024e+09,'{"seen": 2}');
INSERT INTO "results" VALUES(3,1.79546169851788449292e+09,'{"known": 1.0}');
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
INSERT INTO "timers" VALUES(9,1.79546182208257341385e+09,1.79546170208257341383e+09);
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
INSERT INTO "sqlite_sequence" VALUES('events',36);
INSERT INTO "sqlite_sequence" VALUES('jobs',17);
COMMIT;
