"""Invented people, firms and street names for the simulated town. Any likeness is chance; phones are fictional ones.

Pure. Telephone numbers lie in the range 555-0100 … 555-0199 that North American numbering keeps for fiction.
"""

import numpy as np

_FIRST = (
    "Ada Alexis Amara Andreas Anna Ariadne Aylin Beatrix Chloe Christos Daphne Deniz Dimitra Eleni Elias Emre Eva "
    "Farida Fotis George Georgia Hanna Hector Helena Ioanna Irene Ivan Jasmin Kalia Katerina Kemal Kyriakos Lara Lefteris "
    "Leon Loukia Magda Marcus Maria Marina Maro Mehmet Melina Michael Milo Mira Natalia Nicos Noor Olga Orestes Panos "
    "Petra Philip Rania Rosa Samir Sofia Stavros Stella Tara Thalia Theo Vera Victor Xenia Yannis Yara Zeno Zoe"
).split()
_LAST = (
    "Achilleos Adamou Alexiou Amari Antoniou Aristidou Aydin Bakir Charalambous Christou Constanti Dag Demetriou Diakou "
    "Economou Efthymiou Eliades Fanari Georgiou Hadjis Haddad Ioannou Iordanou Kallis Karam Kattis Kaya Kleanthous "
    "Konstantinou Kyprianou Lambrou Leventis Loizou Makris Markou Mavros Michaelides Nikolaou Orphanou Panayi Papas "
    "Pavlou Petrides Photiou Pieris Polydorou Rossides Sahin Savvides Sergiou Sideris Simou Solea Spyrou Stylianou "
    "Tanis Theodorou Thomas Toumazou Tsangaris Vasiliou Vrahimis Yiannakou Yilmaz Zacharia Zenonos"
).split()
_TRADES = (
    "Bakery;Pharmacy;Laundry;Café;Grocery;Garage;Dental Clinic;Bookshop;Hotel;Taverna;Nursery;Print Shop;Hairdressing;"
    "Fish Market;Carpentry;Offices;Gym;Florist;Veterinary Clinic;Guest House"
).split(";")
_PLANTS = ("Juice Works", "Brewery", "Concrete Plant", "Dairy", "Textile Works", "Cannery")
_STREETS = (
    "Harbour;Castle;Cistern;Aqueduct;Carob;Olive;Lemon;Almond;Jasmine;Oleander;Cypress;Poplar;Mulberry;Myrtle;Saffron;"
    "Windmill;Lighthouse;Fountain;Market;Salt Lake;Old Mill;Station;Cathedral;Museum;Library;Theatre;Garden;Orchard;"
    "Vineyard;Quarry;Bridge;Riverbed;Spring;Well;Tower;Reservoir;Pumphouse;Meadow;Hilltop;Sunrise;Sunset;Seaview;Anchor;"
    "Compass;Sailmaker;Rope Walk;Cooper;Potter;Weaver;Mason;Smith;Baker;Fisher;Shepherd;Falcon;Heron;Swallow;Kingfisher;"
    "Partridge;Flamingo;Dolphin;Turtle;Coral;Pebble;Sandstone;Marble;Copper;Amber;Linden;Willow;Acacia;Juniper;Laurel;"
    "Thyme;Oregano;Rosemary;Fig;Pomegranate;Quince;Chestnut;Walnut;Maple;Elm;Alder;Bay;Cedar;Cove;Dune;Eagle;Fennel;Granary;"
    "Hawthorn;Iris;Lavender;Narcissus;Pine;Rampart;Terrace"
).split(";")


def street_names(count: int) -> list[str]:
    """Distinct names, the grandest first."""
    long, short = ("Avenue", "Street", "Road"), ("Lane", "Close", "Court")
    names = [f"{_STREETS[i % len(_STREETS)]} {long[(i // len(_STREETS) + i) % 3]}" for i in range(len(_STREETS))]
    names += [f"{name} {short[i % 3]}" for i, name in enumerate(_STREETS)]
    names += [f"Upper {name}" for name in names]
    return names[:count]


def person(random: np.random.Generator) -> str:
    """A first and a last name."""
    return f"{random.choice(_FIRST)} {random.choice(_LAST)}"


def business(random: np.random.Generator) -> str:
    """A small firm."""
    return f"{random.choice(_LAST)} {random.choice(_TRADES)}"


def plant(number: int) -> str:
    """A large user."""
    return f"L-Town {_PLANTS[number % len(_PLANTS)]}"


def phone(number: int) -> str:
    """The `number`-th fictional telephone number; distinct below 60,000."""
    area = 202 + (number // 100) % 600
    return f"+1{area}5550{100 + number % 100}"


def email(name: str, number: int) -> str:
    """An address in a domain that can never exist."""
    local = "".join(
        letter
        for letter in name.lower().replace(" ", ".")
        if letter.isascii() and letter in "abcdefghijklmnopqrstuvwxyz."
    )
    return f"{local}.{number}@l-town.example"
