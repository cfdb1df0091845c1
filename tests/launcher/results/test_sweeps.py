from launcher.results.rows import swept
from tests.build import a_spec
from tests.launcher.toylab import laboratory


def test_settings_are_swept_in_which_jobs_of_a_kind_differ_and_that_count() -> None:
    jobs = [
        a_spec(kind="train", settings={"lr": lr, "epochs": 3, "threads": threads})
        for lr, threads in ((0.1, 1), (0.2, 2), (0.1, 3))
    ]
    jobs += [a_spec(kind="test", settings={"crops": 1, "lr": 7})]
    assert swept(jobs, laboratory()) == {"train": ("lr",), "test": ()}
