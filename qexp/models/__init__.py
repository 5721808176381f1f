"""Plain float networks; each is a function of the data's shape and the options of its YAML file."""
