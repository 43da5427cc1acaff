"""Renew the vendored browser libraries: a maintainer's tool, never run at install or run time.

Writes `hub/static/vendor/`, `tests/browser/vendor/` and their lock, `hub/static/vendor/vendor.lock`. Packages come from
the configured npm client as `npm pack NAME@VERSION`; each tarball must have the SHA-256 that the lock names, or the run
stops before a byte is written. Needs npm. To take a new version: change `version` in PACKAGES, run with `--accept`, and
read the difference before committing it.

    python setup/fetch_vendor.py            # rebuild, tarballs must match the lock
    python setup/fetch_vendor.py --accept   # take new tarballs and write their hashes
"""

import argparse
import hashlib
import json
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENDOR = ROOT / "hub/static/vendor"
TEST_VENDOR = ROOT / "tests/browser/vendor"
LOCK = VENDOR / "vendor.lock"


@dataclass(frozen=True)
class Package:
    """One pinned npm package: which of its files go where, and under which licence."""

    name: str
    version: str
    licence: str
    files: dict[str, str] = field(default_factory=dict)
    for_tests: bool = False


PACKAGES = [
    Package(
        "maplibre-gl",
        "6.17.0",
        "BSD-3-Clause",
        {
            # The worker is found beside the module, so that `worker-src 'self'` is enough: no blob, no eval.
            "dist/maplibre-gl.mjs": "maplibre-gl/maplibre-gl.mjs",
            "dist/maplibre-gl-worker.mjs": "maplibre-gl/maplibre-gl-worker.mjs",
            "dist/maplibre-gl.css": "maplibre-gl/maplibre-gl.css",
            "LICENSE.txt": "maplibre-gl/LICENSE.txt",
        },
    ),
    Package("lit", "3.3.3", "BSD-3-Clause", {"LICENSE": "lit/LICENSE"}),
    Package("lit-html", "3.3.3", "BSD-3-Clause"),
    Package("lit-element", "4.2.2", "BSD-3-Clause"),
    Package("@lit/reactive-element", "2.1.2", "BSD-3-Clause"),
    Package(
        "@fontsource-variable/inter",
        "5.3.0",
        "OFL-1.1",
        {
            "files/inter-latin-wght-normal.woff2": "inter/inter-latin.woff2",
            "files/inter-latin-ext-wght-normal.woff2": "inter/inter-latin-ext.woff2",
            "LICENSE": "inter/LICENSE",
        },
    ),
    Package("echarts", "6.1.0", "Apache-2.0", {"LICENSE": "echarts/LICENSE", "NOTICE": "echarts/NOTICE"}),
    Package("zrender", "6.1.0", "BSD-3-Clause", {"LICENSE": "echarts/LICENSE-zrender"}),
    Package("tslib", "2.3.0", "0BSD"),
    # TrueType, for the PDFs that the hub writes: the browser's fonts cannot be embedded there.
    Package(
        "dejavu-fonts-ttf",
        "2.37.3",
        "Bitstream-Vera AND public domain",
        {
            "ttf/DejaVuSans.ttf": "dejavu/DejaVuSans.ttf",
            "ttf/DejaVuSans-Bold.ttf": "dejavu/DejaVuSans-Bold.ttf",
            "LICENSE": "dejavu/LICENSE",
        },
    ),
    Package(
        "axe-core",
        "4.14.1",
        "MPL-2.0",
        {
            "axe.min.js": "axe-core/axe.min.js",
            "LICENSE": "axe-core/LICENSE",
            "LICENSE-3RD-PARTY.txt": "axe-core/LICENSE-3RD-PARTY.txt",
        },
        for_tests=True,
    ),
]
BUNDLER = {"linux-x86_64": "@esbuild/linux-x64", "linux-aarch64": "@esbuild/linux-arm64"}
BUNDLER_VERSION = "0.28.2"
# Lit arrives as four packages of small modules: one file is one request, and needs no import map (an import map is
# inline script, which our content security policy forbids). `styleMap` stays out: its first render writes a style
# attribute, which the policy forbids too; bind the property `.style` instead.
LIT_ENTRY = """
export * from "lit";
export { repeat } from "lit/directives/repeat.js";
export { classMap } from "lit/directives/class-map.js";
export { ifDefined } from "lit/directives/if-defined.js";
export { live } from "lit/directives/live.js";
export { keyed } from "lit/directives/keyed.js";
export { ref, createRef } from "lit/directives/ref.js";
"""

# What the pages' charts use of ECharts, drawn as SVG: it prints as lines, and screen readers can be told of it.
ECHARTS_ENTRY = """
import * as echarts from "echarts/core";
import { BarChart, LineChart, ScatterChart, CustomChart } from "echarts/charts";
import {
  AriaComponent, DataZoomComponent, GridComponent, LegendComponent, MarkAreaComponent, MarkLineComponent,
  MarkPointComponent, TitleComponent, TooltipComponent,
} from "echarts/components";
import { SVGRenderer } from "echarts/renderers";
echarts.use([
  BarChart, LineChart, ScatterChart, CustomChart, AriaComponent, DataZoomComponent, GridComponent, LegendComponent,
  MarkAreaComponent, MarkLineComponent, MarkPointComponent, TitleComponent, TooltipComponent, SVGRenderer,
]);
export const { init, format, time, graphic } = echarts;
"""


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def pack(name: str, version: str, folder: Path) -> Path:
    """The tarball of one package, fetched through npm into `folder`."""
    out = subprocess.run(
        ["npm", "pack", f"{name}@{version}", "--json", "--pack-destination", str(folder)],
        check=True,
        capture_output=True,
        text=True,
    )
    described = json.loads(out.stdout)
    # npm answers a list, or (from version 11 on, for some packages) an object keyed by name.
    entry = described[0] if isinstance(described, list) else next(iter(described.values()))
    return folder / str(entry["filename"]).replace("@", "").replace("/", "-")


def unpack(tarball: Path, target: Path) -> None:
    """Extract a package so that its files lie directly in `target`."""
    with tarfile.open(tarball) as archive:
        archive.extractall(target.parent / f"{target.name}.tmp", filter="data")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(target.parent / f"{target.name}.tmp" / "package", target)
    shutil.rmtree(target.parent / f"{target.name}.tmp")


def bundle(text: str, modules: Path, esbuild: Path, out: Path) -> None:
    """One minified ES module of what the entry `text` exports."""
    entry = modules.parent / f"{out.stem}-entry.js"
    entry.write_text(text)
    out.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [
            str(esbuild),
            str(entry),
            "--bundle",
            "--format=esm",
            "--minify",
            "--target=es2022",
            "--legal-comments=eof",
            f"--outfile={out}",
        ],
        check=True,
        capture_output=True,
    )


def write_lock(packages: list[tuple[Package, str]], bundler: tuple[str, str], files: dict[str, str]) -> None:
    """The lock: each package with the hash of its tarball, each shipped file with its own."""
    lines = ["# Written by setup/fetch_vendor.py; a test compares every vendored file with it.", ""]
    for package, digest in packages:
        lines += [
            "[[package]]",
            f'name = "{package.name}"',
            f'version = "{package.version}"',
            f'licence = "{package.licence}"',
            f'tarball_sha256 = "{digest}"',
            "",
        ]
    name, digest = bundler
    lines += ["[bundler]", f'name = "{name}"', f'version = "{BUNDLER_VERSION}"', f'tarball_sha256 = "{digest}"', ""]
    lines += ["[files]", *(f'"{path}" = "{digest}"' for path, digest in sorted(files.items())), ""]
    LOCK.write_text("\n".join(lines))


def main() -> int:
    """Fetch, verify, bundle, copy, lock."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accept", action="store_true", help="take tarballs whose hash the lock does not name")
    accept = parser.parse_args().accept
    bundler_name = BUNDLER.get(f"{sys.platform}-{platform.machine()}")
    if bundler_name is None:
        print(f"No bundler is pinned for {sys.platform} on {platform.machine()}.", file=sys.stderr)
        return 1
    known: dict[tuple[str, str], str] = {}
    if LOCK.exists():
        lock = tomllib.loads(LOCK.read_text())
        known = {(p["name"], p["version"]): p["tarball_sha256"] for p in [*lock["package"], lock["bundler"]]}
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        modules = work / "node_modules"
        digests: dict[str, str] = {}
        for name, version in [*((p.name, p.version) for p in PACKAGES), (bundler_name, BUNDLER_VERSION)]:
            tarball = pack(name, version, work)
            digests[name] = sha256(tarball)
            if not accept and known.get((name, version)) != digests[name]:
                print(f"{name}@{version} has SHA-256 {digests[name]}, which is not the one locked.", file=sys.stderr)
                return 1
            unpack(tarball, modules / name)
        for folder in (VENDOR, TEST_VENDOR):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        for package in PACKAGES:
            base = TEST_VENDOR if package.for_tests else VENDOR
            for source, target in package.files.items():
                (base / target).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(modules / package.name / source, base / target)
        for text, out in ((LIT_ENTRY, "lit/lit.js"), (ECHARTS_ENTRY, "echarts/echarts.js")):
            bundle(text, modules, modules / bundler_name / "bin/esbuild", VENDOR / out)
        files = {
            str(path.relative_to(ROOT)): sha256(path)
            for folder in (VENDOR, TEST_VENDOR)
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path != LOCK
        }
        write_lock([(p, digests[p.name]) for p in PACKAGES], (bundler_name, digests[bundler_name]), files)
    print(f"{len(files)} files vendored, locked in {LOCK.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
