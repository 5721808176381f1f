"""Observers that show and record a training."""
