"""Measurements of the figures we hold ourselves to: real brokers and workers, on Linux, on two cores."""
