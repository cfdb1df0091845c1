"""`python -m launcher`: the command `launcher` of the environment whose Python that is."""

from launcher.cli.main import main

if __name__ == "__main__":
    main()
