"""Serve the live pages of a run on this machine: ``python -m palletfit.live``.

See :mod:`palletfit.pages.live`.
"""

import runpy

if __name__ == "__main__":
    runpy.run_module("palletfit.pages.live", run_name="__main__", alter_sys=True)
