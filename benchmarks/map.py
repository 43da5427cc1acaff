"""Seconds from opening the work page to its map standing still with 50,000 orders on it, beside two limits.

The limits: the same page of a hub without any order, and the same 50,000 orders as vector tiles, unclustered, on a page
with nothing but the map. All three from one server and one Chromium, in turns; each load has a fresh browser context.
Without a graphics card the figures are for comparing, not for promising.

    python -m benchmarks.map [orders] [rounds]
"""

import statistics
import sys
from collections.abc import Callable

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, Response
from playwright.sync_api import Browser, sync_playwright
from sqlalchemy import text

from benchmarks._report import spread, table
from hub import auth, migrations
from hub.db import Database
from hub.private.cluster import PrivateCluster
from hub.settings import Settings
from tests.browser.conftest import LAUNCH
from tests.conftest import ServerThread
from tests.private_servers import scratch

PASSWORD = "three unrelated words"
PATIENCE_MS = 180_000
TILES_PAGE = """<!doctype html><title>tiles</title>
<link rel="stylesheet" href="/static/vendor/maplibre-gl/maplibre-gl.css">
<link rel="stylesheet" href="/bench.css"><div id="map"></div><script type="module" src="/bench.js"></script>"""
TILES_SCRIPT = """
import * as maplibre from "/static/vendor/maplibre-gl/maplibre-gl.mjs";
const map = new maplibre.Map({
  container: "map", bounds: [0, 0, 0.2, 0.2], fadeDuration: 0, attributionControl: false,
  style: { version: 8,
    sources: { work: { type: "vector", tiles: [`${location.origin}/tiles/work_orders/{z}/{x}/{y}.mvt`], maxzoom: 16 } },
    layers: [{ id: "work", type: "circle", source: "work", "source-layer": "work_orders",
      paint: { "circle-radius": 4 } }] },
});
map.once("idle", () => { document.body.dataset.done = performance.now(); });
"""
ZONE = """
INSERT INTO zone (code, name, geometry)
VALUES ('T', 'Town', ST_Multi(ST_MakeEnvelope(0, 0, 0.2, 0.2, 4326)))
"""
# A third of the orders held, spread evenly over a town of some 20 by 20 kilometres.
ORDERS = """
INSERT INTO work_order (id, number, type, purpose, type_snapshot, status, rev, priority, reasons, opened_at, opened_by,
  position)
SELECT gen_random_uuid(), 'WO-2026-' || lpad(n::text, 6, '0'), 'reread', 'reread', '{"title": "Re-read"}',
  (ARRAY['ready', 'ready', 'held'])[1 + n % 3], 1, 3, '[]', now(), 'user:bench',
  ST_SetSRID(ST_MakePoint(((n * 7919) % 100003) / 500015.0, ((n * 104729) % 99991) / 499955.0), 4326)
FROM generate_series(CAST(1 AS bigint), :orders) AS n
"""


def add_tiles_page(app: FastAPI) -> None:
    """The page of the second limit."""
    app.add_api_route("/bench.html", lambda: HTMLResponse(TILES_PAGE))
    app.add_api_route("/bench.js", lambda: Response(TILES_SCRIPT, media_type="text/javascript"))
    app.add_api_route("/bench.css", lambda: Response("#map { position: absolute; inset: 0; }", media_type="text/css"))


def opened(browser: Browser, url: str, path: str, done: str) -> float:
    """Seconds from the navigation to `path` until the script `done` is true, in a fresh context."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(f"{url}/sign-in?next=/billing/events")
    page.get_by_label("E-mail address").fill("bench@example.org")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/billing/events")
    page.goto(url + path, wait_until="commit")
    page.wait_for_function(done)
    took: float = page.evaluate("() => performance.now()")
    context.close()
    return took / 1000


def measure(cluster: PrivateCluster, orders: int, rounds: int) -> dict[str, list[float]]:
    """Seconds by page, one figure per round."""
    database = Database(cluster.url)
    with database.transaction() as session:
        auth.add_user(session, email="bench@example.org", name="bench", role="admin", password=PASSWORD)
    server = ServerThread(Settings(database_url=cluster.url), database)
    add_tiles_page(server.app)
    url = server.started()
    shown = "() => 'shown' in (document.querySelector('work-map')?.dataset ?? {})"
    found: dict[str, list[float]] = {"blank": [], "work": [], "tiles": []}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**LAUNCH)
        pages: dict[str, Callable[[], float]] = {
            "blank": lambda: opened(browser, url, "/?type=none", shown),
            "work": lambda: opened(browser, url, "/", shown),
            "tiles": lambda: opened(browser, url, "/bench.html", "() => 'done' in (document.body?.dataset ?? {})"),
        }
        with database.transaction() as session:
            session.execute(text(ZONE))
            session.execute(text(ORDERS), {"orders": orders})
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("ANALYZE work_order"))
        for round_ in range(rounds + 1):
            for name, page in pages.items():
                took = page()
                # the first round only warms the caches of the machine
                if round_:
                    found[name].append(took)
        browser.close()
    server.stop()
    database.dispose()
    return found


def main() -> None:
    """Run the rounds and print the table."""
    orders = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    with PrivateCluster(scratch(), sync=False) as cluster:
        migrations.upgrade(cluster.url)
        found = measure(cluster, orders, rounds)
    median = {name: statistics.median(values) for name, values in found.items()}
    print(
        f"Seconds from opening the page to a map that at rest, {rounds} loads each in turns, median (lowest–highest):\n"
    )
    print(
        table(
            ["page", "seconds", "of the empty page"],
            [
                [what, spread(found[name], ".1f"), f"{median[name] / median['blank']:.2f}"]
                for name, what in (
                    ("work", f"work page, {orders:,} orders, clustered in the browser"),
                    ("blank", "the same page without any order"),
                    ("tiles", f"bare map, {orders:,} orders as vector tiles, not clustered"),
                )
            ],
        )
    )


if __name__ == "__main__":
    main()
