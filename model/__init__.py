"""The golden model: parameters, formats and arithmetic. Never imports `hw`."""
