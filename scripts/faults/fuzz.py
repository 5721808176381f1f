def rows(setting):
    yield from ()
