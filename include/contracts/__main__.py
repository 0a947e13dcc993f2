"""`make contract`: writes what the contracts say."""

from __future__ import annotations

import sys

from include.contracts.generate import write
from include.contracts.odcs import ContractError, read_all, refuse_breaking

try:
    contracts = read_all()
    refuse_breaking(contracts)
    changed = write(contracts)
except ContractError as error:
    sys.exit(f"contract error: {error}")
sys.stdout.write("".join(f"wrote {path}\n" for path in changed) or "everything is as the contracts say\n")
