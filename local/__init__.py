"""The whole stack on one machine: Postgres, AWS as MiniStack emulates it, a simulated provider. Never deployed."""
