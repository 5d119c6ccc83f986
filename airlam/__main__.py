"""``python -m airlam`` is the ``airlam`` command."""

import sys

from airlam.cli import main

if __name__ == "__main__":
    sys.exit(main())
