"""The process of one search: `python -P -m launcher.experiments.search HOME SEARCH PIPE`. The scheduler starts it again if it ends."""

import sys
from pathlib import Path

from launcher.experiments.search.definition import check_import
from launcher.experiments.search.endings import end_failed, reason_of_error
from launcher.queue.home.paths import Home
from launcher.queue.store.queue import Store
from launcher.system.errors import UsageError

try:
    check_import()
except UsageError as error:  # Optuna was removed or replaced after the search was queued
    home = Home(Path(sys.argv[1]))
    end_failed(home, Store(home), int(sys.argv[2]), reason_of_error(error))
    sys.exit(0)

from launcher.experiments.search.process import main

sys.exit(main(sys.argv[1:]))
