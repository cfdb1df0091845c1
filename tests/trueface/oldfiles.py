"""Files in the format of the original system: pickles of CUDA tensors, written without a GPU."""

import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

CPU, CUDA = (f"{chr(len(name))}\0\0\0{name}".encode() for name in ("cpu", "cuda:0"))


class Call:
    """An object whose pickle becomes a call of `function` when it is loaded."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.function, self.arguments


def storage_bytes(tensor: Tensor, *, device: bytes = CUDA) -> bytes:
    """Return what torch writes for the storage of a tensor on that device."""
    written = _bytes_of(pickle.dumps(tensor, protocol=4))
    assert written.count(CPU) == 1
    return written.replace(CPU, device)


def on_card(tensor: Tensor, *, stream: bytes | None = None) -> Call:
    """Return an object that is pickled like `tensor` on a GPU."""
    return Call(
        torch._utils._rebuild_tensor_v2,
        Call(torch.storage._load_from_bytes, storage_bytes(tensor) if stream is None else stream),
        tensor.storage_offset(),
        tuple(tensor.shape),
        tensor.stride(),
        False,
        OrderedDict(),
    )


def score_content(labels: Sequence[int], logits: Sequence[float]) -> dict[str, Tensor]:
    """Return what the original keeps of a test, as tensors of the CPU."""
    answers = torch.tensor(logits, dtype=torch.float32).view(-1, 1)
    return {
        "y_true": torch.tensor(labels, dtype=torch.float32).view(-1, 1),
        "y_pred": answers.sigmoid().round().to(torch.int64),
        "score_array": answers,
    }


def score_file(
    path: Path, labels: Sequence[int], logits: Sequence[float], *, protocol: int = 4
) -> Path:
    """Write an old score file."""
    content = {name: on_card(one) for name, one in score_content(labels, logits).items()}
    path.write_bytes(pickle.dumps(content, protocol))
    return path


def poison_file(
    path: Path,
    indices: Sequence[int],
    samples: Sequence[tuple[str, float]],
    *,
    rate: float,
    total: int,
) -> Path:
    """Write an old poison record."""
    content = {
        "poisoned_indices": list(indices),
        "poison_rate": rate,
        "total_samples": total,
        "poisoned_samples": list(samples),
    }
    path.write_bytes(pickle.dumps(content))
    return path


def results_file(path: Path, content: object) -> Path:
    """Write an old results.npy."""
    array = np.empty((), object)
    array[()] = content
    np.save(path, array, allow_pickle=True)
    return path


def _bytes_of(data: bytes) -> bytes:
    found = [one for _, one, _ in pickletools.genops(data) if isinstance(one, bytes)]
    assert len(found) == 1
    return found[0]
