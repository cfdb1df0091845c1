"""What a person types to see and to end pilots of an engine that does not do what the launcher asks."""

from collections.abc import Iterable

from launcher.backends.slurm_states import name_and_index


def commands_by_hand(kind: str, tokens: Iterable[str]) -> tuple[str, ...]:
    """Return command lines: what lists these pilots, then what ends them; nothing where an engine has none."""
    if kind != "slurm":
        return ()
    names = ",".join(dict.fromkeys(name_and_index(token)[0] for token in tokens))
    return f"squeue --me --name={names}", f"scancel --me --name={names}"
