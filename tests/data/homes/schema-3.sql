PRAGMA application_id = 1279350094;
PRAGMA user_version = 3;
BEGIN TRANSACTION;
CREATE TABLE attempts (
    job     INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    number  INTEGER NOT NULL,
    boot    TEXT NOT NULL,                         -- boot id of the claim: after a reboot nothing of it lives
    device  TEXT NOT NULL,                         -- 'cpu' or a GPU's UUID
    cpus    INTEGER NOT NULL,
    claimed REAL NOT NULL,
    ended   REAL,
    outcome TEXT, pid INTEGER NOT NULL DEFAULT 0, start_ticks INTEGER NOT NULL DEFAULT 0, claim INTEGER, lone INTEGER NOT NULL DEFAULT 0, peak INTEGER,                                  -- JSON: see launcher/states.py
    PRIMARY KEY (job, number)
) STRICT, WITHOUT ROWID;
INSERT INTO "attempts" VALUES(1,1,'00000000-0000-0000-0000-000000000000','cpu',1,1.79546164849851703649e+09,1.79546164869248795511e+09,'{"schema": 1, "ending": "done", "at": 1795461648.692488, "result": {"files": 12}}',28113,110156,NULL,0,NULL);
INSERT INTO "attempts" VALUES(2,1,'00000000-0000-0000-0000-000000000000','cpu',1,1.7954616487086091041e+09,1.79546164876883530617e+09,'{"schema": 1, "ending": "done", "at": 1795461648.7688353, "result": {"seen": 2}}',28113,110156,NULL,0,NULL);
INSERT INTO "attempts" VALUES(3,1,'00000000-0000-0000-0000-000000000000','cpu',1,1.7954616487773051262e+09,1.79546164881889867784e+09,'{"schema": 1, "ending": "done", "at": 1795461648.8188987, "result": {"known": 1.0}}',28113,110156,NULL,0,NULL);
INSERT INTO "attempts" VALUES(4,1,'00000000-0000-0000-0000-000000000000','cpu',1,1.79546164987666821482e+09,1.7954616498861658573e+09,'{"schema": 1, "ending": "done", "at": 1795461649.8861659, "result": {}}',28111,110137,NULL,0,NULL);
INSERT INTO "attempts" VALUES(5,1,'00000000-0000-0000-0000-000000000000','cpu',1,1.79546165066125488281e+09,1.79546165086486196518e+09,'{"schema": 1, "ending": "failed", "at": 1795461650.864862, "error": "ended with exit code 3: bad", "exit_code": 3, "signal": null}',28111,110137,NULL,0,NULL);
INSERT INTO "attempts" VALUES(6,1,'00000000-0000-0000-0000-000000000000','cpu',1,1.79546165287328410146e+09,1.79546165308056592945e+09,'{"schema": 1, "ending": "failed", "at": 1795461653.080566, "error": "ended with exit code 1", "exit_code": 1, "signal": null}',28111,110137,NULL,0,NULL);
INSERT INTO "attempts" VALUES(9,1,'00000000-0000-0000-0000-000000000000','cpu',1,1.79546165443181276319e+09,1.79546165464876031877e+09,'{"schema": 1, "ending": "failed", "at": 1795461654.6487603, "error": "ended with exit code 1", "exit_code": 1, "signal": null}',28111,110137,NULL,0,NULL);
INSERT INTO "attempts" VALUES(13,1,'00000000-0000-0000-0000-000000000000','cpu',1,1.79546165730095672605e+09,NULL,NULL,28111,110137,NULL,0,NULL);
INSERT INTO "attempts" VALUES(14,1,'00000000-0000-0000-0000-000000000000','cpu',1,1.79546165819761514665e+09,NULL,NULL,28140,110294,NULL,0,NULL);
CREATE TABLE contexts (                 -- what a job remembers of the shell that queued it
    id     INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    body   TEXT NOT NULL                -- JSON: folder, umask, interpreter, environment, affinity
) STRICT;
INSERT INTO "contexts" VALUES(1,'97d353d497a2b6c99656e47495766276a5b1ac3c0e43100607e959a2267d5e8a','{"folder": "@PROJECT@", "umask": 18, "interpreter": "@PYTHON@", "environment": {"PATH": "/usr/bin:/bin", "HOME": "@FOLDER@", "LANG": "C.UTF-8", "LAUNCHER_HOME": "@HOME@", "LAUNCHER_CLAIMS": "@CLAIMS@", "PYTHONPATH": "@SITE@", "CUDA_VISIBLE_DEVICES": "", "LAUNCHER_CONFIG": "/dev/null"}, "affinity": [0, 1]}');
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
) STRICT;
INSERT INTO "events" VALUES(1,1795461647.83607,1,'queued','new');
INSERT INTO "events" VALUES(2,1795461647.83607,2,'queued','new');
INSERT INTO "events" VALUES(3,1795461647.83607,3,'queued','new');
INSERT INTO "events" VALUES(4,1.79546164849851703649e+09,1,'running','on the CPU with 1 core');
INSERT INTO "events" VALUES(5,1.79546164870466017724e+09,1,'done','done');
INSERT INTO "events" VALUES(6,1.7954616487086091041e+09,2,'running','on the CPU with 1 core');
INSERT INTO "events" VALUES(7,1.79546164877657365805e+09,2,'done','done');
INSERT INTO "events" VALUES(8,1.7954616487773051262e+09,3,'running','on the CPU with 1 core');
INSERT INTO "events" VALUES(9,1.7954616488284311295e+09,3,'done','done');
INSERT INTO "events" VALUES(10,1.79546164985995411866e+09,4,'queued','new');
INSERT INTO "events" VALUES(11,1.79546164987666821482e+09,4,'running','on the CPU with 1 core');
INSERT INTO "events" VALUES(12,1.79546164990438342091e+09,4,'done','done');
INSERT INTO "events" VALUES(13,1.79546165065552210809e+09,5,'queued','new');
INSERT INTO "events" VALUES(14,1.79546165066125488281e+09,5,'running','on the CPU with 1 core');
INSERT INTO "events" VALUES(15,1.79546165086991429331e+09,5,'failed','ended with exit code 3: bad');
INSERT INTO "events" VALUES(16,1.79546165160594177251e+09,6,'held','held by its owner');
INSERT INTO "events" VALUES(17,1.79546165259017038344e+09,7,'queued','new');
INSERT INTO "events" VALUES(18,1.795461652863563776e+09,6,'queued','released');
INSERT INTO "events" VALUES(19,1.79546165287328410146e+09,6,'running','on the CPU with 1 core');
INSERT INTO "events" VALUES(20,1.79546165308868980407e+09,6,'failed','ended with exit code 1');
INSERT INTO "events" VALUES(21,1.79546165308868980407e+09,7,'skipped','needs command/above, which failed');
INSERT INTO "events" VALUES(22,1.79546165344036316876e+09,8,'held','held by its owner');
INSERT INTO "events" VALUES(23,1.79546165365145087237e+09,8,'cancelled','cancelled by its owner');
INSERT INTO "events" VALUES(24,1.79546165442102050781e+09,9,'queued','new');
INSERT INTO "events" VALUES(25,1.79546165443181276319e+09,9,'running','on the CPU with 1 core');
INSERT INTO "events" VALUES(26,1.79546165468439054488e+09,9,'queued','retry 1 of 2 after 2 m: ended with exit code 1');
INSERT INTO "events" VALUES(27,1.79546165543179035185e+09,10,'held','held by its owner');
INSERT INTO "events" VALUES(28,1.79546165616457223889e+09,11,'queued','new');
INSERT INTO "events" VALUES(29,1.7954616566656365394e+09,12,'queued','new');
INSERT INTO "events" VALUES(30,1.79546165727484083179e+09,13,'queued','new');
INSERT INTO "events" VALUES(31,1.79546165730095672605e+09,13,'running','on the CPU with 1 core');
INSERT INTO "events" VALUES(32,1.79546165818997144692e+09,14,'queued','new');
INSERT INTO "events" VALUES(33,1.79546165819761514665e+09,14,'running','on the CPU with 1 core');
INSERT INTO "events" VALUES(34,1.79546166040507936476e+09,15,'queued','new');
INSERT INTO "events" VALUES(35,1.79546166040507936476e+09,16,'queued','new');
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
    ended     REAL, lane INTEGER NOT NULL DEFAULT 0, rank REAL NOT NULL DEFAULT 0, failures INTEGER NOT NULL DEFAULT 0, lost INTEGER NOT NULL DEFAULT 0, excused INTEGER NOT NULL DEFAULT 0,
    UNIQUE (run, name)
) STRICT;
INSERT INTO "jobs" VALUES(1,1,'toyshapes/toys','toyshapes','done',0,0,'','91fa313fcbb440e4eaebc7d67a7c6540f0a0866ed35437a83b475c046eb3e18d','{"name": "toyshapes/toys", "kind": "toyshapes", "role": "data", "run": "toys", "root": "@PROJECT@", "entry": "toylab:shapes", "argv": ["python", "-m", "toylab", "toyshapes", "toys"], "settings": {"data_root": "toys", "size": 1}, "outputs": ["@PROJECT@/toys", "@PROJECT@/toys/.finished"], "sources": {"launcher.ids": "2787591ebe5443dd", "toylab": "598ebb8fbaf4a124"}, "hash": "91fa313fcbb440e4eaebc7d67a7c6540f0a0866ed35437a83b475c046eb3e18d", "signature": "toyshapes b354c059bb6f7f3b"}',1,1,'done','{"@PROJECT@/toys": [0, 0], "@PROJECT@/toys/.finished": [0, 1795461648668084618]}',1795461647.83607,1.79546164870466017724e+09,1,1795461647.83607,0,0,0);
INSERT INTO "jobs" VALUES(2,1,'toytrain/dot:pre','toytrain','done',0,0,'','ff6a9bfbcd2be0406aec4aab2803210957000ec180303ebc8e5d081518959b00','{"name": "toytrain/dot:pre", "kind": "toytrain", "role": "train", "run": "toys", "root": "@PROJECT@", "entry": "toylab:train", "argv": ["python", "-m", "toylab", "toytrain", "dot:pre"], "model": "dot:pre", "data": "dot:pre", "images": "dot:pre&real:pre", "settings": {"data_root": "toys", "sleep_s": 0.0, "lr": 0.1, "epochs": 1, "optimizer": "sgd", "scale": 1.0, "frozen": false, "model": "tiny", "threads": 1, "fail": ""}, "needs": ["toyshapes/toys"], "outputs": ["@PROJECT@/runs/toys/dot:pre/model.json"], "sources": {"launcher.ids": "2787591ebe5443dd", "toylab": "598ebb8fbaf4a124"}, "log_link": "@PROJECT@/runs/toys/dot:pre/toytrain_dot:pre.log", "resources": {"cpus": 1, "min_vram": null, "device": "auto", "accelerated": true, "ram": null, "gpus": 1, "exclusive": false}, "hash": "ff6a9bfbcd2be0406aec4aab2803210957000ec180303ebc8e5d081518959b00", "signature": "toytrain 6a8f1b9dd11fe740"}',1,1,'done','{"@PROJECT@/runs/toys/dot:pre/model.json": [37, 1795461648741516953]}',1795461647.83607,1.79546164877657365805e+09,2,1795461647.83607,0,0,0);
INSERT INTO "jobs" VALUES(3,1,'toytest/dot:pre/dot:pre','toytest','done',0,0,'','915bf04e1c77569d30e07d4ae2b594b128cb106f1ec67f0382dcb3e034502c48','{"name": "toytest/dot:pre/dot:pre", "kind": "toytest", "role": "test", "run": "toys", "root": "@PROJECT@", "entry": "toylab:test", "argv": ["python", "-m", "toylab", "toytest", "dot:pre"], "model": "dot:pre", "data": "dot:pre", "images": "dot:pre", "settings": {"data_root": "toys", "sleep_s": 0.0, "crops": 1}, "needs": ["toyshapes/toys", "toytrain/dot:pre"], "outputs": ["@PROJECT@/runs/toys/dot:pre/scores/dot:pre.json"], "sources": {"launcher.ids": "2787591ebe5443dd", "toylab": "598ebb8fbaf4a124"}, "log_link": "@PROJECT@/runs/toys/dot:pre/toytest_dot:pre_dot:pre.log", "resources": {"cpus": 1, "min_vram": null, "device": "auto", "accelerated": true, "ram": null, "gpus": 1, "exclusive": false}, "hash": "915bf04e1c77569d30e07d4ae2b594b128cb106f1ec67f0382dcb3e034502c48", "signature": "toytest 47ab4ff8a9d50f57"}',1,1,'done','{"@PROJECT@/runs/toys/dot:pre/scores/dot:pre.json": [14, 1795461648800084615]}',1795461647.83607,1.7954616488284311295e+09,3,1795461647.83607,0,0,0);
INSERT INTO "jobs" VALUES(4,2,'command/ok','command','done',0,0,'','','{"name": "command/ok", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["echo", "ok"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "signature": "command bd2a81bec821d27f"}',1,1,'done','{}',1.79546164985995411866e+09,1.79546164990438342091e+09,4,1.79546164985995411866e+09,0,0,0);
INSERT INTO "jobs" VALUES(5,2,'command/bad','command','failed',0,0,'','','{"name": "command/bad", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["sh", "-c", "echo bad; exit 3"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "signature": "command 8d296ae577b1b7f8"}',1,1,'ended with exit code 3: bad','{}',1.79546165065552210809e+09,1.79546165086991429331e+09,4,1.79546165065552210809e+09,1,0,0);
INSERT INTO "jobs" VALUES(6,2,'command/above','command','failed',0,0,'','','{"name": "command/above", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["sh", "-c", "exit 1"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "signature": "command 8dc2b8239103b77b"}',1,1,'ended with exit code 1','{}',1.79546165160594177251e+09,1.79546165308868980407e+09,4,1.79546165160594177251e+09,1,0,0);
INSERT INTO "jobs" VALUES(7,2,'command/skipped','command','skipped',0,1,'','','{"name": "command/skipped", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["true"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "signature": "command 91ddf64811ae5fc1"}',1,0,'needs command/above, which failed','{}',1.79546165259017038344e+09,1.79546165308868980407e+09,4,1.79546165259017038344e+09,0,0,0);
INSERT INTO "jobs" VALUES(8,2,'command/gone','command','cancelled',0,0,'','','{"name": "command/gone", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["true"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "signature": "command 91ddf64811ae5fc1"}',1,0,'cancelled by its owner','{}',1.79546165344036316876e+09,1.79546165365145087237e+09,4,1.79546165344036316876e+09,0,0,0);
INSERT INTO "jobs" VALUES(9,2,'command/flaky','command','queued',0,1,'','','{"name": "command/flaky", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["test", "-e", "go"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "terms": {"group": "", "not_before": null, "retries": 2, "backoff_s": 120.0, "time_limit_s": null, "warn_s": 0.0, "warn_signal": "SIGTERM", "grace_s": 30.0, "rerun": "again"}, "signature": "command e82e94e2a0c2a1fd"}',1,1,'retry 1 of 2 after 2 m: ended with exit code 1','{}',1.79546165442102050781e+09,NULL,4,1.79546165442102050781e+09,1,0,0);
INSERT INTO "jobs" VALUES(10,2,'command/held','command','held',5,0,'','','{"name": "command/held", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["true"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "priority": 5, "signature": "command 91ddf64811ae5fc1"}',1,0,'held by its owner','{}',1.79546165543179035185e+09,NULL,4,1.79502965543179035185e+09,0,0,0);
INSERT INTO "jobs" VALUES(11,2,'command/grouped','command','queued',0,1,'','','{"name": "command/grouped", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["true"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "terms": {"group": "few", "not_before": null, "retries": 0, "backoff_s": 10.0, "time_limit_s": null, "warn_s": 0.0, "warn_signal": "SIGTERM", "grace_s": 30.0, "rerun": "again"}, "signature": "command 91ddf64811ae5fc1"}',1,0,'new','{}',1.79546165616457223889e+09,NULL,5,1.79546165616457223889e+09,0,0,0);
INSERT INTO "jobs" VALUES(12,2,'command/far','command','queued',0,1,'','','{"name": "command/far", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["true"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "terms": {"group": "", "not_before": 2095891200.0, "retries": 0, "backoff_s": 10.0, "time_limit_s": null, "warn_s": 0.0, "warn_signal": "SIGTERM", "grace_s": 30.0, "rerun": "again"}, "signature": "command 91ddf64811ae5fc1"}',1,0,'new','{}',1.7954616566656365394e+09,NULL,4,1.7954616566656365394e+09,0,0,0);
INSERT INTO "jobs" VALUES(13,2,'command/unseen','command','running',0,0,'','','{"name": "command/unseen", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["sh", "-c", "while [ ! -e end ]; do sleep 0.1; done; echo ended"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "signature": "command 7e560f4449e6ea1e"}',1,1,'on the CPU with 1 core','{}',1.79546165727484083179e+09,NULL,4,1.79546165727484083179e+09,0,0,0);
INSERT INTO "jobs" VALUES(14,2,'command/torn','command','running',0,0,'','','{"name": "command/torn", "kind": "command", "role": "plain", "run": "add", "root": "@HOME@", "argv": ["sh", "-c", "echo begun; while [ ! -e go ]; do sleep 0.1; done; echo again"], "resources": {"cpus": 1, "min_vram": null, "device": "cpu", "accelerated": false, "ram": null, "gpus": 1, "exclusive": false}, "signature": "command 2e7a529b94989d25"}',1,1,'on the CPU with 1 core','{}',1.79546165818997144692e+09,NULL,4,1.79546165818997144692e+09,0,0,0);
INSERT INTO "jobs" VALUES(15,3,'toytrain/line:pre','toytrain','queued',0,0,'','99f595f0f6ffeafd60a87d1ef15380fc92460772d240e9307214b80cdb66e0d4','{"name": "toytrain/line:pre", "kind": "toytrain", "role": "train", "run": "later", "root": "@PROJECT@", "entry": "toylab:train", "argv": ["python", "-m", "toylab", "toytrain", "line:pre"], "model": "line:pre", "data": "line:pre", "images": "line:pre&real:pre", "settings": {"data_root": "toys", "sleep_s": 0.0, "lr": 0.1, "epochs": 1, "optimizer": "sgd", "scale": 1.0, "frozen": false, "model": "tiny", "threads": 1, "fail": ""}, "outputs": ["@PROJECT@/runs/later/line:pre/model.json"], "sources": {"launcher.ids": "2787591ebe5443dd", "toylab": "598ebb8fbaf4a124"}, "log_link": "@PROJECT@/runs/later/line:pre/toytrain_line:pre.log", "resources": {"cpus": 1, "min_vram": null, "device": "auto", "accelerated": true, "ram": null, "gpus": 1, "exclusive": false}, "hash": "99f595f0f6ffeafd60a87d1ef15380fc92460772d240e9307214b80cdb66e0d4", "signature": "toytrain 6a8f1b9dd11fe740"}',1,0,'new','{}',1.79546166040507936476e+09,NULL,2,1.79546166040507936476e+09,0,0,0);
INSERT INTO "jobs" VALUES(16,3,'toytest/line:pre/line:pre','toytest','queued',0,1,'','5fac6ae9bdb7578b45b7359ca4d1e29b77a72f9689411866f392e079ce63fbec','{"name": "toytest/line:pre/line:pre", "kind": "toytest", "role": "test", "run": "later", "root": "@PROJECT@", "entry": "toylab:test", "argv": ["python", "-m", "toylab", "toytest", "line:pre"], "model": "line:pre", "data": "line:pre", "images": "line:pre", "settings": {"data_root": "toys", "sleep_s": 0.0, "crops": 1}, "needs": ["toytrain/line:pre"], "outputs": ["@PROJECT@/runs/later/line:pre/scores/line:pre.json"], "sources": {"launcher.ids": "2787591ebe5443dd", "toylab": "598ebb8fbaf4a124"}, "log_link": "@PROJECT@/runs/later/line:pre/toytest_line:pre_line:pre.log", "resources": {"cpus": 1, "min_vram": null, "device": "auto", "accelerated": true, "ram": null, "gpus": 1, "exclusive": false}, "hash": "5fac6ae9bdb7578b45b7359ca4d1e29b77a72f9689411866f392e079ce63fbec", "signature": "toytest 47ab4ff8a9d50f57"}',1,0,'new','{}',1.79546166040507936476e+09,NULL,3,1.79546166040507936476e+09,0,0,0);
CREATE TABLE lanes (
    id     INTEGER PRIMARY KEY,
    key    TEXT NOT NULL UNIQUE,          -- JSON: see launcher/store/rows.py
    reason TEXT NOT NULL DEFAULT ''       -- why the first job of the lane waits, in one line
) STRICT;
INSERT INTO "lanes" VALUES(1,'{"breed": ["@PYTHON@", ["launcher.kinds"], "@SITE@"], "group": "", "resources": {"accelerated": false, "cpus": 1, "device": "auto", "exclusive": false, "gpus": 1, "min_vram": null, "ram": null}}','');
INSERT INTO "lanes" VALUES(2,'{"breed": ["@PYTHON@", ["launcher.kinds"], "@SITE@"], "group": "", "resources": {"accelerated": true, "cpus": 1, "device": "auto", "exclusive": false, "gpus": 1, "min_vram": null, "ram": null}, "signature": "toytrain 6a8f1b9dd11fe740", "visible": []}','needs 1 core, 0 of 2 free');
INSERT INTO "lanes" VALUES(3,'{"breed": ["@PYTHON@", ["launcher.kinds"], "@SITE@"], "group": "", "resources": {"accelerated": true, "cpus": 1, "device": "auto", "exclusive": false, "gpus": 1, "min_vram": null, "ram": null}, "signature": "toytest 47ab4ff8a9d50f57", "visible": []}','');
INSERT INTO "lanes" VALUES(4,'{"breed": ["", [], ""], "group": "", "resources": {"accelerated": false, "cpus": 1, "device": "cpu", "exclusive": false, "gpus": 1, "min_vram": null, "ram": null}}','');
INSERT INTO "lanes" VALUES(5,'{"breed": ["", [], ""], "group": "few", "resources": {"accelerated": false, "cpus": 1, "device": "cpu", "exclusive": false, "gpus": 1, "min_vram": null, "ram": null}}','');
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
INSERT INTO "results" VALUES(1,1.79546164869248795511e+09,'{"files": 12}');
INSERT INTO "results" VALUES(2,1.79546164876883530617e+09,'{"seen": 2}');
INSERT INTO "results" VALUES(3,1.79546164881889867784e+09,'{"known": 1.0}');
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
INSERT INTO "timers" VALUES(9,1.79546177468439054495e+09,1.79546165468439054488e+09);
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
