"""Set up an endpoint of Globus Compute: ``python -m palletfit.endpoint``.

See :mod:`palletfit.executors.globus.endpoint`.
"""

from palletfit.executors.globus.endpoint import main

if __name__ == "__main__":
    main()
