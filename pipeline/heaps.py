"""Few heaps for many threads, so that long work keeps its size."""

import ctypes

_ARENA_MAX = -8  # M_ARENA_MAX of malloc.h
_HEAPS = 2


def share_heaps() -> None:
    """Let new threads share two heaps, where the C library is glibc; elsewhere do nothing.

    With a heap each, every thread keeps what it once held: decoding tiles in several threads grows
    by some 100 MB an image, as measured with `make bench-composite`.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_ARENA_MAX, _HEAPS)
