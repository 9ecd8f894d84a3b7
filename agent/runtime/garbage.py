"""How often Python looks for cycles among the objects of an agent."""

import gc

YOUNG = 20_000  # containers made and not freed, before the first look; Python's own is 700, as for a script
LOOKS = 20  # looks at the young before one at those that survived, and so on


def spare_collector() -> None:
    """Call once, when all is imported and wired: what lives by then lives for good, and is never looked at again.

    An attempt makes hundreds of objects, nearly all of which are freed by their last reference. With Python's
    thresholds a fifth of a short attempt was spent in looking for cycles among them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, LOOKS, LOOKS)
