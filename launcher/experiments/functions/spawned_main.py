"""What multiprocessing imports as `__main__` in a process that the job of a notebook's function spawns.

A script is imported there from its file. A notebook has none, so its names come from the file with the job's call.
"""

import os
import pickle
import sys
from pathlib import Path

from launcher.experiments.functions.main_module import (
    CALLS_FILE,
    MAIN,
    add_classes,
    add_values,
    load_script,
)
from launcher.experiments.functions.private_files import open_private

if __name__ == "__mp_main__":
    sys.modules[MAIN] = sys.modules[__name__]  # as multiprocessing does after this import
    with open_private(Path(os.environ[CALLS_FILE])) as _file:
        add_classes(globals(), load_script(_file))
        add_values([pickle.load(_file)])  # the function, and with it all that it names
