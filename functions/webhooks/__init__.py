"""Webhooks: the API (`app`), and what sends the events (`worker`).

The statement that ends a batch writes its deliveries (`manifold.store.deliveries`). `delivery` sends them, by the rules
of `retry_policy`. `catalog` has what clients do with webhooks and their deliveries.
"""
