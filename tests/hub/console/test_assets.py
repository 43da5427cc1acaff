"""What the browser is given: vendored files as locked and licensed, readable colours, no address elsewhere."""

import hashlib
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
VENDOR = ROOT / "hub/static/vendor"
CONSOLE = ROOT / "hub/console"
LOCK = tomllib.loads((VENDOR / "vendor.lock").read_text(encoding="utf-8"))


def test_vendored_files_are_those_of_the_lock() -> None:
    found = {
        str(path.relative_to(ROOT)): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in (VENDOR, ROOT / "tests/browser/vendor")
        for path in folder.rglob("*")
        if path.is_file() and path.name != "vendor.lock"
    }
    assert found == LOCK["files"]


def test_every_vendored_folder_has_its_licence() -> None:
    folders = {str(Path(path).parent) for path in LOCK["files"]}
    licensed = {str(Path(path).parent) for path in LOCK["files"] if Path(path).name.startswith("LICENSE")}
    assert folders == licensed
    assert all(package["licence"] for package in LOCK["package"])


def test_pages_name_no_address_elsewhere() -> None:
    for path in CONSOLE.rglob("*"):
        if path.suffix in (".js", ".css", ".html", ".svg"):
            urls = re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", path.read_text(encoding="utf-8"))
            assert [url for url in urls if "www.w3.org" not in url] == [], path.name


def test_markup_has_nothing_inline_that_the_policy_forbids() -> None:
    for path in (CONSOLE / "templates").glob("*.html"):
        page = path.read_text(encoding="utf-8")
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", page), path.name
        assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", page)), path.name
    for path in (CONSOLE / "static/js").glob("*.js"):
        assert not re.search(r"[\s\"']style=[$\"'{]|unsafeHTML|innerHTML|eval\(", path.read_text(encoding="utf-8")), (
            path.name
        )


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2.2)."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours (WCAG 2.2)."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_text_can_be_read_on_every_ground_it_stands_on() -> None:
    css = (CONSOLE / "static/css/tokens.css").read_text(encoding="utf-8")
    tokens = dict(re.findall(r"--([\w-]+): light-dark\((#\w{6}, #\w{6})\);", css))
    grounds = {"ink": ["bg", "surface", "sunken", "hover", "accent-soft", "warn-soft", "danger-soft"]}
    grounds["ink-2"] = ["bg", "surface", "sunken", "hover", "accent-soft", "held-soft", "danger-soft"]
    grounds["accent"] = ["surface", "bg", "accent-soft"]
    grounds["on-accent"], grounds["on-danger"], grounds["on-cluster"] = ["accent"], ["danger"], ["map-cluster"]
    for status in re.findall(r"--(\w+)-soft:", css):
        grounds.setdefault(status, []).extend([f"{status}-soft", "surface"])
    grounds["map-label"] = ["map-halo", "map-zone-fill"]
    weak = []
    for ink, below in grounds.items():
        for ground in below:
            for scheme in (0, 1):
                ratio = contrast(tokens[ink].split(", ")[scheme], tokens[ground].split(", ")[scheme])
                if ratio < 4.5:
                    weak.append(f"{ink} on {ground}, {('light', 'dark')[scheme]}: {ratio:.2f}")
    # edges of fields: non-text contrast
    for scheme in (0, 1):
        if contrast(tokens["edge"].split(", ")[scheme], tokens["surface"].split(", ")[scheme]) < 3:
            weak.append(f"edge, {('light', 'dark')[scheme]}")
    assert weak == []
