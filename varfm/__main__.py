"""`python -m varfm`."""

from varfm.cli.main import main

if __name__ == "__main__":
    main()
