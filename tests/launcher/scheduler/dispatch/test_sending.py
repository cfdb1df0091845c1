"""From a claim to an order for a pilot, with its paths as the nodes see them."""

import json
from pathlib import Path

import pytest

from launcher.backends.channel import Run
from launcher.backends.settings import Backends, BackendSettings, NodePaths
from launcher.states import State
from launcher.workers.order import OrderWriter, read_order
from launcher.workers.started_file import void_attempt
from tests.build import a_spec, job_row
from tests.launcher.scheduler.dispatch.conftest import Office

# --- from a claim to an order for a pilot


def test_attempt_lies_in_its_pilots_folder_and_the_home_has_a_link_to_it(office: Office) -> None:
    pilot = office.pilot()
    (job,) = office.queue("box", spec=a_spec("echo", "hi"))
    office.decide()
    here, there = office.home.attempt(job, 1), pilot.folder.attempt(f"{job}-1")
    assert here.folder.readlink() == there.folder
    order = read_order(there.spec.read_bytes())
    assert (order.job, order.number, order.spec.argv) == (job, 1, ("echo", "hi"))


def test_order_names_paths_as_the_nodes_see_them(office: Office) -> None:
    box = office.backends.by_name["box"]._replace(paths={"/nowhere": "/there"})
    office.backends = Backends(by_name={"box": box})
    pilot = office.pilot()
    (job,) = office.queue("box")
    office.decide()
    order = json.loads(pilot.folder.attempt(f"{job}-1").spec.read_bytes())
    assert order["spec"]["root"] == "/there"


def test_log_appears_in_its_run_by_our_hand_and_not_by_the_nodes(
    office: Office, tmp_path: Path
) -> None:
    """A node may see other paths, and what was frozen there would name its own log over a later one."""
    pilot, link = office.pilot(), tmp_path / "runs" / "a" / "train.log"
    (job,) = office.queue("box", spec=a_spec("echo", "hi", log_link=str(link)))
    office.decide()
    there = pilot.folder.attempt(f"{job}-1")
    assert read_order(there.spec.read_bytes()).spec.log_link is None
    with there.log.open("a") as log:
        log.write("hi\n")
    assert link.read_text() == "hi\n"


def test_transaction_that_comes_to_nothing_sends_nothing_and_leaves_nothing_in_the_way(
    office: Office,
) -> None:
    pilot = office.pilot()
    (job,) = office.queue("box")
    office.decide(fails=True)
    assert (pilot.orders(), office.store.scheduling.claims()) == ([], [])
    office.decide()
    assert pilot.runs() == [job]


def test_attempt_that_a_transaction_left_for_another_pilot_moves_on(office: Office) -> None:
    first = office.pilot("lp-1")
    (job,) = office.queue("box")
    office.decide(fails=True)
    office.fleet.lost["lp-1"] = "gone"
    other = office.pilot("lp-2")
    office.decide()
    assert (first.orders(), other.orders()) == ([], [Run(attempt=f"{job}-1")])
    assert office.home.attempt(job, 1).folder.readlink() == other.folder.attempt(f"{job}-1").folder


def test_order_that_was_written_ahead_for_this_machine_gives_way(office: Office) -> None:
    pilot = office.pilot()
    (job,) = office.queue("local", "box")
    ahead = office.home.attempt(job, 1)
    ahead.folder.mkdir()
    ahead.spec.write_text("{}")
    ahead.log.touch()
    office.decide()
    assert ahead.folder.readlink() == pilot.folder.attempt(f"{job}-1").folder


def test_job_that_must_never_run_twice_is_not_sent_where_an_attempt_is_not_on_record(
    office: Office,
) -> None:
    pilot = office.pilot()
    (job,) = office.queue("box", rerun="never")
    before = office.home.attempt(job, 1)
    before.folder.mkdir()
    before.spec.write_text("{}")
    before.started.write_text('{"pid": 1, "start_ticks": 1, "boot": "another"}\n')
    office.decide()
    ((claim, why),) = office.launches.hopeless()
    assert (claim.number, why.sure, pilot.orders()) == (2, False, [])
    assert str(why) == f"the queue has no record of the attempt in {before.folder}"
    attempt = pilot.folder.attempt(f"{job}-2")
    assert void_attempt(attempt)  # whoever sends it all the same starts nothing


def test_what_was_written_ahead_is_given_up_without_a_look_at_the_pilots_folder(
    office: Office,
) -> None:
    pilot = office.pilot()
    (job,) = office.queue("local", "box")
    ahead = OrderWriter(office.home)
    ahead.prepare(job, 1, "{}")
    office.decide()
    ahead.discard()
    assert pilot.folder.attempt(f"{job}-1").spec.exists()
    assert office.home.attempt(job, 1).folder.is_symlink()


def test_attempt_that_starts_here_after_all_has_its_own_folder_in_the_home(office: Office) -> None:
    pilot = office.pilot()
    (job,) = office.queue("local", "box")
    office.decide(fails=True)
    OrderWriter(office.home).write(job, 1, "{}")
    assert not office.home.attempt(job, 1).folder.is_symlink()
    assert pilot.folder.attempt(f"{job}-1").spec.read_text() != "{}"


def test_a_pilots_folder_that_is_full_keeps_no_job_from_another_place(office: Office) -> None:
    pilot = office.pilot()
    (pilot.folder.attempts).rmdir()
    pilot.folder.attempts.touch()  # no folder can be made there, whoever asks for one
    (only,) = office.queue("box")
    (either,) = office.queue("box", "local", group="other")
    reasons = office.decide(here=1)
    assert office.started_here == [either]
    assert office.store.scheduling.claims() == []
    assert job_row(office.store, only).state is State.QUEUED
    assert any("no folder for its attempt can be made" in str(why) for why in reasons.values())
    pilot.folder.attempts.unlink()
    pilot.folder.attempts.mkdir()
    office.decide()
    assert pilot.orders()[0] == Run(attempt=f"{only}-1")


def test_the_reason_of_a_start_names_node_and_number_and_no_token(office: Office) -> None:
    office.pilot("lp-1", node="n7", job="12_3")
    (job,) = office.queue("box")
    office.decide()
    why = job_row(office.store, job).why.text
    assert "node n7, job 12_3 of box" in why
    assert "lp-1" not in why


# --- paths of this machine in an order, as the nodes of a backend see them


PATHS = NodePaths(
    BackendSettings(
        name="box",
        kind="local",
        paths={"/local": "/shared", "/local/fast": "/scratch"},
        python="/opt/node/bin/python",
    )
)


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("/local", "/shared"),
        ("/local/me/lab", "/shared/me/lab"),
        ("/local/fast/x", "/scratch/x"),
        ("/localhost/x", "/localhost/x"),
        ("local/x", "local/x"),
    ],
)
def test_longest_part_that_a_path_begins_with_decides(here: str, there: str) -> None:
    assert PATHS.path(here) == there


def test_every_path_of_a_spec_is_turned_into_that_of_the_node() -> None:
    spec = {
        "root": "/local/lab",
        "argv": ["python", "--data=/local/fast/d", "lr=/local", "/local/a.py", "--n", "3"],
        "outputs": ["/local/lab/runs/x"],
        "settings": {"lr": 0.1, "folder": "/local/d"},
    }
    assert json.loads(PATHS.spec(json.dumps(spec))) == {
        "root": "/shared/lab",
        "argv": ["python", "--data=/scratch/d", "lr=/local", "/shared/a.py", "--n", "3"],
        "outputs": ["/shared/lab/runs/x"],
        "settings": {"lr": 0.1, "folder": "/shared/d"},
    }


def test_each_part_of_a_search_path_is_turned_and_the_interpreter_is_that_of_the_nodes() -> None:
    context = {
        "folder": "/local/lab",
        "interpreter": "/local/venv/bin/python",
        "environment": {"PYTHONPATH": "/local/a:/usr/b:/local/fast", "NAME": "local"},
        "umask": 18,
    }
    assert json.loads(PATHS.context(json.dumps(context))) == {
        "folder": "/shared/lab",
        "interpreter": "/opt/node/bin/python",
        "environment": {"PYTHONPATH": "/shared/a:/usr/b:/scratch", "NAME": "local"},
        "umask": 18,
    }


def test_where_nothing_differs_texts_stay_as_they_are() -> None:
    same = NodePaths(BackendSettings(name="box", kind="local"))
    assert (same.spec('{"a":  1}'), same.context('{"b":  2}')) == ('{"a":  1}', '{"b":  2}')
