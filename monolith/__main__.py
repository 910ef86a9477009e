"""`python -m monolith` is `video-analysis`."""

from __future__ import annotations

from monolith.cli.app import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
