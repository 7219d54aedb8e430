"""Which test files take long: with several processes they start first, so that none is left for the end."""

from pathlib import Path

LONGEST = (
    "test_readme.py", "test_monthly_change.py", "test_kill_segment.py", "test_prune_model.py",
    "test_run.py", "test_bad_input.py", "test_overfit.py", "test_images_as_region.py", "test_train.py",
    "test_monthly_change_flow.py", "test_cluster.py", "test_faults.py", "test_benchmarks.py",
    "test_refresh_map.py", "test_conversion.py", "test_aerial_weights.py", "test_segment.py", "test_export_model.py",
    "test_cli.py", "test_special_grids.py", "test_networks.py", "test_vectorize.py", "test_evaluate.py",
    "test_any_raster.py", "test_train_demo.py", "test_change_table.py",
)  # fmt: skip
"""By time, the longest first. test_readme.py makes the demo, which the second must not wait for."""

_PLACE = {name: place for place, name in enumerate(LONGEST)}


def place(path: Path) -> int:
    """Of a test file, in the order in which files are begun."""
    return _PLACE.get(path.name, len(_PLACE))
