"""`python -m local.launch SERVICE -- COMMAND...`: ends what an earlier run of SERVICE left, then becomes COMMAND.

A service that was killed may leave children that hold its port or go on with its work: Airflow's scheduler its
executor's workers, the API server its listener. Their environment has MADHATTER_SERVICE and MADHATTER_HOME.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from local.processes import end, of_service


def main() -> None:
    """Never returns: the process becomes COMMAND."""
    service, _, *command = sys.argv[1:]
    end(of_service(Path(os.environ["MADHATTER_HOME"]), service))
    os.execvpe(command[0], command, os.environ)


if __name__ == "__main__":
    main()
