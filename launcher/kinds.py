"""Job types under the name that entry points and stored jobs use; see `experiments.kinds`."""

from launcher.experiments.kinds import COMMAND as COMMAND
from launcher.experiments.kinds import find_kinds as find_kinds
from launcher.experiments.kinds import installed_kinds as installed_kinds
