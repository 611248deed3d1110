"""Two days of orders of a wholesaler: on the first every total is right, on the second some are not."""

import csv
import random
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

# Prices with four decimals: most totals need rounding, and no price is a whole binary fraction.
PRODUCTS = [
    ("Screw M4", "0.0375"),
    ("Washer M4", "0.0120"),
    ("Hinge", "1.1500"),
    ("Bracket", "0.8990"),
    ("Oil 1 l", "7.4500"),
]
CENT = Decimal("0.01")


def write(path: Path, draw: random.Random, count: int, spoil: bool) -> None:
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["order_id", "product", "unit_price", "quantity", "total"])
        for order in range(1, count + 1):
            product, price = draw.choice(PRODUCTS)
            quantity = draw.randrange(1, 2000)
            total = (Decimal(price) * quantity).quantize(CENT, ROUND_HALF_UP)
            if spoil and draw.random() < 0.008:
                # Off by a cent, digits swapped, comma lost, or nothing entered.
                total = draw.choice([total + CENT, total - CENT, total * 10, total + 9, ""])
            rows.writerow([f"W{order:05}", product, price, quantity, total])


def generate(folder: Path) -> None:
    draw = random.Random(4)
    (folder / "incoming").mkdir()
    write(folder / "incoming" / "orders-2026-11-19.csv", draw, 1800, spoil=False)
    write(folder / "incoming" / "orders-2026-11-20.csv", draw, 2200, spoil=True)
