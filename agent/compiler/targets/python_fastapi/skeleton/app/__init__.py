"""The service. `python -m app` serves it; README.md says what lies where."""
