"""A page that shows a run while fits are made: counts, rate, failures, the contour as it forms.

The process that writes records also writes, every few seconds, what it knows so far (a
:class:`~palletfit.pages.live.snapshot.Snapshot`) and the page of its analysis, made from the
snapshots of all its regions. Nothing depends on either. The page is one file that loads itself
again; ``python -m palletfit.live`` serves it on this machine's loopback interface, for ssh.
"""

from palletfit.pages.live.watching import Page, observer, page_path

__all__ = ["Page", "observer", "page_path"]
