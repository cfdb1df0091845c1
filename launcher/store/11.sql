-- Schema 11: programs are found by the paths that they write, and failures without reading what is done.

CREATE TABLE output_paths (
    folder TEXT NOT NULL,               -- as the spec spells it, with a slash at the end; '' in a path without a slash
    name   TEXT NOT NULL,
    job    INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    PRIMARY KEY (folder, name, job)
) STRICT, WITHOUT ROWID;
CREATE INDEX output_paths_by_job ON output_paths (job);

CREATE VIEW program_outputs AS
    SELECT folder, substr(path, length(folder) + 1) AS name, job FROM (
        SELECT rtrim(value, replace(value, '/', '')) AS folder, value AS path, jobs.id AS job
        FROM jobs CROSS JOIN json_each(CASE WHEN json_valid(spec) THEN spec ELSE '{}' END, '$.outputs') AS listed
        WHERE jobs.kind = 'command' AND instr(spec, '"outputs"') AND listed.type = 'text'
    );
INSERT OR IGNORE INTO output_paths SELECT * FROM program_outputs;

CREATE TRIGGER list_outputs AFTER INSERT ON jobs WHEN new.kind = 'command' AND instr(new.spec, '"outputs"') BEGIN
    INSERT OR IGNORE INTO output_paths SELECT * FROM program_outputs WHERE job = new.id;
END;
CREATE TRIGGER list_changed_outputs AFTER UPDATE OF spec ON jobs
    WHEN new.kind = 'command' AND new.spec <> old.spec AND (instr(old.spec, '"outputs"') OR instr(new.spec, '"outputs"')) BEGIN
    DELETE FROM output_paths WHERE job = new.id;
    INSERT OR IGNORE INTO output_paths SELECT * FROM program_outputs WHERE job = new.id;
END;

CREATE INDEX jobs_failed ON jobs (run, submitted, ended) WHERE state = 'failed';    -- of the jobs that one command queued
CREATE INDEX events_of_releases ON events (at) WHERE reason_code = 'released';
