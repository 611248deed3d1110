"""A week of taxi trips, one file a day, and a file that comes later with new, corrected, late and very late trips."""

import csv
import random
from datetime import datetime, timedelta
from pathlib import Path

HEADER = [
    "VendorID",
    "tpep_pickup_datetime",
    "tpep_dropoff_datetime",
    "passenger_count",
    "trip_distance",
    "PULocationID",
    "DOLocationID",
    "fare_amount",
    "tip_amount",
    "total_amount",
]
ZONES = [
    43,
    48,
    68,
    79,
    90,
    100,
    107,
    132,
    138,
    141,
    142,
    161,
    162,
    163,
    164,
    170,
    186,
    230,
    234,
    236,
    237,
    239,
    249,
    263,
]


def trip(draw: random.Random, pickup: datetime) -> list:
    distance = round(draw.lognormvariate(0.7, 0.7), 2)
    dropoff = pickup + timedelta(seconds=int(distance * draw.uniform(240, 420)) + 60)
    fare = round((3.0 + 2.9 * distance) * 20) * 5  # cents
    tip = draw.choice([0, 0, fare // 10, fare // 5])
    passengers = draw.choices([1, 2, 3, 4, ""], weights=[72, 15, 4, 3, 6])[0]
    money = [f"{cents / 100:.2f}" for cents in (fare, tip, fare + tip + 150)]
    return [
        draw.choice([1, 2]),
        pickup,
        dropoff,
        passengers,
        f"{distance:.2f}",
        draw.choice(ZONES),
        draw.choice(ZONES),
        *money,
    ]


def write(path: Path, trips: list) -> None:
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(HEADER)
        rows.writerows(trips)


def generate(folder: Path) -> None:
    draw = random.Random(6)
    (folder / "trips").mkdir()
    (folder / "later").mkdir()
    days = []
    for day in range(1, 9):
        start = datetime(2025, 1, day)
        moments = sorted(draw.randrange(86400) for _ in range(700))
        days.append([trip(draw, start + timedelta(seconds=moment)) for moment in moments])
    week, eighth = days[:7], days[7]
    # Sent twice: the first trips of a day stand in the day before's file, too.
    for earlier, later in zip(week, week[1:], strict=False):
        earlier.extend(later[:3])
    for day, trips in enumerate(week, start=1):
        write(folder / "trips" / f"trips-2025-01-{day:02}.csv", trips)

    last = max(row[1] for row in week[6])
    # Corrected: the tip was entered by hand afterwards. The six fields of the key are the same.
    corrected = [
        row[:8] + ["9.99", f"{float(row[7]) + 9.99 + 1.5:.2f}"]
        for row in week[6]
        if row[1] > last - timedelta(minutes=40)
    ]
    # Late: within the hour before the newest trip. Very late: two days before it.
    late = [trip(draw, last - timedelta(minutes=minutes)) for minutes in (5, 17, 31, 44, 58)]
    very_late = [trip(draw, last - timedelta(days=2, minutes=minutes)) for minutes in (3, 9)]
    write(folder / "later" / "trips-2025-01-08.csv", corrected + late + very_late + eighth)
