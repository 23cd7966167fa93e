"""Results as plain data, files, data frames and tables in notebooks."""
