"""A HEPData submission of an analysis: CLs, contours, limits, and where they come from.

The tables are made with hepdata_lib and judged by HEPData's own validator, whose schemas come with
it: nothing here uses a network or another program. The same results give the same bytes.
"""

from palletfit.publish.hepdata.provenance import file_sha256
from palletfit.publish.hepdata.publication import Publication
from palletfit.publish.hepdata.submission import write
from palletfit.publish.hepdata.tables import SIGMAS

__all__ = ["SIGMAS", "Publication", "file_sha256", "write"]
