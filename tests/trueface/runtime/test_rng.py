from trueface.runtime.rng import derive, numpy_stream


def test_the_same_name_and_seed_give_the_same_numbers() -> None:
    assert numpy_stream("order", 1).random() == numpy_stream("order", 1).random()


def test_another_name_or_seed_gives_other_numbers() -> None:
    seeds = {derive(name, seed) for name in ("order", "augment", "weights") for seed in range(10)}
    assert len(seeds) == 30


def test_a_stream_is_the_same_on_every_machine_and_in_every_version() -> None:
    assert derive("weights", 42) == 1218831237610215275
