"""The sparse edit of SEGA (M. Brack et al., arXiv 2301.12247)."""

import torch
from torch import Tensor


def top_tail(edit: Tensor, quantile: float) -> Tensor:
    """Return where an edit is strongest: of each image, the entries in the top tail of |edit|.

    The paper keeps the entries above the quantile; diffusers' pipeline sums |edit| over channels first.
    Here it is the paper's, entry by entry, and exactly (1 - quantile) of them are kept even where
    several are equal.

    Args:
        edit: psi, N×C×H×W.
        quantile: lambda in 0 … 1; 0: all entries. The paper advises .95 to .99, the pipeline's default is .9.

    Returns:
        Booleans in the shape of `edit`.
    """
    flat = edit.detach().abs().flatten(1)
    kept = round((1 - quantile) * flat.shape[1])
    mask = torch.zeros_like(flat, dtype=torch.bool)
    mask.scatter_(1, flat.topk(kept, dim=1).indices, True)
    return mask.view_as(edit)


def sparse_edit(edit: Tensor, quantile: float, scale: float) -> Tensor:
    """Return `scale` times the edit where it is strongest, and zero elsewhere."""
    return scale * edit * top_tail(edit, quantile)
