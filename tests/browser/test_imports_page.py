"""Files brought in from the console: what is sent, how far it is, what became of it, with every bad row."""

from pathlib import Path

import pytest
from playwright.sync_api import expect
from sqlalchemy import text

from hub.imports import runs
from tests.browser.conftest import PATIENCE_MS, SignIn, Town, Watch
from tests.browser.test_pages import in_every_look
from tests.conftest import Live

expect.set_options(timeout=PATIENCE_MS)


def test_a_file_is_brought_in_and_shows_how_far_it_is(
    live: Live, town: Town, sign_in: SignIn, watch: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "BEAT_SECONDS", 0.1)
    good, bad = tmp_path / "route 7 & 8.csv", tmp_path / "bad.csv"
    rows = [f"M{n % 6 + 1},2025-01-{n % 28 + 1:02}T{n // 28:02}:00:00Z,{100 + n}" for n in range(300)]
    good.write_text("\n".join(["meter,read_at,value", *rows, ""]))
    bad.write_text("meter,read_at,value\nM1,yesterday,1\nM9,2025-01-01,<b>\n")
    page = sign_in("billing", "/imports")
    expect(page.get_by_text("No file was brought in yet.")).to_be_visible()
    page.get_by_label("What is in the file?").select_option("readings")
    expect(page.get_by_text("Required: meter, read_at, value. Optional:")).to_be_visible()
    with live.database.transaction() as session:
        session.execute(text("LOCK TABLE reading IN SHARE MODE"))
        page.get_by_label("The file", exact=True).set_input_files(good)
        page.get_by_role("button", name="Import").press("Enter")
        expect(page.get_by_role("row", name="route 7 & 8.csv").get_by_text("of 300 rows")).to_be_visible()
        expect(page.get_by_role("progressbar", name="How far route 7 & 8.csv is")).to_be_visible()
        assert in_every_look(page) == []
        # whoever comes back finds it as far as it is
        page.reload()
        expect(page.get_by_role("row", name="route 7 & 8.csv").get_by_text("0 of 300 rows written")).to_be_visible()
    expect(page.get_by_text("300 rows: 300 new, 0 changed, 0 as before.").first).to_be_visible()

    page.get_by_label("What is in the file?").select_option("readings")
    page.get_by_label("The file", exact=True).set_input_files(bad)
    page.get_by_role("button", name="Import").click()
    expect(page.get_by_text("Nothing was stored: 3 faults.").first).to_be_visible()
    page.get_by_role("button", name="Bad rows").press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("yesterday")).to_be_visible()
    expect(dialog.get_by_text("<b>")).to_be_visible()
    assert in_every_look(page) == []
    with page.expect_download() as download:
        dialog.get_by_role("link", name="All of them as CSV").click()
    assert download.value.path().read_text().count("\n") == 4
