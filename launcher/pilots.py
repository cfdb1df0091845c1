"""Entry point of pilots under the name that submitted scripts use, also after an upgrade; see `queue.backends`."""

import sys

from launcher.queue.backends.node_start import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
