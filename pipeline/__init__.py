"""The verbs of a run: each opens files, calls landcover, and writes files."""
