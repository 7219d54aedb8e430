"""The verbs of a run: each opens files, calls landcover, and writes files."""

import os

# GDAL keeps decoded blocks up to 5 % of the machine's memory unless told; ours is bounded. It reads this
# once, when it first keeps a block, so it is said before any step is imported. Megabytes.
os.environ.setdefault("GDAL_CACHEMAX", "64")
