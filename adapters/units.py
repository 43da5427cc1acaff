"""Units of water volume, as devices spell them, and their exact size in cubic metres. Pure.

Factors: litre and cubic metre by definition; US gallon 231 in³, cubic foot 0.3048³ m³, imperial gallon 4.54609 l.
"""

import re
from decimal import Decimal

_CUBIC_FOOT = Decimal("0.028316846592")
_GALLON = Decimal("0.003785411784")

# Canonical unit -> cubic metres per unit.
FACTORS_M3: dict[str, Decimal] = {
    "m3": Decimal(1),
    "l": Decimal("0.001"),
    "ml": Decimal("0.000001"),
    "gal": _GALLON,
    "kgal": _GALLON * 1000,
    "mg": _GALLON * 1_000_000,
    "cf": _CUBIC_FOOT,
    "ccf": _CUBIC_FOOT * 100,
    "kcf": _CUBIC_FOOT * 1000,
    "imp_gal": Decimal("0.00454609"),
}

_SPELLINGS: dict[str, str] = {
    **{unit: unit for unit in FACTORS_M3 if unit != "mg"},
    **dict.fromkeys(
        ("m³", "m^3", "cbm", "cum", "cubic metre", "cubic metres", "cubic meter", "cubic meters", "kl"), "m3"
    ),
    **dict.fromkeys(("litre", "litres", "liter", "liters", "ltr", "lt", "dm3", "dm³"), "l"),
    **dict.fromkeys(("gallon", "gallons", "us gal", "usgal", "us gallon", "us gallons", "gals", "[gal_us]"), "gal"),
    **dict.fromkeys(("1000 gal", "1000 gallons", "kilogallon", "kilogallons", "tgal", "kgals"), "kgal"),
    **dict.fromkeys(("ft3", "ft³", "cuft", "cu ft", "cubic foot", "cubic feet"), "cf"),
    **dict.fromkeys(("hcf", "100 cf", "hundred cubic feet"), "ccf"),
    **dict.fromkeys(("imperial gallon", "imperial gallons", "imp gal", "[gal_br]"), "imp_gal"),
}


_WITH_UNIT = re.compile(r"([+-]?\d[\d.]*)\s*([^\d\s.].*)", re.ASCII)
_LONGEST = 60


def canonical(unit: str | None) -> str | None:
    """The unit's key in FACTORS_M3, or None for a spelling that is not known. A unit is never guessed.

    "Mg" and "MG" are left out on purpose: a million gallons to a utility, a megagram to everyone else.
    """
    return _SPELLINGS.get(unit.strip().lower()) if unit else None


def split(value: object) -> tuple[object, str | None]:
    """(number, unit) of a text like "5342 L" whose unit is known; anything else as it is, without a unit."""
    found = _WITH_UNIT.fullmatch(value.strip()) if isinstance(value, str) and len(value) <= _LONGEST else None
    return (found[1], found[2]) if found is not None and canonical(found[2]) else (value, None)


def to_m3(value: Decimal, unit: str | None, multiplier: Decimal = Decimal(1)) -> Decimal | None:
    """`value` × `multiplier` counted in `unit`, in cubic metres; None when the unit is not known."""
    known = canonical(unit)
    return None if known is None else value * multiplier * FACTORS_M3[known]
