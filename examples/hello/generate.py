"""Rides of one day in a city: how long each took."""

import csv
import random
from datetime import datetime, timedelta
from pathlib import Path


def generate(folder: Path) -> None:
    draw = random.Random(1)
    start = datetime(2026, 11, 20)
    with open(folder / "rides.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["ride_id", "pickup_at", "dropoff_at", "kilometres"])
        for ride in range(1, 2001):
            # Fewer rides at night; two rush hours.
            hour = draw.choices(range(24), weights=[1] * 6 + [3, 6, 8, 5, 4, 4, 5, 5, 5, 5, 6, 8, 9, 7, 5, 4, 3, 2])[0]
            pickup = start + timedelta(hours=hour, seconds=draw.randrange(3600))
            kilometres = round(draw.lognormvariate(1.2, 0.6), 1)
            speed = 14 if hour in (8, 17, 18) else 22
            minutes = kilometres / speed * 60 * draw.uniform(0.8, 1.3) + draw.uniform(1, 4)
            dropoff = pickup + timedelta(seconds=round(minutes * 60))
            # Some meters were never switched off: a ride without an end.
            rows.writerow([ride, pickup, dropoff if draw.random() > 0.01 else "", kilometres])
