"""A price list, orders of the days before there were events, and events that a shop would send."""

import csv
import json
import random
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

PRICES = {"Screw M4": "0.35", "Hinge": "1.15", "Bracket": "0.90", "Oil 1 l": "7.45", "Hand drill": "64.00"}
EVENTS = 20
# Its total is wrong.
WRONG = 1017


def orders(draw: random.Random, first: int, count: int, start: datetime) -> list[dict]:
    made = []
    for number in range(first, first + count):
        start += timedelta(seconds=draw.randrange(30, 3600))
        product = draw.choice(list(PRICES))
        quantity = draw.randrange(1, 200)
        total = Decimal(PRICES[product]) * quantity + (Decimal("10.00") if number == WRONG else 0)
        made.append(
            {
                "order_id": f"O-{number}",
                "ordered_at": start.isoformat(),
                "product": product,
                "quantity": quantity,
                # A text: as a number of JSON, cents would pass through binary fractions.
                "total": str(total),
            }
        )
    return made


def generate(folder: Path) -> None:
    draw = random.Random(8)
    with open(folder / "prices.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["product", "unit_price"])
        table.writerows(PRICES.items())
    (folder / "created").mkdir()
    before = orders(draw, 900, 100, datetime(2026, 11, 18, 8))
    with open(folder / "created" / "orders-before.csv", "w", newline="") as file:
        table = csv.DictWriter(file, list(before[0]))
        table.writeheader()
        table.writerows(before)
    (folder / "events").mkdir()
    for order in orders(draw, 1000, EVENTS, datetime(2026, 11, 20, 8)):
        event = {
            "specversion": "1.0",
            "id": f"created-{order['order_id']}",
            "source": "/shop",
            "type": "com.example.order.created",
            "datacontenttype": "application/json",
            "data": order,
        }
        (folder / "events" / f"{order['order_id']}.json").write_text(json.dumps(event, indent=2) + "\n")
