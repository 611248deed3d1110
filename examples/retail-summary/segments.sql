-- Customers by how often they ordered and how much they spent in both years.
WITH lines AS (
  SELECT CustomerID, Invoice, InvoiceDate, Quantity * Price AS amount
  FROM e_commerce.year_09_10
  WHERE Quantity > 0 AND Price > 0
  UNION ALL
  SELECT CustomerID, Invoice, InvoiceDate, Quantity * Price FROM recent
),
customers AS (
  SELECT CustomerID,
         count(DISTINCT Invoice) AS orders,
         sum(amount) AS spent,
         max(InvoiceDate) AS last_order
  FROM lines
  WHERE CustomerID IS NOT NULL
  GROUP BY CustomerID
)
SELECT CASE WHEN last_order < $dormant_before THEN 'Dormant'
            WHEN orders >= 30 AND spent >= 5000 THEN 'Champions'
            WHEN orders >= 12 THEN 'Loyal'
            ELSE 'Occasional' END AS segment,
       count(*) AS customers,
       sum(orders)::BIGINT AS orders,
       sum(spent) AS revenue
FROM customers
GROUP BY ALL
ORDER BY revenue DESC, segment
