"""Topics and subscriptions, as topology.yaml has them, and how to publish."""
