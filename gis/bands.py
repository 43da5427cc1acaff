"""Performance bands of the World Bank Institute, as printed in WB-EasyCalc 6.17 (sheets Matrix and Matrix (2)). Pure.

A value below a bound is in its band; above the last bound is D. `high_income` countries are judged by stricter bounds
than `low_middle_income` ones.
"""

BANDS = ("A1", "A2", "B", "C")
ILI = {"high_income": (1.5, 2.0, 4.0, 8.0), "low_middle_income": (2.0, 4.0, 8.0, 16.0)}
# Litres per connection and day, when the system is pressurised: bounds by average pressure of 10, 20, … 50 m.
REAL_LOSSES = {
    "high_income": (
        None,
        (25, 50, 100, 200),
        (40, 75, 150, 300),
        (50, 100, 200, 400),
        (60, 125, 250, 500),
    ),
    "low_middle_income": (
        (25, 50, 100, 200),
        (50, 100, 200, 400),
        (75, 150, 300, 600),
        (100, 200, 400, 800),
        (125, 250, 500, 1000),
    ),
}
NRW = {
    "high_income": (
        None,
        (50, 100, 200, 350),
        (65, 125, 250, 450),
        (75, 150, 300, 550),
        (85, 175, 350, 650),
    ),
    "low_middle_income": (
        (55, 110, 220, 400),
        (80, 160, 320, 600),
        (105, 210, 420, 800),
        (130, 260, 520, 1000),
        (155, 310, 620, 1200),
    ),
}
# Up to these average pressures, in m, the first four columns hold; beyond, the last.
COLUMNS = (15.0, 25.0, 35.0, 45.0)


def ili_band(ili: float, countries: str) -> str:
    """The band of an infrastructure leakage index."""
    return _band(ili, ILI[countries])


def loss_band(litres_per_connection_day: float, pressure_m: float, table: str, countries: str) -> str | None:
    """The band of `real_losses` or `nrw` in l/connection/day when pressurised; None where the table has no column."""
    tables = {"real_losses": REAL_LOSSES, "nrw": NRW}
    bounds = tables[table][countries][sum(pressure_m > bound for bound in COLUMNS)]
    return None if bounds is None else _band(litres_per_connection_day, bounds)


def _band(value: float, bounds: tuple[float, ...]) -> str:
    return next((band for band, bound in zip(BANDS, bounds, strict=True) if value < bound), "D")
