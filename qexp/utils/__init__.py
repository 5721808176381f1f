"""What every other folder may use: errors, types, signals, files that are written whole."""
