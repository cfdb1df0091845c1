"""Options that say where a program reports how far it is."""

from launcher.job_options.registry import JobOption, register_options
from launcher.job_options.value_types import Folder

register_options(
    JobOption(
        name="tensorboard",
        takes=Folder(),
        field="terms.tensorboard",
        help="Folder in which its program writes TensorBoard event files; their scalars are shown as its progress",
    )
)
