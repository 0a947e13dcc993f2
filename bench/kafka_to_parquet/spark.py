"""The same hour in Spark SQL, local[2], in one pass; several passes, because a JVM is faster when it is warm.

Runs in the environment of requirements/bench.txt. CPU is that of the JVM (it does all the work) and of this process.
"""

from __future__ import annotations

import argparse
import json
import time

import psutil
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f

PASSES = 3
COLUMNS = (
    "event_id string, event_type string, customer_id bigint, source string, product_id string, session_id string, "
    "page string, referrer string, dwell_ms bigint, order_id string, quantity bigint, unit_price double, "
    "currency string, payment_method string, ship_country string"
)
FIELDS = f"{COLUMNS}, event_ts string, ingest_ts string, device struct<os: string, browser: string>"
REASON = """
case
    when r is null or r.event_id is null then 'not JSON, or event_id is missing'
    when r.event_type is null or r.event_type not in ('click', 'order') then 'event_type is unknown'
    when try_to_timestamp(r.event_ts) is null then 'event_ts is no time'
    when try_to_timestamp(r.ingest_ts) is null then 'ingest_ts is no time'
    when r.customer_id is null or r.customer_id < 1 then 'customer_id is below 1'
    when r.product_id is null then 'product_id is missing'
end
"""


def session(jars: str) -> SparkSession:
    """jars: the Kafka connector and what it needs, as a class path."""
    settings = {
        "spark.driver.extraClassPath": jars,
        "spark.driver.memory": "4g",
        "spark.ui.enabled": "false",
        "spark.log.level": "ERROR",
        "spark.sql.session.timeZone": "UTC",
        # Both outputs in one pass and without a sort, at the compression of the others.
        "spark.sql.maxConcurrentOutputFileWriters": "2",
        "spark.sql.parquet.compression.codec": "zstd",
        "spark.hadoop.parquet.compression.codec.zstd.level": "1",
    }
    builder = SparkSession.builder.master("local[2]")
    for name, value in settings.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def events(spark: SparkSession, bootstrap: str, topic: str) -> DataFrame:
    """All events of the topic, with the reason where one is rejected."""
    source = spark.read.format("kafka").option("kafka.bootstrap.servers", bootstrap).option("subscribe", topic)
    lines = source.load().select("partition", "offset", f.col("value").cast("string").alias("line"))
    parsed = lines.withColumn("r", f.from_json("line", FIELDS)).withColumn("reason", f.expr(REASON))
    columns = [f.col(f"r.{column.split()[0]}") for column in COLUMNS.split(", ")]
    return parsed.select(
        "partition",
        "offset",
        f.expr("try_to_timestamp(r.event_ts)").alias("event_ts"),
        f.expr("try_to_timestamp(r.ingest_ts)").alias("ingest_ts"),
        f.col("r.device.os"),
        f.col("r.device.browser"),
        *columns,
        "reason",
        f.expr("if(reason is null, null, line)").alias("line"),
        f.expr("reason is not null").alias("is_rejected"),
    )


def cpu_s() -> float:
    """Seconds of CPU that this process and its JVM have used."""
    this = psutil.Process()
    return sum(sum(each.cpu_times()[:2]) for each in (this, *this.children(recursive=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bootstrap")
    parser.add_argument("topic")
    parser.add_argument("out")
    parser.add_argument("jars")
    known = parser.parse_args()
    spark = session(known.jars)
    for number in range(PASSES):
        wall, before = time.monotonic(), cpu_s()
        rows = events(spark, known.bootstrap, known.topic)
        rows.write.mode("overwrite").partitionBy("is_rejected").parquet(known.out)
        name = "cold JVM" if number == 0 else "warm JVM" if number == PASSES - 1 else ""
        if name:
            print(json.dumps({"name": name, "wall_s": time.monotonic() - wall, "cpu_s": cpu_s() - before}), flush=True)
    spark.stop()


if __name__ == "__main__":
    main()
