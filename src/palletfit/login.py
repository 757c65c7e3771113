"""Log in to Globus Compute: ``python -m palletfit.login``.

See :mod:`palletfit.executors.globus.login`.
"""

from palletfit.executors.globus.login import main

if __name__ == "__main__":
    main()
