"""One machine of a simulated cluster: a job has all its GPUs there, and the policy decides for it alone."""

from collections.abc import Sequence

from launcher.gpu.snapshot import GpuSnapshot
from launcher.scheduler.policy.decide import Policy
from launcher.scheduler.policy.disciplines import Discipline
from launcher.scheduler.policy.model import Machine, Need, Waiting
from launcher.simulate.claims import Key
from launcher.system.gpu_sharing import Rules

PLENTY = 1 << 50  # cores, and bytes of main memory: neither is ever short in a simulation

Ask = tuple[int, Key, bool, str]  # what jobs ask for, and the group by which that is learned


class Node:
    """The cards of one machine, and the policy over them."""

    def __init__(self, gpus: Sequence[GpuSnapshot], rules: Rules, discipline: Discipline) -> None:
        """Begin with empty cards.

        Args:
            gpus: its cards; their indices count through the whole cluster.
            rules: how many jobs may share one.
            discipline: the policy.
        """
        machine = Machine(cpus=PLENTY, ram=PLENTY, ram_free=PLENTY, gpus=tuple(gpus), rules=rules)
        self.policy = Policy(machine, discipline=discipline, explain=False)
        self.cards = {gpu.uuid: gpu.index for gpu in gpus}
        self._uuids = {gpu.index: gpu.uuid for gpu in gpus}
        self._needs: dict[Ask, tuple[Need, ...]] = {}  # any of them will do

    def learn(self, ask: Ask, seen: Waiting) -> None:
        """Work out with what of its cards jobs can start, as far as it is known now.

        Args:
            ask: what these jobs ask for.
            seen: one of them.
        """
        self._needs[ask] = self.policy.inventory.asks(seen)[1]

    def has_room(self, ask: Ask) -> bool:
        """Tell whether a job that asks for this could start now, were it the first."""
        inventory = self.policy.inventory
        return any(inventory.lacks_gpu(need) is None for need in self._needs[ask])

    def others_take(self, card: int, amount: int) -> None:
        """Count memory of a card that others have taken since; less than 0: that they gave back."""
        self.policy.inventory.others_take(self._uuids[card], amount)
