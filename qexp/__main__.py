"""`python -m qexp`."""

from qexp.cli.main import script

script()
