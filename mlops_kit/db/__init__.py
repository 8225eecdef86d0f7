"""The project's database: approvals, promotions, predictions, labels and monitoring records."""
