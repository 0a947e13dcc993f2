"""A stand-in for Google Cloud Pub/Sub: the service of the client library's own gRPC types, durable over kill -9.

What it does not have it refuses (UNIMPLEMENTED): filters, exactly-once delivery, seek and snapshots, schemas, export
subscriptions. Deviations from the service are in docs/deviations.md.
"""
