"""``python -m tunesmith`` and ``torchrun -m tunesmith``."""

import sys

from tunesmith.cli.main import main

sys.exit(main())
