"""A package outside of qexp, as somebody would write it who has only the pages: a part of every kind."""
