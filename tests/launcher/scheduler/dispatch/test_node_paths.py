"""Paths of this machine in an order, as the nodes of a backend see them."""

import json

import pytest

from launcher.backends.settings import BackendSettings, NodePaths

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
