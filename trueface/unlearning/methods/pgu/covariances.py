"""The covariances of what is kept: those of all, less those of what is to be forgotten.

All is read once a model and kept under the model's fingerprint; after that a request needs one pass
over what it forgets. Where all may not be read, a model that came of an earlier unlearning inherits
what its predecessor's request left. Samples are read as they are tested and without dropout, so that
the difference is exact: both sums are of the same inputs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trueface.data.examples import Examples
from trueface.runtime.errors import JobError
from trueface.runtime.rng import derive
from trueface.unlearning.api import Request
from trueface.unlearning.cache import fingerprint
from trueface.unlearning.methods.pgu.subspaces import Layers, Sums, hashed, learns_bias, wide

NAME, INHERITED = "covariances", "inherited"  # of files in the cache
MEMBERS = "/members"  # among a file's tensors: no layer is called so


class _MissingError(Exception):
    """The cache does not hold it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Covariances:
    """Input covariances by layer, and of which samples they are."""

    of: Mapping[str, Tensor]  # (G, D, D)
    members: Tensor  # (N,) int64, sorted: see `members`
    model: str  # its fingerprint
    inherited: bool = False  # from the model as it was before an earlier unlearning


def kept(request: Request, layers: Layers, most: int) -> Covariances:
    """Return the covariances of all that is not to be forgotten, float32 on the CPU.

    Raises:
        JobError: nothing is known of what is kept, or it does not hold what is to be forgotten.
    """
    everything = _all(request, layers, most)
    gone = members([request.forget])
    present = torch.isin(gone, everything.members)
    if not bool(present.all()):
        raise JobError(
            f"{int((~present).sum())} of {len(gone)} samples that are to be forgotten are not among "
            f"the {len(everything.members)} whose inputs were kept for this model, so these cannot "
            "be told from what is kept; give `retain` once, or another cache folder"
        )
    forgotten = summed(request, [request.forget], layers, most)
    less = {}
    for name, whole in everything.of.items():
        part = forgotten.pop(name, torch.zeros(1, device=request.watch.device))
        less[name] = (whole.to(part.device, wide(part.device)) - part).float().cpu()
    return Covariances(
        of=less,
        members=everything.members[~torch.isin(everything.members, gone)],
        model=everything.model,
        inherited=everything.inherited,
    )


def bequeath(request: Request, covariances: Covariances, layers: Layers, most: int) -> None:
    """Leave the covariances of what is kept to the model as it is now, for a later request."""
    model = fingerprint(request.model)
    if model == covariances.model:
        return
    follows = _follows(request, model, layers, most)
    request.cache.tensors(
        INHERITED, follows, lambda: {**covariances.of, MEMBERS: covariances.members}
    )


def summed(
    request: Request, parts: Sequence[Examples], layers: Layers, most: int
) -> dict[str, Tensor]:
    """Return the sums of the layers' input covariances over samples, on the device.

    Raises:
        JobError: stopped.
    """
    sums = Sums(layers, most)
    request.model.eval()
    with torch.no_grad(), sums.listening():
        for part in parts:
            for batch in part.batches("trained", epoch=None):
                request.check_stop()
                sums.positions = batch.positions
                request.logits(batch.inputs)
    return sums.found


def members(parts: Sequence[Examples]) -> Tensor:
    """Return a number for each sample that is its own in all sources, sorted."""
    numbers = [
        hashed(hashed(torch.tensor(part.positions)) + derive(part.source.identity, 0))
        for part in parts
    ]
    ordered: Tensor = torch.unique(torch.cat(numbers))
    return ordered


def _all(request: Request, layers: Layers, most: int) -> Covariances:
    model = fingerprint(request.model)
    follows = _follows(request, model, layers, most)
    if request.retain is None:
        for name in (NAME, INHERITED):
            try:
                tensors = request.cache.tensors(name, follows, _missing)
            except _MissingError:
                continue
            return _covariances(tensors, model, inherited=name == INHERITED)
        raise JobError(
            "pgu spares the inputs of what is kept, and of this model they are not known: the cache "
            "holds none, and what is kept may not be read; give `retain` and a cache folder once"
        )
    parts = [request.retain, request.forget]
    wanted = members(parts)
    made = _maker(request, parts, layers, most, wanted)
    tensors = request.cache.tensors(NAME, follows, made)
    if not torch.equal(tensors[MEMBERS], wanted):  # an earlier request was given other samples
        digest = str(wanted.tolist())
        tensors = request.cache.tensors(NAME, (*follows, digest), made)
    return _covariances(tensors, model)


def _maker(
    request: Request, parts: Sequence[Examples], layers: Layers, most: int, wanted: Tensor
) -> Callable[[], dict[str, Tensor]]:
    def made() -> dict[str, Tensor]:
        sums = summed(request, parts, layers, most)
        return {**{name: value.float() for name, value in sums.items()}, MEMBERS: wanted}

    return made


def _covariances(
    tensors: Mapping[str, Tensor], model: str, *, inherited: bool = False
) -> Covariances:
    sums = {name: value for name, value in tensors.items() if name != MEMBERS}
    return Covariances(of=sums, members=tensors[MEMBERS], model=model, inherited=inherited)


def _missing() -> dict[str, Tensor]:
    raise _MissingError


def _follows(request: Request, model: str, layers: Layers, most: int) -> list[str]:
    names = [f"{name} bias={learns_bias(layer)}" for name, layer in layers.items()]
    return [model, request.watch.precision, f"positions={most}", *names]
