"""The deliveries that the end of a batch writes, as a part of its statement. They are `manifold.store.deliveries`."""

from typing import LiteralString

from manifold.store.ownership import RECEIVES

ANNOUNCED: LiteralString = f"""
    receivers AS (
        SELECT w.id FROM webhooks w, ended b
        WHERE w.disabled_at IS NULL AND 'batch.' || b.status = ANY(w.events) AND {RECEIVES}
        FOR KEY SHARE OF w
    ), announced AS (
        INSERT INTO deliveries (id, webhook_id, batch_id, event_id, type)
        SELECT 'delivery_' || replace(gen_random_uuid()::text, '-', ''), w.id, b.id, 'evt_' || substr(b.id, 7),
            'batch.' || b.status
        FROM receivers w, ended b
    )"""
"""Writes the deliveries of a batch's end, beside a CTE `ended` that has the row of the batch as it ended.

A webhook that is deleted at the same moment is left out: the lock waits for the delete.
"""
