"""Page that shows a run during its fits: counts, rate, failures, the contour so far.

Every few seconds, the process that writes records also writes a
:class:`~palletfit.pages.live.snapshot.Snapshot` of its fits and the page of its analysis. The page
combines the snapshots of all regions. No result depends on either file. The page is one file that
loads itself again. ``python -m palletfit.live`` serves it on the loopback interface, for ssh.
"""

from palletfit.pages.live.watching import Page, observer, page_path

__all__ = ["Page", "observer", "page_path"]
