"""Faust app, agents and services: they move records and call models/."""
