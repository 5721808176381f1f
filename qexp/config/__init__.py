"""YAML to a typed configuration: composed by Hydra, checked against signatures, identified by what it computes."""
