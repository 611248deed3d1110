"""A year of orders, one file a month. Some orders stand in the file after their month; some have no quantity."""

import csv
import random
from collections import defaultdict
from datetime import datetime, timedelta
from pathlib import Path

PRODUCTS = [
    ("Espresso beans 1 kg", "18.90"),
    ("Filter paper 100 pcs", "4.25"),
    ("French press", "29.00"),
    ("Hand grinder", "54.50"),
    ("Milk jug", "16.75"),
    ("Travel mug", "21.30"),
]
# Gifts in November and December, little in summer.
SEASON = [0.8, 0.85, 0.95, 1.0, 1.0, 0.85, 0.7, 0.75, 1.0, 1.1, 1.6, 1.9]


def generate(folder: Path) -> None:
    draw = random.Random(2)
    files = defaultdict(list)
    number = 0
    for month in range(1, 13):
        start = datetime(2025, month, 1)
        end = datetime(2025 + month // 12, month % 12 + 1, 1)
        for _ in range(int(600 * SEASON[month - 1] * draw.uniform(0.95, 1.05))):
            number += 1
            ordered_at = start + timedelta(seconds=draw.randrange(int((end - start).total_seconds())))
            product, price = draw.choice(PRODUCTS)
            # Booked late: the order is in the next month's file. December's late ones have none yet.
            late = ordered_at > end - timedelta(days=1) and draw.random() < 0.3 and month < 12
            quantity = draw.choices([1, 2, 3, 6, ""], weights=[60, 22, 10, 6, 2])[0]
            region = draw.choices(["North", "South", "East", "West", ""], weights=[30, 25, 25, 19, 1])[0]
            files[month + late].append([f"O-{number:06}", ordered_at, region, product, quantity, price])
    (folder / "monthly").mkdir()
    for month, rows in files.items():
        with open(folder / "monthly" / f"orders-2025-{month:02}.csv", "w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["order_id", "ordered_at", "region", "product", "quantity", "unit_price"])
            table.writerows(sorted(rows, key=lambda row: (row[1], row[0])))
