"""A process that has loaded the worker once and forks a fresh one for every line it reads: soon up, truly killed.

Run as `python -m tests.hub.worker.nursery DATABASE_URL`; answers every line with the process id of a new worker.
"""

import os
import sys

from hub import worker
from hub.settings import Settings


def main() -> None:
    settings = Settings(
        database_url=sys.argv[1], allow_private_endpoints=["127.0.0.1/32"], data_dir=sys.argv[2], time_zone="UTC"
    )
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 0)
            os.dup2(null, 1)
            worker.run(settings)
            os._exit(0)
        print(child, flush=True)


if __name__ == "__main__":
    main()
