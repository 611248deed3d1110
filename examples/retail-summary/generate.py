"""Two years of a gift shop's invoices: last year's in a database, this year's as files.

Prices move from month to month and customers answer, each product in its own measure. Returns, samples without a price,
lines that were sent twice, unknown customers and missing descriptions are in it, as in life.
"""

import csv
import math
import random
import sys
from datetime import datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from engine import run_sql  # noqa: E402

# Stock code, description, price, elasticity, growth from one year to the next.
PRODUCTS = [
    ("20725", "LUNCH BAG RED RETROSPOT", 1.65, -1.8, 1.10),
    ("20727", "LUNCH BAG BLACK SKULL", 1.65, -1.6, 0.92),
    ("21034", "REX CASH+CARRY JUMBO SHOPPER", 0.95, -0.4, 1.00),
    ("21080", "SET/20 RED RETROSPOT PAPER NAPKINS", 0.85, -2.2, 1.15),
    ("21212", "PACK OF 72 RETROSPOT CAKE CASES", 0.55, -2.5, 0.85),
    ("21232", "STRAWBERRY CERAMIC TRINKET BOX", 1.25, -1.4, 0.75),
    ("21485", "RETROSPOT HEART HOT WATER BOTTLE", 4.95, -0.9, 1.30),
    ("21731", "RED TOADSTOOL LED NIGHT LIGHT", 1.65, -1.9, 1.05),
    ("21754", "HOME BUILDING BLOCK WORD", 5.95, -1.1, 0.80),
    ("21843", "RED RETROSPOT CAKE STAND", 10.95, -0.7, 1.20),
    ("21977", "PACK OF 60 PINK PAISLEY CAKE CASES", 0.55, -2.4, 0.90),
    ("22086", "PAPER CHAIN KIT 50'S CHRISTMAS", 2.95, -1.5, 1.40),
    ("22111", "SCOTTIE DOG HOT WATER BOTTLE", 4.95, -0.8, 1.10),
    ("22138", "BAKING SET 9 PIECE RETROSPOT", 4.95, -1.0, 0.95),
    ("22178", "VICTORIAN GLASS HANGING T-LIGHT", 1.25, -2.0, 1.25),
    ("22197", "SMALL POPCORN HOLDER", 0.85, -2.8, 1.60),
    ("22384", "LUNCH BAG PINK POLKADOT", 1.65, -1.7, 1.02),
    ("22386", "JUMBO BAG PINK POLKADOT", 2.08, -1.6, 1.12),
    ("22411", "JUMBO SHOPPER VINTAGE RED PAISLEY", 2.08, -1.5, 0.98),
    ("22423", "REGENCY CAKESTAND 3 TIER", 12.75, -0.6, 0.88),
    ("22457", "NATURAL SLATE HEART CHALKBOARD", 2.95, -1.2, 0.93),
    ("22469", "HEART OF WICKER SMALL", 1.65, -1.9, 1.08),
    ("22720", "SET OF 3 CAKE TINS PANTRY DESIGN", 4.95, -0.9, 1.18),
    ("22960", "JAM MAKING SET WITH JARS", 4.25, -1.3, 1.22),
    ("23203", "JUMBO BAG DOILEY PATTERNS", 2.08, -1.4, 1.70),
    ("47566", "PARTY BUNTING", 4.95, -1.0, 1.35),
    ("79321", "CHILLI LIGHTS", 5.75, -1.2, 0.97),
    ("82482", "WOODEN PICTURE FRAME WHITE FINISH", 2.55, -1.1, 0.86),
    ("84879", "ASSORTED COLOUR BIRD ORNAMENT", 1.69, -1.8, 1.04),
    ("85123A", "WHITE HANGING HEART T-LIGHT HOLDER", 2.95, -1.3, 1.06),
    ("85099B", "JUMBO BAG RED RETROSPOT", 2.08, -1.6, 1.09),
    # A fixed price: no elasticity can be told.
    ("DCGS01", "GIFT CARD", 10.00, 0.0, 1.00),
]
COUNTRIES = ["United Kingdom"] * 85 + ["Germany"] * 5 + ["France"] * 4 + ["EIRE"] * 4 + ["Netherlands"] * 2
# From December to November: the shop lives on autumn.
SEASON = [0.9, 0.6, 0.65, 0.8, 0.75, 0.85, 0.85, 0.8, 0.8, 1.2, 1.4, 1.7]
HEADER = ["Invoice", "StockCode", "Description", "Quantity", "InvoiceDate", "Price", "CustomerID", "Country"]


def year(draw: random.Random, first: int, customers: list, invoice: int, growing: bool) -> list:
    """The invoice lines from December of year `first` on, twelve months, in order of time."""
    lines = []
    for index, season in enumerate(SEASON):
        month, in_year = (11 + index) % 12 + 1, first + (1 if index else 0)
        start = datetime(in_year, month, 1)
        days = ((start + timedelta(days=32)).replace(day=1) - start).days
        factor = {code: draw.choice([0.85, 0.92, 1.0, 1.0, 1.08, 1.15]) for code, *_ in PRODUCTS}
        moments = sorted(draw.randrange(days * 86400) for _ in range(int(450 * season)))
        for moment in moments:
            invoice += 1
            when = (start + timedelta(seconds=moment)).replace(second=0)
            customer, country, size = draw.choices(customers, cum_weights=WEIGHTS)[0]
            if draw.random() < 0.12:
                customer = ""
            for code, description, price, elasticity, growth in draw.sample(PRODUCTS, draw.choice([1, 2, 3, 4, 5, 8])):
                moved = 1.0 if code == "DCGS01" else factor[code]
                mean = size * 6 * moved**elasticity * (growth if growing else 1.0)
                quantity = max(1, round(mean * draw.lognormvariate(-0.1, 0.45)))
                price = f"{price * moved:.2f}"
                if draw.random() < 0.003:
                    price = "0.00"
                if draw.random() < 0.005:
                    description = ""
                line = [str(invoice), code, description, quantity, when, price, customer, country]
                lines.append(line)
                if draw.random() < 0.002:
                    lines.append(line)
                if draw.random() < 0.02:
                    lines.append(
                        [
                            f"C{invoice}",
                            code,
                            description,
                            -quantity,
                            when + timedelta(days=3),
                            price,
                            customer,
                            country,
                        ]
                    )
    return lines


def write(path: Path, lines: list) -> None:
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(HEADER)
        rows.writerows(lines)


WEIGHTS: list[float] = []


def generate(folder: Path) -> None:
    draw = random.Random(5)
    customers = []
    for number in range(600):
        customers.append((12346 + number * 9, draw.choice(COUNTRIES), math.exp(draw.gauss(0, 0.5))))
        # A few buy every week, most a few times a year.
        WEIGHTS.append((WEIGHTS[-1] if WEIGHTS else 0) + draw.paretovariate(1.4))
    history = year(draw, 2009, customers, 489000, growing=False)
    recent = year(draw, 2010, customers, 536000, growing=True)
    # Entered late: some lines of the last days before the new year of business came with this year's file.
    cut = len(history) - 25
    recent = history[cut:] + recent
    history = history[:cut]

    (folder / "recent").mkdir()
    write(folder / "recent" / "orders-2011-h1.csv", [line for line in recent if line[4] < datetime(2011, 6, 1)])
    write(folder / "recent" / "orders-2011-h2.csv", [line for line in recent if line[4] >= datetime(2011, 6, 1)])
    (folder / "warehouse").mkdir()
    raw = folder / "history.csv"
    write(raw, history)
    run_sql(
        folder / "warehouse" / "e_commerce.duckdb",
        [
            "CREATE TABLE year_09_10 (Invoice VARCHAR, StockCode VARCHAR, Description VARCHAR, Quantity BIGINT,"
            " InvoiceDate TIMESTAMP, Price DECIMAL(10,2), CustomerID BIGINT, Country VARCHAR)",
            f"COPY year_09_10 FROM '{raw}' (HEADER)",
            "CHECKPOINT",
        ],
    )
    raw.unlink()
