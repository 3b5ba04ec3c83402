"""Where the tests find things: the repository, what stands beside them, and the data that no clone brings along."""

from pathlib import Path

HELPERS = Path(__file__).parent
GOLDEN = HELPERS / "golden"
ROOT = HELPERS.parents[1]
#: Real text with gold answers, beside the repository; tests that use it skip where it is absent.
DATA = ROOT.parent / "shared" / "data"
