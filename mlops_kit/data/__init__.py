"""The project's data: source, data contract, target, labels, splits and features."""
