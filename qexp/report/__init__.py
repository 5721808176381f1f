"""Figures and pages of runs, methods and tables: what of the store goes into them."""
