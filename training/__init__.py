"""Candles in, a judged bundle out. Knows models/, never streaming/."""
