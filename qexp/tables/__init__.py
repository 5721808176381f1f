"""The papers' tables: as data, joined with runs, printed, and how long what is missing takes."""
