"""Words that every room shares: ids, enumerations, frozen records, errors and the log-event catalogue."""
