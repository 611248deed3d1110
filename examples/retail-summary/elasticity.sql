-- How the pieces per line answer to the price, over all months of both years, on a logarithmic scale.
WITH lines AS (
  SELECT StockCode, InvoiceDate, Quantity, Price FROM e_commerce.year_09_10 WHERE Quantity > $min_quantity AND Price > 0
  UNION ALL
  SELECT StockCode, InvoiceDate, Quantity, Price FROM recent WHERE Quantity > $min_quantity
),
monthly AS (
  SELECT StockCode, date_trunc('month', InvoiceDate) AS month, ln(avg(Price)) AS price, ln(avg(Quantity)) AS pieces
  FROM lines
  GROUP BY ALL
)
SELECT StockCode AS stock_code,
       count(*) AS months,
       corr(price, pieces) AS correlation,
       regr_slope(pieces, price) AS elasticity
FROM monthly
GROUP BY StockCode
-- Where the price never moved, there is nothing to tell.
HAVING max(price) > min(price)
ORDER BY elasticity, stock_code
