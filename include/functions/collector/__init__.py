"""The collector: takes events of web and mobile apps over HTTP and sends them to Kafka."""
