"""HEPData submission of an analysis: CLs, contours, limits, and their provenance.

hepdata_lib makes the tables, and HEPData's validator checks them with the schemas that it holds.
Nothing uses a network or another program. The same results give the same bytes.
"""

from palletfit.publish.hepdata.provenance import file_sha256
from palletfit.publish.hepdata.publication import Publication
from palletfit.publish.hepdata.submission import write
from palletfit.publish.hepdata.tables import SIGMAS

__all__ = ["SIGMAS", "Publication", "file_sha256", "write"]
