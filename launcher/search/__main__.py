"""The process of one search: `python -P -m launcher.search HOME SEARCH PIPE`. The scheduler starts it again if it ends."""

import sys

from launcher.search.process import main

sys.exit(main(sys.argv[1:]))
