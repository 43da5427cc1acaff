"""Field work: orders and their life cycle, work types, policy, charges, crews."""
