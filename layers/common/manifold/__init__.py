"""What every Manifold function shares: configuration, routing, the Postgres store, and the adapters around them."""
