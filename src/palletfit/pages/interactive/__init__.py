"""Interactive page of the exclusion in a plane: hover, click, switch curves on and off.

The page is one file without requests to a network. It holds Plotly, the figure, and details of
each point. Its texts come from archives and analysis files: they are escaped, or written as text by
the script of the page. Only the two scripts of the page can run.
"""

from palletfit.pages.interactive.page import render
from palletfit.pages.interactive.points import details

__all__ = ["details", "render"]
