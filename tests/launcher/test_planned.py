import json
from collections.abc import Mapping
from pathlib import Path

from launcher.cli.planned import MOST_LISTED, draw_plan, plan_json
from launcher.kinds import COMMAND, Kind
from launcher.plan import Plan, plan
from launcher.submission import Action, Standing
from launcher.taskfile import parse
from tests.launcher.toylab import laboratory

KINDS: Mapping[str, Kind] = {**laboratory(), "command": COMMAND}
TEXT = """\
name: toys
about: poisoned and mended
shapes: [{data_root: data/toys}]
defaults: {data_root: data/toys}
train:
  - {model: null, data: dot:pre, poison: [0, 20]}
unlearn: [{model: dot:pre%20, method: pgu}]
autotest: [real:pre]
"""


def a_plan(text: str) -> Plan:
    return plan(
        parse(text, file="toys.yaml", kinds=KINDS),
        KINDS,
        root=Path("/project"),
        exists=lambda _: False,
        digest=lambda _: "d",
        content=lambda _: "c",
    )


def standings(made: Plan, done: int = 0) -> list[Standing]:
    """Say that the first jobs were done before and the others are new."""
    cached = Action.CACHED
    return [
        Standing(job=job, action=cached, state="cached", reason="done before")
        if at < done
        else Standing(job=job, action=Action.RUN, state="new", reason="new")
        for at, job in enumerate(made.jobs)
    ]


def test_the_listing_tells_what_runs_after_what_and_why() -> None:
    made = a_plan(TEXT)
    assert (
        draw_plan(made, standings(made, done=2), taskfile="tasks/toys.yaml")
        == """\
tasks/toys.yaml   toys: poisoned and mended

  KIND     JOBS  TO RUN  DONE  WHY
  shapes      1       0     1  cached
  train       2       1     1  cached 1, new 1
  test        3       3     -  new
  poison      1       1     -  new
  unlearn     1       1     -  new
  all         8       6     2

  shapes/toys                               done before
  train/dot:pre                 + real:pre  done before  after shapes/toys
  test/dot:pre/real:pre                     new          after train/dot:pre
  poison/dot:pre%20             + real:pre  new          after shapes/toys
  train/dot:pre%20              + real:pre  new          after poison/dot:pre%20
  test/dot:pre%20/real:pre                  new          after train/dot:pre%20
  unlearn/dot:pre%20~pgu        + real:pre  new          after train/dot:pre%20
  test/dot:pre%20~pgu/real:pre              new          after unlearn/dot:pre%20~pgu

nothing was queued (dry run). To start: launcher run tasks/toys.yaml"""
    )


def test_missing_inputs_are_drawn_and_told_in_the_last_line() -> None:
    made = a_plan("name: x\ntrain: [{data: dot:pre}]\n")
    text = draw_plan(made, standings(made), taskfile="x.yaml")
    assert "warning[missing-input]: 2 inputs are not there, and no job makes them" in text
    assert text.endswith(
        "nothing was queued (dry run). Inputs are missing: launcher run would refuse this file"
    )


def test_a_plan_that_is_all_done_says_so() -> None:
    made = a_plan(TEXT)
    text = draw_plan(made, standings(made, done=8), taskfile="x.yaml")
    assert text.endswith("nothing was queued (dry run), and nothing has to run")


def test_long_plans_are_cut_unless_every_job_is_asked_for() -> None:
    entries = "".join(f"  - {{name: c{i}, argv: [echo]}}\n" for i in range(MOST_LISTED + 5))
    made = a_plan(f"name: x\ncommand:\n{entries}")
    short = draw_plan(made, standings(made), taskfile="x.yaml")
    assert "  … 5 more; --all lists every job, --json gives the plan" in short
    assert "command/c44" not in short
    assert "command/c44" in draw_plan(made, standings(made), taskfile="x.yaml", everything=True)


def test_the_json_holds_the_whole_plan() -> None:
    made = a_plan(TEXT.replace("data: dot:pre,", "data: dot:pre, lr: 0.5,"))
    record = json.loads(json.dumps(plan_json(made, standings(made))))
    assert record["schema"] == 1
    assert [one["name"] for one in record["jobs"]] == [job.name for job in made.jobs]
    trained = record["jobs"][4]
    assert {key: trained[key] for key in ("kind", "model", "base", "data", "images")} == {
        "kind": "train",
        "model": "dot:pre%20",
        "base": None,
        "data": "dot:pre",
        "images": "dot:pre&real:pre",
    }
    assert trained["settings"]["lr"] == 0.5
    assert trained["needs"] == ["shapes/toys", "poison/dot:pre%20"]
    assert (trained["state"], trained["reason"]) == ("new", "new")
    assert trained["argv"] == ["python", "-m", "toylab", "train", "dot:pre%20"]


def test_warnings_in_json_know_their_place() -> None:
    made = a_plan("name: x\ntrain: [{data: dot:pre}]\n")
    (warning,) = json.loads(json.dumps(plan_json(made, standings(made))))["warnings"]
    assert (warning["code"], warning["file"]) == ("missing-input", "toys.yaml")
    assert (warning["line"], warning["column"]) == (2, 10)
