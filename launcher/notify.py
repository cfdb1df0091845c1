"""Entry point of the process that sends messages, under the name that a scheduler starts; see `frontends.notify.service`."""

import sys

from launcher.frontends.notify.service import run_main

if __name__ == "__main__":
    sys.exit(run_main(sys.argv[1:]))
