"""House rules that the import linter cannot see."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Mount

from hub.app import create_app
from hub.settings import Settings
from hub.web import Allowed, Public

ROOT = Path(__file__).parent.parent
PACKAGES = ("hub", "adapters", "gis", "mobile_api")


def modules(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    """(path from the root, syntax tree) of every Python file of ours below `folders`."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "versions" not in path.parts:
                yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


def calls(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node.func)


def test_only_db_commits() -> None:
    found = [
        f"{path}:{line} {name}"
        for path, tree in modules("hub", "gis", "mobile_api")
        for line, name in calls(tree)
        if name.endswith((".commit", ".begin_nested"))
        and path not in ("hub/db.py", "hub/migrations/env.py")
        # the billing system of the demo town is a program of its own, with its own database
        and not path.startswith("hub/demo/")
        and not name.endswith(".begin_nested")
    ]
    assert found == []


def test_no_naive_or_private_clock() -> None:
    found = [
        f"{path}:{line} {name}"
        for path, tree in modules(*PACKAGES)
        for line, name in calls(tree)
        if name in ("datetime.now", "datetime.utcnow", "datetime.today", "date.today", "datetime.datetime.now")
        and not path.startswith("hub/demo/")
        and not _aware_call(tree, line)
    ]
    assert found == []


def _aware_call(tree: ast.Module, line: int) -> bool:
    return any(
        isinstance(node, ast.Call) and node.lineno == line and ast.unparse(node.func).endswith("now") and node.args
        for node in ast.walk(tree)
    )


def imported(tree: ast.Module) -> set[str]:
    """Every module name an `import` or `from … import` mentions."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_adapters_do_no_io_and_know_nothing_of_the_hub() -> None:
    forbidden = {"sqlalchemy", "fastapi", "httpx", "paho", "socket", "requests", "psycopg", "hub", "gis", "mobile_api"}
    found = [
        (path, name) for path, tree in modules("adapters") for name in imported(tree) if name.split(".")[0] in forbidden
    ]
    assert found == []


def test_only_guarded_opens_connections_to_others() -> None:
    clients = {"httpx", "requests", "aiohttp", "urllib.request", "http.client"}
    found = [
        (path, name)
        for path, tree in modules("hub", "gis", "mobile_api")
        for name in imported(tree)
        if any(name == client or name.startswith(client + ".") for client in clients)
        and path != "hub/guarded.py"
        # the supervisor and the demo ask the hub of this very machine whether it is ready
        and not path.startswith(("hub/demo/", "hub/private/", "hub/cli/demo.py"))
    ]
    assert found == []


def test_the_demo_imports_nothing_of_ours() -> None:
    found = [
        (path, name)
        for path, tree in modules("hub/demo")
        for name in imported(tree)
        if name.split(".")[0] in PACKAGES and not name.startswith("hub.demo")
    ]
    assert found == []


def test_the_layers_are_those_of_the_architecture() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    kept, named = (
        [set(line.split(" | ")) for line in contract["layers"]]
        for contract in contracts
        if contract["type"] == "layers"
    )
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    block = page.partition("## Who may import whom")[2].split("```")[1]
    assert [set(line.strip().split("  ")[0].split(" | ")) for line in block.strip().splitlines()] == kept
    within = [{name.removeprefix("hub.") for name in line if name.startswith("hub.")} for line in kept]
    assert [line for line in within if line] == named


def test_every_module_says_what_it_is() -> None:
    assert [path for path, tree in modules(*PACKAGES) if not ast.get_docstring(tree)] == []


@pytest.fixture(scope="module")
def routes() -> list[BaseRoute]:
    return list(create_app(Settings(database_url="postgresql://nobody@127.0.0.1:1/none")).routes)


def endpoints(routes: list[BaseRoute]) -> Iterator[APIRoute]:
    """Every route that code of ours answers; mounts of files are the only other kind."""
    for route in routes:
        if isinstance(route, APIRoute):
            yield route
        elif hasattr(route, "original_router"):
            yield from endpoints(route.original_router.routes)
        elif isinstance(route, Mount):
            assert "static" in route.path or route.path == "/crew", (
                f"{route.path} is mounted without a declared permission"
            )
        else:
            assert route.path == "/openapi.json", f"{route.path} declares no permission"


def permissions(route: APIRoute) -> list[Allowed]:
    """The permissions that a route's dependencies declare."""
    found: list[Allowed] = []
    waiting = [route.dependant]
    while waiting:
        dependant = waiting.pop()
        if isinstance(dependant.call, Allowed):
            found.append(dependant.call)
        waiting += dependant.dependencies
    return found


def test_every_route_declares_who_may_call_it(routes: list[BaseRoute]) -> None:
    undeclared = [
        f"{sorted(route.methods)} {route.path}"
        for route in endpoints(routes)
        if not permissions(route) and route.endpoint not in Public.reasons
    ]
    assert undeclared == []


def test_operation_ids_are_unique(routes: list[BaseRoute]) -> None:
    names = [route.name for route in endpoints(routes) if route.include_in_schema]
    assert sorted(names) == sorted(set(names))


def test_the_project_names_no_registry_and_no_machine() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    registry = re.compile(
        r"pypi\.org|registry\.npmjs|deb\.debian\.org|files\.pythonhosted|/opt/pypi|/work/(main|shared)"
    )
    found = []
    for name in tracked:
        path = ROOT / name
        if name and path.is_file() and "vendor" not in path.parts and path.stat().st_size < 2_000_000:
            text = path.read_bytes().decode("utf-8", "ignore")
            if registry.search(text) and name != "tests/test_architecture.py":
                found.append(name)
    assert found == []


def test_the_lock_holds_hashes_and_no_address() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    assert "file:" not in lock
    pinned = [line for line in lock.split("\n") if line and not line.startswith((" ", "#"))]
    assert pinned
    assert all("==" in line for line in pinned)
    assert lock.count("--hash=sha256:") >= len(pinned)
