"""`python -m qexp`."""

import sys

from qexp.cli.main import main

sys.exit(main())
