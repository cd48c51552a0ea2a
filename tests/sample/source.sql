-- How the source's columns become the contract's. `source` is the file that fetch.source names. In a CSV
-- every column is text; each result is cast to the type that contract.yaml declares, and a value that does
-- not fit is an error: so 'Yes' and 'No' become booleans, and a new spelling stops the pipeline.
-- What is not named here is left out: gender, which predicts nothing in this data and should not.
SELECT
    customerID AS customer_id,
    CASE Churn WHEN 'Yes' THEN 1 WHEN 'No' THEN 0 END AS churn,
    tenure AS tenure_months,
    MonthlyCharges AS monthly_charges,
    nullif(trim(TotalCharges), '') AS total_charges, -- blank in the first month
    Contract AS contract,
    PaymentMethod AS payment_method,
    PaperlessBilling AS paperless_billing,
    SeniorCitizen AS senior_citizen,
    Partner AS partner,
    Dependents AS dependents,
    InternetService AS internet_service,
    PhoneService AS phone_service,
    -- Customers without phone or internet say so again here; phone_service and internet_service keep it.
    replace(MultipleLines, 'No phone service', 'No') AS multiple_lines,
    replace(OnlineSecurity, 'No internet service', 'No') AS online_security,
    replace(OnlineBackup, 'No internet service', 'No') AS online_backup,
    replace(DeviceProtection, 'No internet service', 'No') AS device_protection,
    replace(TechSupport, 'No internet service', 'No') AS has_tech_support,
    replace(StreamingTV, 'No internet service', 'No') AS streaming_tv,
    replace(StreamingMovies, 'No internet service', 'No') AS streaming_movies
FROM source
