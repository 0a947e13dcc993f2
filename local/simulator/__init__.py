"""Where the local events come from: the real history of a shop, and live orders that go on from it."""
