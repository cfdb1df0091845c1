-- Schema 6: less is written for a claim and for an end.

-- The running jobs tell which attempts have not ended.
DROP INDEX attempts_open;

-- One statement instead of two.
DROP TRIGGER count_move;
CREATE TRIGGER count_move AFTER UPDATE OF state ON jobs WHEN old.state <> new.state BEGIN
    INSERT INTO counters VALUES (new.run, old.state, -1), (new.run, new.state, 1)
        ON CONFLICT (run, state) DO UPDATE SET n = n + excluded.n;
END;
