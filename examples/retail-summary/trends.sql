-- Pieces per order line of each product: the history against the recent orders.
WITH history AS (
  SELECT StockCode, avg(Quantity) AS pieces, sum(Quantity * Price) AS revenue
  FROM e_commerce.year_09_10
  WHERE Quantity > $min_quantity AND Price > 0
  GROUP BY StockCode
),
latest AS (
  SELECT StockCode, max(Description) AS description, avg(Quantity) AS pieces, sum(Quantity * Price) AS revenue
  FROM recent
  WHERE Quantity > $min_quantity
  GROUP BY StockCode
)
SELECT StockCode AS stock_code,
       latest.description,
       history.pieces AS historical,
       latest.pieces AS recent,
       latest.pieces - history.pieces AS change,
       history.revenue AS historical_revenue,
       latest.revenue AS recent_revenue
FROM history JOIN latest USING (StockCode)
ORDER BY change DESC, stock_code
