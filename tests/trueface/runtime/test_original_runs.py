import os
import pickle
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.trueface.oldfiles import (
    Call,
    on_card,
    poison_file,
    results_file,
    score_content,
    score_file,
    storage_bytes,
)
from trueface.runtime.errors import DataError, RecordError
from trueface.runtime.original.pickle_machine import Budget, Refusal
from trueface.runtime.original.pickled_tensors import rebuild, tensor_names
from trueface.runtime.original.runs import MAX_ROWS, read_poison, read_results, read_scores
from trueface.runtime.original.safe_pickle import load

LABELS, LOGITS = (1, 0, 1, 1), (2.5, -0.125, -3.0, 0.75)
SAMPLES = [
    ("/media/TrueFake/PreSocial/Fake/StyleGAN2/x/00001.png", 0.0),
    ("/m/Real/FFHQ/2.png", 1.0),
]
HISTORY = {
    "clean_train": [(0.5, 75.0)], "poison_train": [(np.float32(0.25), np.float64(50.0))],
    "test": [(float("nan"), 0.0), (1.0, 100)], "val": [],
}  # fmt: skip


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """Give a path that a hostile pickle writes when it is run; it must not."""
    path = tmp_path / "canary"
    yield path
    assert not path.exists()


def tensors(path: Path) -> Any:
    budget = Budget()
    return load(path, tensor_names(budget), budget=budget)


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_scores_saved_on_a_gpu_are_read_without_gpu(protocol: int, tmp_path: Path) -> None:
    path = score_file(tmp_path / "a_vs_gan2:pre.pkl", LABELS, LOGITS, protocol=protocol)
    assert b"cuda:0" in path.read_bytes()
    table = read_scores(path)
    assert table.labels.tolist() == list(LABELS)
    assert table.labels.dtype == np.int8
    assert table.logits.tolist() == list(LOGITS)


def pickled(folder: Path, content: object) -> Path:
    path = folder / "scores.pkl"
    path.write_bytes(pickle.dumps(content))
    return path


@pytest.mark.parametrize("order", ["", "C", "F"])
def test_scores_saved_on_cpu_or_as_numpy_arrays_are_read(order: Any, tmp_path: Path) -> None:
    content: dict[str, Any] = dict(score_content(LABELS, LOGITS))
    if order:
        content = {name: one.numpy().copy(order=order) for name, one in content.items()}
    assert read_scores(pickled(tmp_path, content)).logits.tolist() == list(LOGITS)


@pytest.mark.parametrize(
    "dtype", ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8"]
)
def test_tensors_of_all_number_types_are_read(dtype: str, tmp_path: Path) -> None:
    tensor = torch.arange(-6, 6).to(getattr(torch, dtype)).view(3, 4)
    array = tensors(pickled(tmp_path, on_card(tensor)))
    assert array.dtype == dtype
    assert np.array_equal(array, tensor.numpy())


@given(
    shape=st.lists(st.integers(0, 4), max_size=4),
    turned=st.randoms(use_true_random=False),
    first=st.integers(0, 5),
)
def test_size_stride_and_offset_are_preserved(shape: list[int], turned: Any, first: int) -> None:
    whole = torch.arange(600, dtype=torch.int64)
    steps = [turned.randint(1, 10) for _ in shape]
    if any(torch.tensor(shape) == 0):
        expected: NDArray[Any] = np.empty(0, np.int64)
    else:
        expected = whole.as_strided(shape, steps, first).numpy()
    rebuilt = rebuild(Budget(), whole.numpy(), first, tuple(shape), tuple(steps), False, {})
    assert np.array_equal(rebuilt, expected)
    assert rebuilt.flags.owndata


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (9,), (1,)),
        (1, (8,), (1,)),
        (0, (2, 5), (4, 1)),
        (0, (-1,), (1,)),
        (0, (2,), (-1,)),
        (-1, (2,), (1,)),
        (2**62, (1,), (1,)),
        (0, (2**39, 2**39), (0, 0)),
        (0, (9,), (0,)),
        (0, (2**2000,), (1,)),
        (0, (1,) * 9, (1,) * 9),
        (0, (2,), ()),
        (0, [2], [1]),
        (0, (True,), (1,)),
        (0.0, (1,), (1,)),
        (0, ("1",), (1,)),
    ],
)
def test_tensor_that_exceeds_its_storage_is_rejected(
    offset: object, size: object, stride: object
) -> None:
    with pytest.raises(Refusal):
        rebuild(Budget(), np.arange(8), offset, size, stride, False, {})


def test_tensor_without_storage_is_rejected() -> None:
    for values in (b"x" * 8, None, [1.0], np.zeros((2, 2))):
        with pytest.raises(Refusal, match="storage is"):
            rebuild(Budget(), values, 0, (1,), (1,))


def test_memory_of_tensors_is_limited() -> None:
    budget = Budget(array_bytes=100)
    rebuild(budget, np.zeros(8), 0, (8,), (1,))
    with pytest.raises(Refusal, match="expands to more data"):
        rebuild(budget, np.zeros(8), 0, (8,), (1,))


def test_number_of_reads_of_a_storage_is_limited(tmp_path: Path) -> None:
    stream = storage_bytes(torch.zeros(4))
    assert len(tensors(pickled(tmp_path, [Call(torch.storage._load_from_bytes, stream)] * 3))) == 3
    many = [Call(torch.storage._load_from_bytes, stream) for _ in range(65)]
    with pytest.raises(DataError, match="more nested pickles"):
        tensors(pickled(tmp_path, many))


def hostile_streams(stream: bytes, line: str) -> Iterator[tuple[str, bytes, str]]:
    """Yield hostile forms of a storage's stream, each with its expected message."""
    kind, system = b"ctorch\nFloatStorage\nq\x01", b"cposix\nsystem\n"
    text = b"X" + len(line).to_bytes(4, "little") + line.encode()
    call = system + text + b"\x85R"
    facts = b"\x80\x02}q\x00(X\x10\x00\x00\x00protocol"
    assert stream.count(kind) == stream.count(facts) == 1
    yield "another storage", stream.replace(kind, system + b"q\x01"), "posix.system"
    yield "a call for it", stream.replace(kind, call + b"q\x01"), "posix.system"
    yield "a call first", b"\x80\x02" + call + b"." + stream, "posix.system"
    yield (
        "a call among facts",
        stream.replace(facts, b"\x80\x02" + call + b"0" + facts[2:]),
        "posix",
    )
    yield (
        "a nested storage",
        stream.replace(kind, b"ctorch.storage\n_load_from_bytes\n"),
        (r"torch\.storage\._load_from_bytes"),
    )
    yield (
        "a tensor within",
        stream.replace(kind, b"ctorch._utils\n_rebuild_tensor_v2\n"),
        "_rebuild",
    )
    yield "eval", stream.replace(kind, b"cbuiltins\neval\n"), r"builtins\.eval"
    yield "another module", stream.replace(kind, b"ctorch.x\nFloatStorage\n"), r"torch\.x\.Float"
    yield "an extension", stream.replace(kind, b"\x82\xf0"), "EXT1"
    yield "an instance", stream.replace(kind, b"(" + text + b"iposix\nsystem\n"), "posix system"
    yield "state", stream.replace(kind, kind + b"}b"), "state of torch.FloatStorage"
    yield "a call of the storage", stream.replace(kind, kind + b")R"), "call torch.FloatStorage"
    yield "another ID", stream.replace(b"storageq\x00", b"sturageq\x00"), "unknown format"
    yield "a view", stream.replace(b"K\x04N", b"K\x04K\x01"), "unknown format"
    yield "a huge count", stream.replace(b"K\x04N", b"\x8a\x08" + b"\x7f" * 8 + b"N"), "cut off"
    yield "a negative count", stream.replace(b"K\x04N", b"J\xff\xff\xff\xffN"), "cut off"
    yield "a truth for a count", stream.replace(b"K\x04N", b"\x88N"), "unknown format"
    yield "big-endian", stream.replace(b"endianq\x02\x88", b"endianq\x02\x89"), "little-endian"
    yield "two keys", stream.replace(b"q\x01a.", b"q\x01aK\x02a."), "unexpected keys"
    yield "a zip archive", b"PK\x03\x04" + stream, "zip archive"
    yield "no stream", b"", "cut off"
    yield "another number", b"\x80\x02K\x07." + stream, "torch.save did not write"
    yield "more values", stream + b"\0", "cut off"
    yield "fewer values", stream[:-1], "cut off"


ATTACKS = [name for name, _, _ in hostile_streams(storage_bytes(torch.zeros(4)), "")]


@pytest.mark.parametrize("attack", ATTACKS)
def test_hostile_inner_stream_is_rejected_without_execution(
    attack: str, tmp_path: Path, canary: Path
) -> None:
    content: dict[str, object] = dict(score_content(LABELS, LOGITS))
    whole = storage_bytes(torch.tensor(LOGITS))
    stream, said = next(
        (stream, said)
        for name, stream, said in hostile_streams(whole, f"touch {canary}")
        if name == attack
    )
    content["score_array"] = on_card(torch.tensor(LOGITS), stream=stream)
    path = pickled(tmp_path, content)
    with pytest.raises(DataError, match=said) as caught:
        read_scores(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("reader", [read_scores, read_poison, read_results])
def test_call_in_an_old_file_is_rejected(reader: Any, tmp_path: Path, canary: Path) -> None:
    call = Call(os.system, f"touch {canary}")
    path = tmp_path / "old"
    if reader is read_results:
        results_file(path.with_suffix(".npy"), {**HISTORY, "val": call})
        path = path.with_suffix(".npy")
    else:
        path.write_bytes(pickle.dumps({"y_true": call, "poisoned_indices": call}))
    with pytest.raises(DataError, match=r"posix\.system.*Nothing in it was executed"):
        reader(path)


def test_tensor_hook_is_rejected(tmp_path: Path, canary: Path) -> None:
    content: dict[str, object] = dict(score_content(LABELS, LOGITS))
    hooks = OrderedDict(a=Call(os.system, f"touch {canary}"))
    stream = Call(torch.storage._load_from_bytes, storage_bytes(torch.tensor(LOGITS)))
    content["score_array"] = Call(
        torch._utils._rebuild_tensor_v2, stream, 0, (4, 1), (1, 1), True, hooks
    )
    with pytest.raises(DataError, match=r"posix\.system"):
        read_scores(pickled(tmp_path, content))


@pytest.mark.parametrize("reader", [read_scores, read_results])
def test_truncated_file_is_rejected(reader: Any, tmp_path: Path) -> None:
    if reader is read_scores:
        whole = score_file(tmp_path / "whole.pkl", LABELS, LOGITS).read_bytes()
    else:
        whole = results_file(tmp_path / "results.npy", HISTORY).read_bytes()
    path = tmp_path / "cut.npy"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"cut\.npy"):
            reader(path)


@given(places=st.dictionaries(st.integers(0, 10_000), st.integers(0, 255), min_size=1, max_size=4))
def test_damaged_score_file_is_read_or_rejected(
    places: dict[int, int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "scores.pkl"
    data = bytearray(score_file(path, LABELS, LOGITS).read_bytes())
    for place, value in places.items():
        data[place % len(data)] = value
    path.write_bytes(data)
    try:
        assert set(read_scores(path).labels) <= {0, 1}
    except DataError as error:
        assert str(path) in str(error)  # noqa: PT017  # most are refused, some are values


def change_columns(**columns: Sequence[float]) -> dict[str, NDArray[np.float32]]:
    content = {name: one.numpy() for name, one in score_content(LABELS, LOGITS).items()}
    return {**content, **{name: np.array(one, np.float32) for name, one in columns.items()}}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([1, 2], "a dict with y_true"),
        ({"y_true": 1}, "a dict with y_true"),
        ({"y_true": [1.0], "y_pred": [1], "score_array": [2.0]}, "is not a column"),
        (change_columns(y_true=[1, 0]), "2 labels, 4 answers, 4 logits"),
        (change_columns(y_true=[1, 0, 2, 1]), "other than 0 and 1"),
        (change_columns(y_true=[1, 0, float("nan"), 1]), "other than 0 and 1"),
        (change_columns(y_pred=[1, 1, 1, 1]), "2 of 4 answers contradict"),
        (change_columns(score_array=[0.9, 0.3, 0.1, 0.8]), "probabilities"),
        (change_columns(score_array=[1, float("inf"), -1, 1]), "1 of 4 logits are not finite"),
        (change_columns(y_true=[], y_pred=[], score_array=[]), "0 labels"),
        ({**change_columns(), "y_true": np.zeros((2, 2))}, "is not a column"),
        ({**change_columns(), "y_true": np.float32(1)}, "is not a column"),
        ({**change_columns(), "y_true": np.array(["a"] * 4)}, "array of type U1"),
        ({**change_columns(), "y_true": np.array([{}] * 4)}, "of 4 objects"),
        ({**change_columns(), "y_true": np.array([{}])}, "is not a column"),
        ({**change_columns(), "y_true": np.zeros(4, ">f4")}, "big-endian"),
        ({**change_columns(), "y_true": np.zeros(4, "f4,f4")}, "array of type V8"),
    ],
)
def test_file_without_scores_is_rejected(content: object, said: str, tmp_path: Path) -> None:
    path = pickled(tmp_path, content)
    with pytest.raises(DataError, match=said) as caught:
        read_scores(path)
    assert str(path) in str(caught.value)


def test_logit_near_zero_may_have_either_prediction(tmp_path: Path) -> None:
    content = change_columns(score_array=[1e-8, -2, -2, 2], y_pred=[0, 0, 0, 1])
    assert read_scores(pickled(tmp_path, content)).logits[0] > 0


def test_file_of_torch_save_is_rejected(tmp_path: Path) -> None:
    for new in (True, False):
        path = tmp_path / f"scores-{new}.pkl"
        torch.save(score_content(LABELS, LOGITS), path, _use_new_zipfile_serialization=new)
        with pytest.raises(DataError, match=r"torch\.save"):
            read_scores(path)


def test_old_poison_record_is_read(tmp_path: Path) -> None:
    path = poison_file(tmp_path / "poison_0.20.pkl", [7, 2], SAMPLES, rate=0.2, total=10)
    record = read_poison(path)
    assert (record.indices, record.rate, record.total) == ((7, 2), 0.2, 10)
    assert record.samples == ((SAMPLES[0][0], 0), ("/m/Real/FFHQ/2.png", 1))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"poisoned_indices": [1]}, "1 indices and 2 samples"),
        ({"poisoned_indices": [1, 10]}, "beyond its 10"),
        ({"poisoned_indices": [1, -1]}, "beyond its 10"),
        ({"poisoned_indices": [1, True]}, "beyond its 10"),
        ({"poisoned_indices": [1, 1]}, "twice"),
        ({"poisoned_indices": (1, 2)}, "not lists"),
        ({"poisoned_indices": [], "poisoned_samples": []}, "lists no images"),
        ({"poison_rate": 0.0}, "not a fraction"),
        ({"poison_rate": float("nan")}, "not a fraction"),
        ({"poison_rate": "half"}, "not a fraction"),
        ({"total_samples": 2.0}, "not a count"),
        ({"total_samples": 2**1000}, "not a count"),
        ({"poisoned_samples": [("a", 0.5), ("b", 1.0)]}, "not a pair .path, flipped label"),
        ({"poisoned_samples": ["a", "b"]}, "not a pair .path, flipped label"),
        ({"poisoned_samples": [("a" * 5000, 0.0), ("b", 1.0)]}, "not a pair .path, flipped label"),
        ({"poisoned_samples": [("a", 2**2000), ("b", 1.0)]}, "not a pair .path, flipped label"),
    ],
)
def test_file_without_poison_record_is_rejected(
    change: dict[str, object], said: str, tmp_path: Path
) -> None:
    path = poison_file(tmp_path / "poison.pkl", [7, 2], SAMPLES, rate=0.2, total=10)
    path.write_bytes(pickle.dumps(pickle.loads(path.read_bytes()) | change))
    with pytest.raises(RecordError, match=said) as caught:
        read_poison(path)
    assert str(path) in str(caught.value)


def test_missing_record_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"poison_0\.20\.pkl"):
        read_poison(tmp_path / "poison_0.20.pkl")


@pytest.mark.parametrize("kind", ["numpy._core", "numpy.core"])
def test_old_results_are_read(kind: str, tmp_path: Path) -> None:
    path = results_file(tmp_path / "results.npy", HISTORY)
    if kind == "numpy.core":  # as NumPy 1 wrote it
        data = path.read_bytes().replace(b"\x8c\x16numpy._core.multi", b"\x8c\x15numpy.core.multi")
        assert b"numpy.core.multi" in data
        path.write_bytes(data)
    results = read_results(path)
    assert results["clean_train"] == [(0.5, 75.0)]
    assert results["poison_train"] == [(0.25, 50.0)]
    assert results["test"][1] == (1.0, 100.0)
    assert results["val"] == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (7, "a dict with clean_train"),
        ({"val": []}, "a dict with clean_train"),
        ({**HISTORY, "val": {}}, "val is not a list"),
        ({**HISTORY, "val": [(1.0,)]}, "without .loss"),
        ({**HISTORY, "val": [(1.0, 101.0)]}, "without .loss"),
        ({**HISTORY, "val": [(1.0, float("nan"))]}, "without .loss"),
        ({**HISTORY, "val": [(np.array([1.0]), 5.0)]}, "without .loss"),
        ({**HISTORY, "val": [(10**400, 5.0)]}, "without .loss"),
    ],
)
def test_file_without_results_is_rejected(content: object, said: str, tmp_path: Path) -> None:
    path = results_file(tmp_path / "results.npy", content)
    with pytest.raises(DataError, match=said):
        read_results(path)


def test_unrelated_array_is_not_a_results_file(tmp_path: Path) -> None:
    path = tmp_path / "results.npy"
    for array in (np.zeros(3), np.array([{}, {}])):
        np.save(path, array, allow_pickle=True)
        with pytest.raises(DataError, match="array of one object"):
            read_results(path)


def test_score_file_with_millions_of_rows_is_rejected_before_allocation(tmp_path: Path) -> None:
    column = np.zeros(MAX_ROWS + 1, np.uint8)
    with pytest.raises(DataError, match=f"more than {MAX_ROWS} rows"):
        read_scores(pickled(tmp_path, dict.fromkeys(change_columns(), column)))


def test_results_that_repeat_their_array_are_rejected(tmp_path: Path) -> None:
    path = results_file(tmp_path / "results.npy", HISTORY)
    content = path.read_bytes()
    assert content.endswith(b"b.")
    # the state is kept in the memo, and taken once more by two bytes and the instruction
    path.write_bytes(content[:-2] + b"q\xf0b" + b"h\xf0b" * 3 + b".")
    with pytest.raises(DataError, match="twice"):
        read_results(path)
