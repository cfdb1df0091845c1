"""Entry point of pilots under the name that submitted scripts use, also after an upgrade; see `node_pilot`."""

import sys

from launcher.backends.node_start import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
