"""Every SQL statement of the service: built here from descriptions, once, and kept.

A kept statement costs nothing to build again and stays prepared in the driver. Single statements run on their own
(autocommit); whoever needs several that belong together opens a transaction (see `app/database.py`).
"""

from app.store.changes import (
    IDENTITY,
    delete_all_statement,
    delete_statement,
    insert_new_statement,
    insert_statement,
    link,
    orphan_statement,
    unlink_all_statement,
    unlink_statement,
    update_statement,
)
from app.store.lists import Order, count_statement, filter_value, list_statement
from app.store.rows import PARENT, find, find_equal, find_in_scope, links_of, only_row, scope_link, scope_values, walk
from app.store.showing import columns, show, sources

__all__ = [
    "IDENTITY",
    "PARENT",
    "Order",
    "columns",
    "count_statement",
    "delete_all_statement",
    "delete_statement",
    "filter_value",
    "find",
    "find_equal",
    "find_in_scope",
    "insert_new_statement",
    "insert_statement",
    "link",
    "links_of",
    "list_statement",
    "only_row",
    "orphan_statement",
    "scope_link",
    "scope_values",
    "show",
    "sources",
    "unlink_all_statement",
    "unlink_statement",
    "update_statement",
    "walk",
]
