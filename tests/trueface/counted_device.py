"""A device that counts how often the program waits for it, on a computer without a GPU.

A tensor of the device holds a tensor of the CPU, which computes, so results are those of the CPU. It calls
itself a tensor of torch's "meta" device: nothing gets its numbers without a copy that is counted here.

The program waits in the same cases as with a GPU:

- It reads a value.
- The shape of a result depends on values.
- It copies to or from the device without `non_blocking`.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Self
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_unflatten

DEVICE = "meta"
VALUES = {"_local_scalar_dense", "equal", "allclose"}  # operations that return a value
# operations whose result has a shape that depends on values
SHAPES = {"nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "bincount"}
COPIES = {"_to_copy", "copy_"}
autocast, tensor = torch.autocast, torch.tensor


@dataclass(slots=True)
class Counts:
    """The waits of the program, and the work of the device."""

    # by the line of trueface, "folder/module.py:line"
    waits: Counter[str] = field(default_factory=Counter)
    kernels: int = 0  # operations that are neither views nor copies


@contextmanager
def counted_device() -> Iterator[Counts]:
    """Make the device available in the block, under the name `DEVICE`; yield what is counted."""
    counts = Counts()
    fused = "torch.optim.optimizer._get_fused_kernels_supported_devices"
    with (
        _Mode(counts),
        # parts of torch that do not pass through a dispatch mode, or do not accept the device
        patch.object(torch, "Generator", _Generator),
        patch.object(torch, "autocast", _autocast),
        patch.object(torch, "tensor", _tensor),
        patch(fused, lambda: ["cpu", DEVICE]),
    ):
        yield counts


class _DeviceTensor(Tensor):
    held: Tensor  # on the CPU

    @staticmethod
    def __new__(cls, held: Tensor) -> Self:
        made: Self = Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=torch.device(DEVICE),
        )
        made.held = held
        return made

    def tolist(self) -> Any:
        """Return the numbers. Torch itself does not return those of a subclass."""
        return self.cpu().tolist()

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch: a static method
        cls, func: Any, _: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _run(func, args, kwargs or {}, Counts())


class _Mode(TorchDispatchMode):
    def __init__(self, counts: Counts) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch
        self._counts = counts

    def __torch_dispatch__(
        self, func: Any, _: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        with self:  # in inference mode torch passes operations that consist of others
            done = func.decompose(*args, **kwargs)
        return _run(func, args, kwargs, self._counts) if done is NotImplemented else done


class _Generator(torch.Generator):
    def __new__(cls, device: Any = "cpu") -> Self:
        on_cpu = "cpu" if _is_device(device) else device
        return super().__new__(cls, on_cpu)  # type: ignore[call-arg]  # torch


def _autocast(kind: str, **given: Any) -> Any:
    return autocast("cpu" if _is_device(kind) else kind, **given)


def _tensor(values: Any, *, device: Any = None, **given: Any) -> Tensor:
    made = tensor(values, **given)
    return made if device is None else made.to(device)


def _run(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], counts: Counts) -> Any:
    """Run an operation of torch on the tensors of the CPU; count what it is for the device."""
    leaves, structure = tree_flatten((tuple(args), dict(kwargs)))
    on_device = [leaf for leaf in leaves if isinstance(leaf, _DeviceTensor)]
    to_device = _is_device(kwargs.get("device"))
    if not on_device and not to_device:
        return func(*args, **kwargs)
    name = func._schema.name.removeprefix("aten::")
    to_cpu = name in COPIES and not _is_device(
        args[0].device if name == "copy_" else kwargs.get("device", DEVICE)
    )
    if name in COPIES:
        non_blocking = kwargs.get("non_blocking", name == "copy_" and True in args[2:])
        waits = not non_blocking and (
            to_cpu or not all(map(_is_on_device, args[: 1 + (name == "copy_")]))
        )
    else:
        waits = name in VALUES | SHAPES or _indexes(name, leaves)
        counts.kernels += not func.is_view
    if waits:
        counts.waits[_place()] += 1
    plain = [leaf.held if isinstance(leaf, _DeviceTensor) else leaf for leaf in leaves]
    inner_args, inner_kwargs = tree_unflatten(plain, structure)
    if to_device:
        inner_kwargs["device"] = "cpu"
    result = func(*inner_args, **inner_kwargs)
    if to_cpu:
        return args[0] if name == "copy_" else result
    owners = {
        id(leaf.held): leaf for leaf in on_device
    }  # owners of tensors that were changed in place
    values, structure = tree_flatten(result)
    wrapped = [_wrap(value, owners) if isinstance(value, Tensor) else value for value in values]
    return tree_unflatten(wrapped, structure)


def _wrap(value: Tensor, owners: Mapping[int, _DeviceTensor]) -> _DeviceTensor:
    return owners[id(value)] if id(value) in owners else _DeviceTensor(value)


def _indexes(name: str, leaves: Sequence[Any]) -> bool:
    """Return whether an operation indexes by a mask or by a tensor of the CPU.

    Raises:
        RuntimeError: another operation got tensors of the CPU and of the device.
    """
    others = [leaf for leaf in leaves if isinstance(leaf, Tensor) and not _is_on_device(leaf)]
    sent = any(leaf.ndim for leaf in others)
    if not name.startswith("index"):
        if sent:
            raise RuntimeError(f"{name} got tensors of the CPU and of the device")
        return False
    return sent or any(isinstance(leaf, Tensor) and leaf.dtype == torch.bool for leaf in leaves[1:])


def _is_on_device(value: object) -> bool:
    return isinstance(value, _DeviceTensor)


def _is_device(device: Any) -> bool:
    return device is not None and torch.device(device).type == DEVICE


def _place() -> str:
    """Return the innermost line of trueface that runs."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        _, package, module = frame.f_code.co_filename.rpartition("/trueface/")
        if package and frame.f_globals["__name__"].startswith("trueface."):
            return f"{module}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"
