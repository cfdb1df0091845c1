"""Changes of each version to the queue's database, in order; a step is never edited afterwards.

A step contains the data formats of its time and imports nothing of the launcher, whose code changes
later. Its effect on a database must not depend on the date of the migration.
"""

import json
import re
import sqlite3
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

APPLICATION_ID = 0x4C41554E  # "LAUN": marks a database of this program

Step = Callable[[sqlite3.Connection], None]
_RESOURCES_2: Mapping[str, Any] = {
    "cpus": 1,
    "min_vram": None,
    "device": "auto",
    "accelerated": False,
    "ram": None,
    "gpus": 1,
    "exclusive": False,
}
# what does not follow from an attempt's end: events of one moment may be of the next attempt
_NO_END_4 = frozenset({"new", "changed", "retried", "held", "released", "started", "need-failed"})
_PLAIN_4: Mapping[str, str] = {
    "new": "new",
    "held by its owner": "held",
    "asked to run again; held as it was before": "held",
    "asked to run again": "retried",
    "released": "released",
    "was not started": "not-started",
}
_BEGINNINGS_4: tuple[tuple[str, str], ...] = (
    ("out of memory, ", "out-of-memory"),
    ("reached its time limit of ", "time-limit"),
    ("could not be started: ", "not-started"),
    ("this machine could not start it: ", "cannot-start"),
    ("set aside unread: ", "unreadable"),
    ("lost (", "lost"),
    ("lost 5 times, the last time: ", "lost"),
    ("stopped by ", "stopped"),
    ("stopped, ", "stopped"),
)
_EXCUSED_4 = "; queued again"
_NEVER_TWICE_4 = ", and it must never run twice"
_AGAIN_4 = re.compile(
    r"(?P<before>; queued again)$|, runs again$|, goes on later$"  # prose: ok, stored by schema 3
)
_TIMES_4 = re.compile(r"; queued again(, \d+ times by now)$")
_RETRY_4 = re.compile(r"retry (\d+) of (\d+) after [^:]+: ")
_WHOSE_4 = re.compile(r"out of memory, (?:(its own)|(a neighbour's)|(the machine's))")
_EXIT_CODE_4 = re.compile(r"ended with exit code \d+: $")
_EXCEPTION_4 = re.compile(
    r"(?<![\w.])(?:[a-z_]\w*\.)*([A-Z]\w*(?:Error|Exception|Exit|Interrupt))(?=:|$)"
)
_FAULT_4 = re.compile(r"(?:.*: )?(cuda:\d+(?::\d+)? .+)", re.DOTALL)


def _first(connection: sqlite3.Connection) -> None:
    _run(connection, "1.sql")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def _second(connection: sqlite3.Connection) -> None:
    _run(connection, "2.sql")
    _fill_lanes(connection)


def _fourth(connection: sqlite3.Connection) -> None:
    _run(connection, "4.sql")
    _code_reasons(connection)


def _fill_lanes(connection: sqlite3.Connection) -> None:
    """Give each job its lane and its rank, as the second schema has them."""
    jobs = connection.execute(
        "SELECT jobs.id, jobs.spec, jobs.submitted, jobs.priority, contexts.body FROM jobs"
        " JOIN contexts ON contexts.id = jobs.context WHERE jobs.lane = 0"
    ).fetchall()
    for number, spec, submitted, priority, context in jobs:
        try:
            key = _lane_key(json.loads(spec), json.loads(context))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # without a lane it does not start, and the scheduler says why
        connection.execute("INSERT OR IGNORE INTO lanes (key) VALUES (?)", (key,))
        connection.execute(
            "UPDATE jobs SET rank = ?, lane = (SELECT id FROM lanes WHERE key = ?) WHERE id = ?",
            (submitted - priority * 86_400.0, key, number),  # a point of priority is worth a day
        )


def _lane_key(spec: Mapping[str, Any], context: Mapping[str, Any]) -> str:
    asked = spec.get("resources", {})
    resources = {name: asked.get(name, default) for name, default in _RESOURCES_2.items()}
    breed: list[Any] = ["", [], ""]
    if spec.get("entry"):
        preload = [*spec.get("preload", ()), "launcher.kinds"]
        breed = [context["interpreter"], preload, context["environment"].get("PYTHONPATH", "")]
    record = {
        "group": spec.get("terms", {}).get("group", ""),
        "resources": resources,
        "breed": breed,
    }
    if _may_need_gpu_2(resources):
        if spec.get("signature"):
            record["signature"] = spec["signature"]
        shown = context["environment"].get("CUDA_VISIBLE_DEVICES")
        if shown is not None:
            record["visible"] = [device.strip() for device in shown.split(",") if device.strip()]
    return json.dumps(record, sort_keys=True)


def _may_need_gpu_2(resources: Mapping[str, Any]) -> bool:
    if resources["device"] != "auto":
        return bool(resources["device"] != "cpu")
    prefers_gpu = resources["accelerated"] or resources["min_vram"] is not None
    return bool(prefers_gpu or resources["gpus"] > 1)


# --- the fourth: codes of reasons, read from the sentences of schema 3


def _code_reasons(connection: sqlite3.Connection) -> None:
    """Give each reason its code and its data, as far as its text contains them."""
    connection.create_function("reason_code_4", 2, _reason_code_4, deterministic=True)
    connection.create_function("reason_data_4", 2, _reason_data_4, deterministic=True)
    for table in ("events", "jobs"):
        connection.execute(
            f"UPDATE {table} SET reason_code = CASE state WHEN 'done' THEN 'done'"
            " WHEN 'running' THEN 'started' WHEN 'cancelled' THEN 'cancelled'"
            " ELSE reason_code_4(state, CAST(reason AS BLOB)) END, reason_data ="
            " CASE WHEN state IN ('failed', 'queued')"
            " THEN reason_data_4(state, CAST(reason AS BLOB)) END"
        )
    connection.execute("UPDATE lanes SET reason_code = 'no-room' WHERE reason <> ''")
    _code_attempts(connection)


def _code_attempts(connection: sqlite3.Connection) -> None:
    """Give each attempt that has ended the code of what became of its job then."""
    begun = '{"schema": 1, "ending": "done"'  # to read all of such a record takes long
    connection.execute(
        "UPDATE attempts SET reason_code = 'done'"
        f" WHERE substr(outcome, 1, {len(begun)}) = '{begun}'"
    )
    rows = connection.execute(
        "SELECT of, number, CAST(outcome AS BLOB), events.reason_code, events.reason_data FROM ("
        " SELECT job AS of, number, outcome, (SELECT min(id) FROM events WHERE events.job = attempts.job"
        " AND id > (SELECT max(id) FROM events WHERE events.job = attempts.job"
        " AND events.at = attempts.claimed AND events.state = 'running')) AS next"
        " FROM attempts WHERE outcome IS NOT NULL AND reason_code = ''"
        ") LEFT JOIN events ON events.id = next"
    ).fetchall()
    for job, number, outcome, code, data in rows:
        if code is None or code in _NO_END_4:
            code, data = "", None
        connection.execute(
            "UPDATE attempts SET reason_code = ?, reason_data = ? WHERE job = ? AND number = ?",
            (*_attempt_reason_4(outcome, code, data), job, number),
        )


def _reason_code_4(state: str, text: bytes) -> str:
    """Return what a reason of schema 3 says happened."""
    reason = text.decode(errors="replace")
    if state == "skipped":
        return "need-failed"
    if state == "held":
        return _PLAIN_4.get(reason, "changed")
    if reason in _PLAIN_4:
        return _PLAIN_4[reason]
    retry = _RETRY_4.match(reason)
    error = reason[retry.end() :] if retry else reason
    for beginning, code in _BEGINNINGS_4:
        if error.startswith(beginning):
            return code
    if not retry and _fault_4(reason):
        return "gpu-fault"
    # of a queued job that was not tried again: a task file, which says what is another now
    return "failed" if retry or state == "failed" else "changed"


def _reason_data_4(state: str, text: bytes) -> str | None:
    """Return the data of a reason of schema 3 as JSON; None where it has none."""
    reason = text.decode(errors="replace")
    code = _reason_code_4(state, text)
    data: dict[str, Any] = {}
    if retry := _RETRY_4.match(reason):
        data |= {"retry": int(retry[1]), "retries": int(retry[2])}
    if whose := _WHOSE_4.match(reason):
        data["whose"] = next(
            name
            for name, words in zip(("ours", "neighbour", "machine"), whose.groups(), strict=True)
            if words
        )
    if code == "gpu-fault":
        data["fault"] = _fault_4(reason)
    if code not in {"changed", "unreadable"} and (short := _short_4(reason)):
        data["short"] = short
    if code in {"gpu-fault", "out-of-memory", "lost", "stopped", "not-started"} and (
        state == "queued" and not retry
    ):
        data["requeued"] = True
    return json.dumps(data) if data else None


def _fault_4(reason: str) -> str:
    """Return which GPU had failed and how, '' if a reason names none."""
    for end in (_TIMES_4, _AGAIN_4):
        if (cut := end.search(reason)) and cut[0].startswith(_EXCUSED_4):
            fault = _FAULT_4.fullmatch(reason[: cut.start()])
            return fault[1] if fault else ""
    if reason.endswith(_NEVER_TWICE_4):
        fault = _FAULT_4.fullmatch(reason.removesuffix(_NEVER_TWICE_4))
        return fault[1] if fault else ""
    return ""


def _short_4(reason: str) -> str:
    """Return a reason as a narrow screen shows it: an exception without what stands before it."""
    line = _AGAIN_4.sub("", reason.partition("\n")[0])
    line = _TIMES_4.sub(r"\1", line)
    name = _EXCEPTION_4.search(line)
    return _EXIT_CODE_4.sub("", line[: name.start()]) + line[name.start(1) :] if name else ""


def _attempt_reason_4(outcome: bytes, code: str, data: str | None) -> tuple[str, str | None]:
    """Return an attempt's code and data: from its record, and from the event that followed it."""
    try:
        record = json.loads(outcome)
        ending = record.get("ending")
    except (ValueError, AttributeError):
        return code or "unknown", data
    if code in {"cancelled", "gpu-fault"}:
        return code, data
    kept = json.loads(data) if data and code else {}
    if ending == "out-of-memory":
        kept["where"] = record.get("where")
        return "out-of-memory", json.dumps(kept)
    error = str(record.get("error") or "")
    if ending == "failed" and error.startswith("reached its time limit"):
        return "time-limit", json.dumps(kept) if kept else None
    plain = {"void": "not-started", "failed": "failed", "lost": "lost", "stopped": "stopped"}
    return plain.get(str(ending), "unknown"), json.dumps(kept) if kept else None


def _run(connection: sqlite3.Connection, script: str) -> None:
    text = Path(__file__).with_name(script).read_text(encoding="utf-8")
    pending = ""
    for line in text.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            connection.execute(pending)
            pending = ""


def _only(script: str) -> Step:
    return partial(_run, script=script)


STEPS: tuple[Step, ...] = (
    _first,
    _second,
    _only("3.sql"),
    _fourth,
    *map(_only, ("5.sql", "6.sql", "7.sql", "8.sql", "9.sql", "10.sql", "11.sql", "12.sql")),
)
