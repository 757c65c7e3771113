"""The command line as ``python -m palletfit.cli``."""

from palletfit.cli import main

if __name__ == "__main__":
    main(prog_name="palletfit")
