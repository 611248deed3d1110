"""Orders of a shop with names and addresses, as a form delivers them: capitals, blanks and gaps included."""

import csv
import random
from datetime import datetime, timedelta
from pathlib import Path

FIRST = (
    "Ada Ben Clara David Elif Femi Greta Hugo Ines Jonas Karin Luca Mina Nils Olga Pablo Quinn Rosa Samir Thea".split()
)
LAST = "Abadi Bauer Costa Dubois Eriksen Fischer Garcia Hansen Ivanova Jansen Kowalski Lindqvist Moreau Novak Okafor".split()
STREETS = "Acorn Lane,Beech Road,Castle Street,Dock Avenue,Elm Grove,Ferry Street,Garden Walk,Hill Road".split(",")
PRODUCTS = [("Desk lamp", "39.90"), ("Notebook", "6.50"), ("Office chair", "189.00"), ("Pen set", "14.20")]


def generate(folder: Path) -> None:
    draw = random.Random(3)
    customers = []
    for number in range(300):
        first, last = draw.choice(FIRST), draw.choice(LAST)
        email = f"{first}.{last}{number}@{draw.choice(['mail.example', 'post.example', 'work.example'])}".lower()
        customers.append((f"{first} {last}", email, f"{draw.randrange(1, 200)} {draw.choice(STREETS)}"))
    with open(folder / "orders.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(
            [
                "order_id",
                "ordered_at",
                "customer_name",
                "customer_email",
                "delivery_address",
                "product",
                "quantity",
                "total",
            ]
        )
        for order in range(1, 1501):
            name, email, address = draw.choice(customers)
            # The same person types her address in capitals, with blanks around it, or not at all.
            typed = draw.choices([email, email.upper(), f"  {email} ", ""], weights=[80, 10, 7, 3])[0]
            product, price = draw.choice(PRODUCTS)
            quantity = draw.choice([1, 1, 1, 2, 3])
            ordered_at = datetime(2026, 10, 1) + timedelta(seconds=draw.randrange(31 * 86400))
            total = f"{quantity * int(price.replace('.', '')) / 100:.2f}"
            rows.writerow([order, ordered_at, name, typed, address, product, quantity, total])
