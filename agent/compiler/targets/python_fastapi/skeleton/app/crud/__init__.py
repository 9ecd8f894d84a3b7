"""What derived operations do. The routers say with which resource, scope and shape; the rules are here, once.

Reading: `reading.py`, `listing.py` with `paging.py`. Writing: `writing.py`, `batch.py` and `linking.py`, on `entity.py`
(what a body says about columns) and `rows.py` (one row with all that hangs on it). The answer is made by `reply.py`.
"""

from app.crud.batch import change_many, create_many
from app.crud.linking import link, unlink
from app.crud.listing import Listing, read_list
from app.crud.reading import confirm, read, read_only_row
from app.crud.writing import change, create, put_by_body, put_only_row, remove, remove_all, remove_only_row

__all__ = [
    "Listing",
    "change",
    "change_many",
    "confirm",
    "create",
    "create_many",
    "link",
    "put_by_body",
    "put_only_row",
    "read",
    "read_list",
    "read_only_row",
    "remove",
    "remove_all",
    "remove_only_row",
    "unlink",
]
