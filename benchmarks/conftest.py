from __future__ import annotations


def pytest_xdist_auto_num_workers() -> int:
    """Have no workers: what is measured runs alone."""
    return 0
