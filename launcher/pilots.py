"""The process of a pilot by its name in scripts that wait in engines' queues, also over an upgrade; see `node_pilot`."""

import sys

from launcher.backends.node_start import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
