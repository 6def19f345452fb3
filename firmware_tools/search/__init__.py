"""Which device each layer should have, after HyDe (2308.00664)."""
