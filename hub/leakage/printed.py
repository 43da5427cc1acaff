"""Pages for paper: what every PDF of the hub shares (fonts, headings, tables), and the water balance as one.

Writes nothing but its answer. The font is shipped with the hub, so that any name of a street can be printed.
"""

import io
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from reportlab.graphics.shapes import Drawing, Rect, String
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4, landscape
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import (
    Flowable,
    KeepTogether,
    PageBreak,
    Paragraph,
    SimpleDocTemplate,
    Spacer,
    Table,
    TableStyle,
)

FONTS = Path(__file__).parent.parent / "static/vendor/dejavu"
INK, GREY, RULE, SHADE = (colors.HexColor(tone) for tone in ("#1c2733", "#51606f", "#c4ced8", "#eef2f6"))
# the parts of a bar: billed, authorised but unbilled, apparent losses, real losses
PARTS = (("billed", "#2b6cb0"), ("unbilled", "#8fb8de"), ("apparent", "#e0a63a"), ("real_losses", "#b5402a"))
NAMES = {
    "billed": "billed",
    "unbilled": "unbilled, authorised",
    "apparent": "apparent losses",
    "real_losses": "real losses",
}


def _styles() -> dict[str, ParagraphStyle]:
    if "DejaVu" not in pdfmetrics.getRegisteredFontNames():
        pdfmetrics.registerFont(TTFont("DejaVu", str(FONTS / "DejaVuSans.ttf")))
        pdfmetrics.registerFont(TTFont("DejaVu-Bold", str(FONTS / "DejaVuSans-Bold.ttf")))
        pdfmetrics.registerFontFamily("DejaVu", normal="DejaVu", bold="DejaVu-Bold")
    text = ParagraphStyle("text", fontName="DejaVu", fontSize=8.5, leading=12, textColor=INK)
    return {
        "text": text,
        "small": ParagraphStyle("small", parent=text, fontSize=7, leading=9.5, textColor=GREY),
        "number": ParagraphStyle("number", parent=text, alignment=2),
        "title": ParagraphStyle("title", parent=text, fontName="DejaVu-Bold", fontSize=16, leading=21, spaceAfter=2),
        "head": ParagraphStyle("head", parent=text, fontName="DejaVu-Bold", fontSize=11, leading=15, spaceBefore=10),
    }


def text(value: object, style: str = "text", *, indent: int = 0) -> Paragraph:
    """A paragraph of plain text, whatever characters it holds; `indent` in steps."""
    chosen = _styles()[style]
    if indent:
        chosen = ParagraphStyle(f"{style}{indent}", parent=chosen, leftIndent=indent * 4 * mm)
    return Paragraph(escape("".join(c if c.isprintable() else " " for c in str(value))), chosen)


def table(rows: Sequence[Sequence[Any]], widths: Sequence[float] | None = None, *, last_strong: bool = False) -> Table:
    """Rows under a head line; numbers stand right, everything else left. `widths` in millimetres."""
    body = [[_cell(cell) for cell in row] for row in rows]
    for at, cell in enumerate(body[1] if len(body) > 1 else ()):
        # a head stands where its figures stand
        if isinstance(cell, Paragraph) and cell.style.alignment == 2:
            body[0][at] = text(rows[0][at], "number")
    made = Table(body, None if widths is None else [width * mm for width in widths], repeatRows=1, hAlign="LEFT")
    style: list[tuple[Any, ...]] = [
        ("BACKGROUND", (0, 0), (-1, 0), SHADE),
        ("LINEBELOW", (0, 0), (-1, -1), 0.4, RULE),
        ("LINEBELOW", (0, 0), (-1, 0), 1, INK),
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), 4),
        ("RIGHTPADDING", (0, 0), (-1, -1), 4),
        ("TOPPADDING", (0, 0), (-1, -1), 2),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 3),
    ]
    if last_strong:
        style.append(("LINEABOVE", (0, -1), (-1, -1), 1, INK))
    made.setStyle(TableStyle(style))
    return made


def _cell(cell: Any) -> Flowable:
    if isinstance(cell, Flowable):
        return cell
    return text(figure(cell), "number") if isinstance(cell, int | float) or cell is None else text(cell)


def figure(value: float | None, digits: int = 0) -> str:
    """A number for people, an en dash where it is not known."""
    return "–" if value is None else f"{value:,.{digits}f}"


def document(title: str, subtitle: str, story: Iterable[Flowable], *, wide: bool = True) -> bytes:
    """A PDF with title, body and numbered pages."""
    out = io.BytesIO()
    page = landscape(A4) if wide else A4
    made = SimpleDocTemplate(
        out, pagesize=page, title=title, author="Curbstop", leftMargin=15 * mm, rightMargin=15 * mm,
        topMargin=14 * mm, bottomMargin=16 * mm,
    )  # fmt: skip

    def foot(canvas: Any, page_of: Any) -> None:
        canvas.setFont("DejaVu", 7)
        canvas.setFillColor(GREY)
        canvas.drawString(15 * mm, 9 * mm, f"{title} · {subtitle}"[:140])
        canvas.drawRightString(page[0] - 15 * mm, 9 * mm, f"page {page_of.page}")

    body = [text(title, "title"), text(subtitle, "small"), Spacer(1, 4 * mm), *story]
    made.build(body, onFirstPage=foot, onLaterPages=foot)
    return out.getvalue()


def balance_table(found: Sequence[dict[str, Any]]) -> list[Flowable]:
    """All zones of a report in one table, each with a bar of its parts, and the key of the bars."""
    rows: list[list[Any]] = [
        [
            "Zone",
            "Input m³",
            "Billed m³",
            "Unbilled m³",
            "NRW m³",
            "Losses m³",
            "95 % limits m³",
            "%",
            "Coverage",
            "Share of input",
        ]
    ]
    for one in found:
        low, high = one["limits_95"].get("water_losses", (None, None))
        rows.append(
            [
                f"{one['zone'] or ''} {one['name']}".strip(),
                one["system_input"], one["billed"], one["unbilled"], one["nrw"], one["water_losses"],
                text(f"{figure(low)} … {figure(high)}", "number"),
                text(figure(one["loss_pct"], 1), "number"),
                text(f"{100 * one['coverage']['overall']:.0f} %", "number"),
                _bar(one),
            ]
        )  # fmt: skip
    widths = (46, 25, 25, 22, 22, 22, 34, 12, 18, 41)
    whole = bool(found) and found[-1]["zone"] is None
    return [table(rows, widths, last_strong=whole), Spacer(1, 3 * mm), _key()]


def balances(found: Sequence[dict[str, Any]], first: date, last: date, *, utility: str) -> bytes:
    """A report of balances as a PDF: all zones in one table with bars, then each zone's M36 table on a page."""
    story = balance_table(found)
    for one in found:
        story += [PageBreak(), *_m36(one)]
    return document("Water balance", f"{utility} · {first} to {last}, the last day not included", story)


def _bar(one: dict[str, Any], width: float = 39 * mm) -> Drawing:
    made = Drawing(width, 4 * mm)
    whole = one["system_input"]
    if not whole or whole <= 0:
        return made
    at = 0.0
    for name, tone in PARTS:
        part = max(0.0, min(1.0, (one[name] or 0.0) / whole)) * width
        part = min(part, width - at)
        made.add(Rect(at, 0.6 * mm, part, 3 * mm, fillColor=colors.HexColor(tone), strokeColor=None))
        at += part
    return made


def _key() -> Drawing:
    made = Drawing(200 * mm, 5 * mm)
    at = 0.0
    for name, tone in PARTS:
        made.add(Rect(at, 1 * mm, 3 * mm, 3 * mm, fillColor=colors.HexColor(tone), strokeColor=None))
        made.add(String(at + 4.5 * mm, 1.2 * mm, NAMES[name], fontName="DejaVu", fontSize=7, fillColor=GREY))
        at += 45 * mm
    return made


def m36_rows(one: dict[str, Any]) -> list[tuple[int, str, float | None, list[float] | None]]:
    """The M36 water balance of a document as (depth, name, m³, 95 % limits), from the whole to its parts."""
    parts, limits = one["components"], one["limits_95"]
    water = [
        (0, "System input", one["system_input"], limits.get("system_input")),
        (1, "Authorised consumption", one["authorised"], None),
        (2, "Billed", one["billed"], None),
        (3, "Billed metered", parts["billed_metered_m3"], None),
        (3, "Billed unmetered", parts["billed_unmetered_m3"], None),
        (2, "Unbilled", one["unbilled"], None),
        (3, "Unbilled metered", parts["unbilled_metered_m3"], None),
        (3, "Unbilled unmetered", parts["unbilled_unmetered_m3"], None),
        (1, "Water losses", one["water_losses"], limits.get("water_losses")),
        (2, "Apparent losses", one["apparent"], limits.get("apparent")),
        (3, "Unauthorised consumption", one["unauthorised"], None),
        (3, "Customer meter inaccuracy", one["meter_inaccuracy"], None),
        (3, "Data handling errors", parts["data_handling_m3"], None),
        (2, "Real losses", one["real_losses"], limits.get("real_losses")),
    ]
    return [*water, (0, "Non-revenue water", one["nrw"], limits.get("nrw"))]


def _m36(one: dict[str, Any]) -> list[Flowable]:
    rows: list[list[Any]] = [["M36 water balance", "m³", "95 % limits m³", "% of input"]]
    whole = one["system_input"]
    for depth, name, m3, limits in m36_rows(one):
        share = None if m3 is None or not whole else 100 * m3 / whole
        between = "" if not limits else f"{figure(limits[0])} … {figure(limits[1])}"
        rows.append([text(name, indent=depth), m3, text(between, "number"), text(figure(share, 1), "number")])
    meters: list[list[Any]] = [
        ["Meter at the edge", "", "Registered m³", "Filled m³", "Error %", "Corrected m³", "Coverage"]
    ]
    meters += [
        [
            flow["meter"], f"{flow['direction']} {flow['other_zone'] or ''}", flow["registered_m3"], flow["filled_m3"],
            text(figure(flow["error_pct"], 2), "number"), flow["corrected_m3"],
            text(f"{100 * flow['coverage']:.0f} %", "number"),
        ]
        for flow in one["flows"]
    ]  # fmt: skip
    coverage = one["coverage"]
    facts = [
        f"Places: {coverage['points']:,}, of which {coverage['points_from_bills']:,} by bill,"
        f" {coverage['points_from_registers']:,} by register, {coverage['points_without_data']:,} without data.",
        f"Data coverage: inflow {100 * coverage['inflow']:.0f} %, overall {100 * coverage['overall']:.0f} %."
        f" Revision {one.get('revision', '–')}.",
        *one["notes"],
    ]
    return [
        text(f"{one['zone'] or ''} {one['name']}".strip(), "head"),
        Spacer(1, 2 * mm),
        KeepTogether(table(rows, (90, 35, 55, 25))),
        Spacer(1, 4 * mm),
        *([table(meters, (50, 30, 32, 28, 20, 32, 22))] if len(meters) > 1 else []),
        Spacer(1, 3 * mm),
        *(text(fact, "small") for fact in facts),
    ]
