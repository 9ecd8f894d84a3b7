"""Backwright: a backend developer that lives on your Kafka bus."""

from importlib.metadata import version

__version__ = version("backwright")
