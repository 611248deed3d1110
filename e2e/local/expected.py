"""What the examples must come to, calculated from their data by pandas and Python's own arithmetic: no SQL, no DuckDB
(but to read the history out of its database file), and nothing of Pintail.

Every function takes the example's `data` folder and gives frames with the columns and the order of the result.
"""

import hashlib
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import duckdb
import numpy
import pandas

CENT = Decimal("0.01")


def read_text(path: Path) -> pandas.DataFrame:
    """A CSV file with every field as text; empty fields are missing."""
    return pandas.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])


def decimal(text) -> Decimal | None:
    return None if pandas.isna(text) else Decimal(text)


# --- hello


def trip_time(data: Path) -> tuple[int, float]:
    """Rides with an end, and their mean minutes, rounded to two decimals."""
    rides = pandas.read_csv(data / "rides.csv", parse_dates=["pickup_at", "dropoff_at"]).dropna(subset=["dropoff_at"])
    minutes = (rides.dropoff_at - rides.pickup_at).dt.total_seconds().mean() / 60
    return len(rides), round(float(minutes), 2)


# --- monthly-report


def monthly_volume(data: Path, year: int) -> pandas.DataFrame:
    parts = [read_text(path).assign(file=path.name) for path in sorted((data / "monthly").glob("orders-*.csv"))]
    orders = pandas.concat(parts)
    orders["ordered_at"] = pandas.to_datetime(orders.ordered_at)
    orders = orders[orders.ordered_at.dt.year == year]
    orders["month"] = orders.ordered_at.dt.strftime("%Y-%m")
    rows = []
    for month, group in orders.groupby("month"):
        sold = group.dropna(subset=["quantity"])
        revenue = sum((int(q) * Decimal(p) for q, p in zip(sold.quantity, sold.unit_price, strict=True)), Decimal(0))
        rows.append(
            {
                "month": month,
                "orders": len(group),
                "pieces": sum(int(quantity) for quantity in sold.quantity),
                "revenue": revenue,
                "without_quantity": int(group.quantity.isna().sum()),
                "booked_late": int((group.file != f"orders-{month}.csv").sum()),
            }
        )
    return pandas.DataFrame(sorted(rows, key=lambda row: (-row["revenue"], row["month"])))


# --- mask-personal-data


def masked_orders(data: Path, pepper: str) -> pandas.DataFrame:
    orders = read_text(data / "orders.csv")

    def digest(function, text, before=""):
        return None if pandas.isna(text) else function((before + text.strip(" ").lower()).encode()).hexdigest()

    return pandas.DataFrame(
        {
            "order_id": orders.order_id.astype("int64"),
            "ordered_at": pandas.to_datetime(orders.ordered_at),
            "product": orders["product"],
            "quantity": orders.quantity.astype("int64"),
            "total": [Decimal(total) for total in orders.total],
            "customer_name_hash": [digest(hashlib.md5, name) for name in orders.customer_name],
            "customer_email_hash": [digest(hashlib.md5, email) for email in orders.customer_email],
            "customer_key": [digest(hashlib.sha256, email, pepper + "|") for email in orders.customer_email],
        }
    )


def customers(masked: pandas.DataFrame) -> pandas.DataFrame:
    rows = [
        {"customer_key": key, "orders": len(group), "spent": sum(group.total, Decimal(0))}
        for key, group in masked.dropna(subset=["customer_key"]).groupby("customer_key")
    ]
    return pandas.DataFrame(sorted(rows, key=lambda row: (-row["spent"], row["customer_key"])))


# --- anomaly-check


def anomalies(path: Path) -> pandas.DataFrame:
    rows = []
    for order in read_text(path).itertuples():
        expected = (Decimal(order.unit_price) * int(order.quantity)).quantize(CENT, ROUND_HALF_UP)
        total = decimal(order.total)
        if total is None or total != expected:
            rows.append(
                {
                    "file": path.name,
                    "order_id": order.order_id,
                    "product": order.product,
                    "unit_price": Decimal(order.unit_price),
                    "quantity": int(order.quantity),
                    "total": total,
                    "expected": expected,
                }
            )
    return pandas.DataFrame(sorted(rows, key=lambda row: row["order_id"]))


# --- event-driven


def checked_orders(data: Path) -> pandas.DataFrame:
    orders, prices = read_text(data / "created" / "orders-before.csv"), read_text(data / "prices.csv")
    price = {row.product: Decimal(row.unit_price) for row in prices.itertuples()}
    rows = []
    for order in orders.itertuples():
        expected = price[order.product] * int(order.quantity)
        total = Decimal(order.total)
        rows.append(
            {
                "order_id": order.order_id,
                "ordered_at": pandas.to_datetime(order.ordered_at),
                "product": order.product,
                "quantity": int(order.quantity),
                "total": total,
                "expected": expected,
                "is_right": total == expected,
            }
        )
    return pandas.DataFrame(sorted(rows, key=lambda row: row["order_id"]))


# --- retail-summary


@dataclass
class Retail:
    recent: pandas.DataFrame
    trends: pandas.DataFrame
    monthly: pandas.DataFrame
    elasticity: pandas.DataFrame
    segments: pandas.DataFrame


def history(data: Path) -> pandas.DataFrame:
    with duckdb.connect(str(data / "warehouse" / "e_commerce.duckdb"), read_only=True) as database:
        lines = database.table("year_09_10").fetchall()
    columns = ["Invoice", "StockCode", "Description", "Quantity", "InvoiceDate", "Price", "CustomerID", "Country"]
    return pandas.DataFrame(lines, columns=columns)


def recent_lines(data: Path) -> pandas.DataFrame:
    lines = pandas.concat([read_text(path) for path in sorted((data / "recent").glob("*.csv"))])
    lines["Quantity"] = lines.Quantity.astype("int64")
    lines["InvoiceDate"] = pandas.to_datetime(lines.InvoiceDate)
    lines["Price"] = [Decimal(price) for price in lines.Price]
    lines["CustomerID"] = [None if pandas.isna(number) else int(number) for number in lines.CustomerID]
    sold = (lines.Quantity > 0) & (lines.Price > 0) & ~lines.Invoice.str.startswith("C")
    return lines[sold].drop_duplicates().reset_index(drop=True)


def amount(lines: pandas.DataFrame) -> list[Decimal]:
    return [int(quantity) * price for quantity, price in zip(lines.Quantity, lines.Price, strict=True)]


def retail(data: Path, min_quantity: int = 0, dormant_before: str = "2011-05-01") -> Retail:
    old, new = history(data), recent_lines(data)
    for lines in (old, new):
        lines["amount"] = amount(lines)
        lines["month"] = lines.InvoiceDate.dt.to_period("M")
    old_sold = old[(old.Quantity > min_quantity) & (old.Price > 0)]
    new_sold = new[new.Quantity > min_quantity]
    both = pandas.concat([old_sold, new_sold])
    return Retail(
        recent=new.drop(columns=["amount", "month"]),
        trends=trends(old_sold, new_sold),
        monthly=monthly(old_sold, new_sold),
        elasticity=elasticity(both),
        segments=segments(pandas.concat([old[(old.Quantity > 0) & (old.Price > 0)], new]), dormant_before),
    )


def trends(old: pandas.DataFrame, new: pandas.DataFrame) -> pandas.DataFrame:
    rows = []
    for code in sorted(set(old.StockCode) & set(new.StockCode)):
        before, after = old[old.StockCode == code], new[new.StockCode == code]
        rows.append(
            {
                "stock_code": code,
                "description": after.Description.dropna().max(),
                "historical": before.Quantity.mean(),
                "recent": after.Quantity.mean(),
                "change": after.Quantity.mean() - before.Quantity.mean(),
                "historical_revenue": sum(before.amount, Decimal(0)),
                "recent_revenue": sum(after.amount, Decimal(0)),
            }
        )
    return pandas.DataFrame(sorted(rows, key=lambda row: (-row["change"], row["stock_code"])))


def monthly(old: pandas.DataFrame, new: pandas.DataFrame) -> pandas.DataFrame:
    before = {period + 12: sum(group.amount, Decimal(0)) for period, group in old.groupby("month")}
    after = {
        period: sum(group.amount, Decimal(0)) for period, group in new[new.InvoiceDate >= "2010-12-01"].groupby("month")
    }
    months = sorted(set(before) | set(after))
    return pandas.DataFrame([{"month": str(m), "last_year": before.get(m), "this_year": after.get(m)} for m in months])


def elasticity(lines: pandas.DataFrame) -> pandas.DataFrame:
    rows = []
    for code, product in lines.groupby("StockCode"):
        months = product.groupby("month").agg(
            price=("Price", lambda prices: float(sum(prices, Decimal(0))) / len(prices)), pieces=("Quantity", "mean")
        )
        price, pieces = numpy.log(months.price.to_numpy()), numpy.log(months.pieces.to_numpy())
        if price.max() > price.min():
            covariance = ((price - price.mean()) * (pieces - pieces.mean())).mean()
            rows.append(
                {
                    "stock_code": code,
                    "months": len(months),
                    "correlation": covariance / (price.std() * pieces.std()),
                    "elasticity": covariance / price.var(),
                }
            )
    return pandas.DataFrame(sorted(rows, key=lambda row: (row["elasticity"], row["stock_code"])))


def segments(lines: pandas.DataFrame, dormant_before: str) -> pandas.DataFrame:
    found: dict[str, list] = {}
    for _, group in lines.dropna(subset=["CustomerID"]).groupby("CustomerID"):
        orders, spent = group.Invoice.nunique(), sum(group.amount, Decimal(0))
        if group.InvoiceDate.max() < pandas.Timestamp(dormant_before):
            segment = "Dormant"
        elif orders >= 30 and spent >= 5000:
            segment = "Champions"
        else:
            segment = "Loyal" if orders >= 12 else "Occasional"
        found.setdefault(segment, []).append((orders, spent))
    rows = [
        {
            "segment": segment,
            "customers": len(members),
            "orders": sum(orders for orders, _ in members),
            "revenue": sum((spent for _, spent in members), Decimal(0)),
        }
        for segment, members in found.items()
    ]
    return pandas.DataFrame(sorted(rows, key=lambda row: (-row["revenue"], row["segment"])))


# --- incremental-load


def trips(files: list[Path]) -> pandas.DataFrame:
    """What the query of the load gives for these files, one row a line."""
    parts = [read_text(path).assign(source_file=path.name) for path in sorted(files)]
    lines = pandas.concat(parts, ignore_index=True)

    def key(line) -> str:
        six = (
            line.VendorID,
            line.tpep_pickup_datetime,
            line.tpep_dropoff_datetime,
            line.PULocationID,
            line.DOLocationID,
            line.trip_distance,
        )
        return hashlib.md5("|".join("" if pandas.isna(field) else field for field in six).encode()).hexdigest()

    return pandas.DataFrame(
        {
            "trip_id": [key(line) for line in lines.itertuples()],
            "pickup_at": pandas.to_datetime(lines.tpep_pickup_datetime),
            "dropoff_at": pandas.to_datetime(lines.tpep_dropoff_datetime),
            "passenger_count": [None if pandas.isna(count) else int(count) for count in lines.passenger_count],
            "trip_distance": [decimal(text) for text in lines.trip_distance],
            "pickup_zone": lines.PULocationID.astype("int64"),
            "dropoff_zone": lines.DOLocationID.astype("int64"),
            "fare_amount": [decimal(text) for text in lines.fare_amount],
            "tip_amount": [decimal(text) for text in lines.tip_amount],
            "total_amount": [decimal(text) for text in lines.total_amount],
            "source_file": lines.source_file,
        }
    )


@dataclass
class Loaded:
    """A table by key as it stands after a load, and what the load did."""

    table: dict[str, tuple]
    watermark: pandas.Timestamp | None
    inserted: int
    updated: int


def load(before: Loaded | None, files: list[Path], until: str | None = None) -> Loaded:
    """One incremental load by the rules of the manifest: overlap of an hour, the later file wins."""
    table = dict(before.table) if before else {}
    watermark = before.watermark if before else None
    batch = trips(files)
    if watermark is not None:
        batch = batch[batch.pickup_at >= watermark - pandas.Timedelta(hours=1)]
    if until is not None:
        batch = batch[batch.pickup_at < pandas.Timestamp(until)]
    batch = batch.sort_values("source_file", kind="stable").drop_duplicates("trip_id", keep="last")
    inserted = updated = 0
    for row in batch.itertuples(index=False):
        values = tuple(None if pandas.isna(value) else value for value in row)
        if row.trip_id not in table:
            inserted += 1
        elif table[row.trip_id] != values:
            updated += 1
        table[row.trip_id] = values
    newest = batch.pickup_at.max() if len(batch) else None
    newest = max((moment for moment in (watermark, newest) if moment is not None), default=None)
    return Loaded(table, newest, inserted, updated)


# --- join-and-export


def detailed(data: Path) -> pandas.DataFrame:
    products = pandas.read_json(data / "products.json", lines=True, dtype={"price": str})
    products = products.set_index("product_id")
    rows = []
    for order in read_text(data / "orders.csv").itertuples():
        product = products.loc[int(order.product_id)] if int(order.product_id) in products.index else None
        price = Decimal(product.price).quantize(CENT) if product is not None else None
        discount = decimal(order.discount_percent)
        total = None
        if price is not None:
            full = price * int(order.quantity)
            total = (full * (100 - (discount or 0)) / 100).quantize(CENT, ROUND_HALF_UP)
        rows.append(
            {
                "order_id": int(order.order_id),
                "ordered_at": pandas.Timestamp(order.ordered_at),
                "product_id": int(order.product_id),
                "title": product.title if product is not None else None,
                "brand": product.brand if product is not None and not pandas.isna(product.brand) else None,
                "category": product.category if product is not None else None,
                "quantity": int(order.quantity),
                "price": price,
                "discount_percent": discount,
                "total": total,
            }
        )
    return pandas.DataFrame(sorted(rows, key=lambda row: row["order_id"]))
