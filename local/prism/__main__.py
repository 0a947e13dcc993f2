"""`python -m local.prism FOLDER`: Prism is in FOLDER afterwards. Again: nothing to do, a moment."""

from __future__ import annotations

import sys
from pathlib import Path

from local.prism.install import NotInstalled, install


def main() -> int:
    try:
        install(Path(sys.argv[1]).expanduser().absolute(), lambda line: print(f"        {line}", flush=True))
    except NotInstalled as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
