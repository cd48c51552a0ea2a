-- Maps the source's columns to those of contract.yaml. `source` is the file in fetch.source. Columns of a CSV are text.
-- Each result is cast to the contract's type, so 'Yes' and 'No' become booleans, and a new spelling is an error.
-- gender is left out: it predicts nothing in this data, and should not.
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
    -- phone_service and internet_service already record customers without phone or internet.
    replace(MultipleLines, 'No phone service', 'No') AS multiple_lines,
    replace(OnlineSecurity, 'No internet service', 'No') AS online_security,
    replace(OnlineBackup, 'No internet service', 'No') AS online_backup,
    replace(DeviceProtection, 'No internet service', 'No') AS device_protection,
    replace(TechSupport, 'No internet service', 'No') AS has_tech_support,
    replace(StreamingTV, 'No internet service', 'No') AS streaming_tv,
    replace(StreamingMovies, 'No internet service', 'No') AS streaming_movies
FROM source
