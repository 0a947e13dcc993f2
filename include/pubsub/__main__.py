"""`python -m include.pubsub --project P --functions JSON --account EMAIL`: makes topics and subscriptions so.

PUBSUB_EMULATOR_HOST names a stand-in; without it, it is the service.
"""

from __future__ import annotations

import argparse
import json
import sys

from google.api_core.exceptions import GoogleAPICallError

from include.pubsub.apply import Misplaced, apply
from include.pubsub.topology import read


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m include.pubsub", description="Topics and subscriptions as code.")
    parser.add_argument("--project", required=True)
    parser.add_argument("--functions", required=True, type=json.loads, help='{"fraud_detection": "https://..."}')
    parser.add_argument("--account", required=True, help="service account in whose name Pub/Sub calls the functions")
    arguments = parser.parse_args()
    try:
        for line in apply(arguments.project, read(), arguments.functions, arguments.account):
            sys.stdout.write(f"{line}\n")
    except (GoogleAPICallError, Misplaced, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
