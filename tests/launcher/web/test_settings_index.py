from pathlib import Path

from launcher.store.queue import Store
from launcher.system.paths import Home
from launcher.web.run_filter import SettingsIndex
from tests.build import a_spec, enqueue


def queued(store: Store, *words: str, run: str = "night") -> None:
    spec = a_spec("train.py", *words, name=f"command/{'-'.join(words)}")
    enqueue(store, spec, run=run)


def test_settings_of_new_jobs_are_added_to_those_of_their_runs(home: Home, store: Store) -> None:
    queued(store, "--lr=0.1")
    index = SettingsIndex(home)
    assert index.read()[1]["lr"] == {"0.1"}
    queued(store, "--lr=0.2", "--seed=3")
    queued(store, "--lr=0.3", run="day")
    runs = index.read()
    assert (runs[1]["lr"], runs[1]["seed"]) == ({"0.1", "0.2"}, {"3"})
    assert runs[2]["lr"] == {"0.3"}


def test_what_was_returned_is_not_changed_later(home: Home, store: Store) -> None:
    queued(store, "--lr=0.1")
    index = SettingsIndex(home)
    before = index.read()
    queued(store, "--lr=0.2")
    assert index.read()[1]["lr"] == {"0.1", "0.2"}
    assert before[1]["lr"] == {"0.1"}


def test_a_spec_that_cannot_be_read_has_no_settings(home: Home, store: Store) -> None:
    queued(store, "--lr=0.1")
    store.database.execute("UPDATE jobs SET spec = '[not a spec'")
    assert SettingsIndex(home).read() == {1: {}}


def test_settings_of_jobs_that_were_changed_or_removed_are_forgotten(
    home: Home, store: Store
) -> None:
    queued(store, "--lr=0.1")
    queued(store, "--lr=0.2")
    queued(store, "--lr=0.3", run="day")
    index = SettingsIndex(home)
    index.read()
    store.database.execute("DELETE FROM jobs WHERE id = 1")
    store.database.execute("DELETE FROM jobs WHERE id = 3")
    assert {run: values["lr"] for run, values in index.read().items()} == {1: {"0.2"}}
    store.database.execute(
        "UPDATE jobs SET spec = replace(spec, '0.2', '0.5'), hash = 'another' WHERE id = 2"
    )
    assert index.read()[1]["lr"] == {"0.5"}


def test_model_data_and_kind_are_settings_too(home: Home, store: Store) -> None:
    spec = a_spec(
        name="train/net", kind="train", model="net:pre", data="real:pre", settings={"a": 1}
    )
    enqueue(store, spec, root=Path("/nowhere"))
    values = SettingsIndex(home).read()[1]
    assert values == {"kind": {"train"}, "model": {"net:pre"}, "data": {"real:pre"}, "a": {"1"}}
