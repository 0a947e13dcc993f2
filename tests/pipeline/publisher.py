"""A worker that publishes a slice and, before its COMMIT, waits to be killed.

python -m tests.pipeline.publisher PORT SLICE HOUR...

Says `published` when all but the COMMIT is done.
"""

from __future__ import annotations

import sys

from local.snowflake.client import connect
from madhatter import publish
from madhatter.warehouse import Warehouse

if __name__ == "__main__":
    port, slice_id, *hours = sys.argv[1:]
    warehouse = Warehouse(connect(int(port)))
    with warehouse.transaction():
        publish.publish(warehouse, slice_id, {slice_id: hours})
        sys.stdout.write("published\n")
        sys.stdout.flush()
        sys.stdin.read()
