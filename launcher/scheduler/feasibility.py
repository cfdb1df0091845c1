"""What this machine can never give a job, whoever else uses it: such a request is refused, not queued.

Cores, main memory and GPUs are judged alike, by the hardware and by what [sharing] of config.toml leaves out.
Where no GPU can be seen nothing is said of GPUs: a driver comes back, and until then the job waits and says why.
"""

from dataclasses import replace

from launcher.job import CPU, Resources
from launcher.scheduler.explanations import Refusal, cores
from launcher.scheduler.inventory import Inventory
from launcher.scheduler.model import Machine, Waiting


def refusal(request: Waiting, machine: Machine) -> Refusal | None:
    """Return why a machine can never hold a job, though nobody else used it; None where it can."""
    return Inventory(machine).asks(request)[0]


def impossible(job: Waiting, machine: Machine) -> str:
    """Return why a machine can never give what a job asks for, though nobody else used it; '' where it can."""
    asked = job.resources
    if asked.cpus > machine.cpus:
        has = "1 may" if machine.cpus == 1 else f"{machine.cpus} may"
        return f"needs {cores(asked.cpus)}, and {has} be used on this machine"
    if not machine.gpus:
        job = replace(job, resources=Resources(cpus=asked.cpus, ram=asked.ram, device=CPU))
    never = refusal(job, machine)
    return never.text if never else ""
