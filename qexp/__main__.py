"""`python -m qexp`."""

from qexp.cli import script

script()
