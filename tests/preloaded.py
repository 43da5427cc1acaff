"""Loads and makes once what the hub's processes need, in the process that tests fork them from."""

from importlib import import_module

from hub.app import create_app
from hub.settings import Settings

for name in ("hub.cli.run", "hub.cli.web_server", "hub.worker", "hub.ingest", "uvicorn.protocols.http.auto"):
    import_module(name)

# the first application of a process takes a third of a second, the next ones a hundredth
create_app(Settings(database_url="postgresql://nobody@127.0.0.1:1/none"))
