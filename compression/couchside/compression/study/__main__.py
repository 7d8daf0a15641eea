"""``python -m couchside.compression.study``, the same as ``couchside-compress study``."""

import sys

from couchside.compression.study.cli import main

if __name__ == "__main__":
    sys.exit(main())
