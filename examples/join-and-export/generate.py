"""A catalogue as JSON, one product a line, and orders as CSV. Some orders name a product that is not in the catalogue."""

import csv
import json
import random
from datetime import datetime, timedelta
from pathlib import Path

KINDS = {
    "audio": (["Headphones", "Speaker", "Turntable", "Microphone"], 40, 280),
    "kitchen": (["Kettle", "Toaster", "Blender", "Scale"], 15, 120),
    "garden": (["Spade", "Hose", "Lantern", "Planter"], 8, 90),
    "office": (["Chair", "Desk", "Lamp", "Shelf"], 25, 400),
}
BRANDS = ["Alder", "Birke", "Cèdre", "Dub & Co", "Ek, Nordic"]


def generate(folder: Path) -> None:
    draw = random.Random(7)
    products = []
    for number in range(1, 81):
        category = draw.choice(list(KINDS))
        nouns, low, high = KINDS[category]
        brand = draw.choice(BRANDS)
        product = {
            "product_id": number,
            "title": f"{draw.choice(nouns)} {draw.choice('ABCDEFG')}{draw.randrange(10, 99)}",
            "brand": brand if draw.random() > 0.05 else None,
            "category": category,
            "price": draw.randrange(low * 100, high * 100) / 100,
            # Nobody asks for it; the contract leaves it out.
            "tags": [category, brand.lower()],
        }
        products.append(product)
    with open(folder / "products.json", "w", encoding="utf-8") as file:
        file.writelines(json.dumps(product, ensure_ascii=False) + "\n" for product in products)
    with open(folder / "orders.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["order_id", "ordered_at", "customer_id", "product_id", "quantity", "discount_percent"])
        for order in range(1, 3001):
            ordered_at = datetime(2026, 9, 1) + timedelta(seconds=draw.randrange(61 * 86400))
            product = draw.randrange(1, 81) if draw.random() > 0.01 else draw.randrange(900, 910)
            discount = draw.choices(["", "5", "10", "12.5", "25"], weights=[60, 15, 15, 6, 4])[0]
            rows.writerow(
                [order, ordered_at, f"K{draw.randrange(1, 400):04}", product, draw.choice([1, 1, 2, 3, 10]), discount]
            )
