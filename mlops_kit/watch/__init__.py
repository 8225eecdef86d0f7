"""Watch: the scheduled loop that scores, monitors and retrains."""
