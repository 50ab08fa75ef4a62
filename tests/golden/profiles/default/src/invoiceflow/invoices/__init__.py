"""InvoiceFlow, the worked example: once read, delete this folder and its lines in parts.py."""
