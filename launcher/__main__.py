"""`python -m launcher`: the command `launcher` of the environment whose Python that is."""

from launcher.frontends.cli import start

if __name__ == "__main__":
    start()
