"""A package outside of qexp: a method, a model and a data set, as somebody would write them who has only the pages."""
