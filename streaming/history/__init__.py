"""Candles of the past: fetched from an exchange, kept from the topic, given to training. Knows no model."""
