"""The tests that a service carries: for each resource a module that says what callers may count on.

values → factories → subject → rows, lists, refusals → lower
"""
