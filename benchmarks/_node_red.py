"""Node-RED 4 as a peer of the readings benchmark: MQTT in, JSON, PostgreSQL out, row by row or in batches.

Installed from npm into a cache folder outside the repository (`CURBSTOP_BENCH_CACHE`, default ~/.cache/curbstop), once.
Rows go through the driver `pg` from a function node, which is what the PostgreSQL nodes for Node-RED are made of.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

VERSION = "4"
BATCH = 1_000
_SETTINGS = """
const pg = require('pg');
module.exports = {
  uiPort: 0, httpAdminRoot: false, httpNodeRoot: false, flowFile: 'flows.json', userDir: __dirname,
  logging: { console: { level: 'warn' } }, editorTheme: { tours: false }, telemetry: { enabled: false },
  functionGlobalContext: { pool: new pg.Pool(%s), kept: [] },
};
"""
_ROW = """
const found = %s;
await global.get('pool').query(
  'INSERT INTO nodered (device, at, value) VALUES ($1, $2, $3)', [found.device, found.at, found.value]);
"""
_BATCHED = """
const found = %s;
const kept = global.get('kept');
kept.push(found);
if (kept.length === 1) { setTimeout(() => flush(kept.splice(0)), 200); }
if (kept.length >= %d) { await flush(kept.splice(0)); }
function flush(rows) {
  return rows.length === 0 ? null : global.get('pool').query(
    'INSERT INTO nodered (device, at, value) SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::numeric[])',
    [rows.map(r => r.device), rows.map(r => r.at), rows.map(r => r.value)]);
}
"""
_FIELDS = {
    "plain": "{device: msg.payload.readings[0].device, at: msg.payload.readings[0].measured_at,"
    " value: msg.payload.readings[0].value}",
    "chirpstack": "{device: msg.payload.deviceInfo.devEui, at: msg.payload.time, value: msg.payload.object.volume_m3}",
}


class Missing(Exception):
    """Node-RED cannot be had here; the text says why."""


def cache() -> Path:
    """Where Node-RED is installed."""
    return Path(os.environ.get("CURBSTOP_BENCH_CACHE", "~/.cache/curbstop")).expanduser() / f"node-red-{VERSION}"


def installed() -> Path:
    """The folder with Node-RED in it, installed if need be. Raises Missing."""
    folder = cache()
    if shutil.which("npm") is None or shutil.which("node") is None:
        raise Missing("npm or node is not on this machine")
    if not (folder / "node_modules" / "node-red" / "red.js").exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--no-audit", "--no-fund", "--omit=dev", f"node-red@{VERSION}", "pg@8"]
        print(f"installing Node-RED {VERSION} from npm into {folder} …", flush=True)
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            raise Missing(f"npm could not install it: {done.stderr.strip().splitlines()[-1:]}")
    return folder


def version() -> str:
    """The version that is installed."""
    return str(json.loads((cache() / "node_modules/node-red/package.json").read_text())["version"])


def start(
    database_url: str, mqtt_url: str, *, client_id: str, topic: str, mix: str, batched: bool
) -> "subprocess.Popen[bytes]":
    """A running Node-RED that drains the session `client_id`."""
    folder = installed()
    parts = urlsplit(database_url)
    socket = parse_qs(parts.query).get("host", [parts.hostname or "localhost"])[0]
    pool = {"host": socket, "user": parts.username, "database": parts.path.strip("/"), "max": 10}
    if parts.port:
        pool["port"] = parts.port
    (folder / "settings.js").write_text(_SETTINGS % json.dumps(pool))
    code = _BATCHED % (_FIELDS[mix], BATCH) if batched else _ROW % _FIELDS[mix]
    host, _, port = mqtt_url.removeprefix("mqtt://").partition(":")
    nodes = [
        {"id": "tab", "type": "tab", "label": "bench"},
        {"id": "broker", "type": "mqtt-broker", "broker": host, "port": port, "clientid": client_id,
         "protocolVersion": "4", "keepalive": "60", "cleansession": False, "autoConnect": True},
        {"id": "in", "type": "mqtt in", "z": "tab", "topic": topic, "qos": "1", "datatype": "json", "broker": "broker",
         "inputs": 0, "wires": [["store"]]},
        {"id": "store", "type": "function", "z": "tab", "func": code, "outputs": 0, "wires": []},
    ]  # fmt: skip
    (folder / "flows.json").write_text(json.dumps(nodes))
    command = ["node", "node_modules/node-red/red.js", "--settings", "settings.js", "--userDir", str(folder)]
    return subprocess.Popen(command, cwd=folder, stdout=(folder / "log").open("wb"), stderr=subprocess.STDOUT)
